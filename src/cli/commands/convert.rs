//! `bipo convert`: reads vectors of any format, makes one of them, and writes it in the format that the output's name says.

use std::path::{Path, PathBuf};

use bipo::machine::files::{check_writable, write_atomic};
use bipo::report::shell::quote;
use bipo::steering::Operation;
use bipo::steering::dose::l2_norm;
use bipo::steering::vector::{CombineOptions, Encoded, Format, SteeringVector, Summand, VectorFile, combine};
use bipo::{Error, Result};
use serde::Serialize;

use super::next;
use super::vectors::warn_of_unknown_keys;
use crate::args::{ConvertArgs, vector_and_scale};
use crate::hints::with_hint;
use crate::terminal::{self, Log};

pub fn run(args: &ConvertArgs) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    let (output, inputs) = output_and_inputs(&args.files)?;
    let format = Format::of(output)?;
    let named: Vec<(PathBuf, f32)> = inputs.iter().map(|text| vector_and_scale(text)).collect::<Result<_>>()?;
    check_writable(output)?;
    check_output(output, args.force)?;
    let (mut inputs, described) = read_inputs(args, &named, log)?;
    let orthogonal_to =
        args.orthogonal_to.iter().map(|path| Summand::new(VectorFile::read(path)?, 1.0, |file| file.or_at(args.layer)));
    let options = CombineOptions { normalize: args.normalize, orthogonal_to: orthogonal_to.collect::<Result<_>>()? };
    if let Some(operation) = args.operation {
        inputs.iter_mut().try_for_each(|input| use_as(input, operation))?;
    }
    let vector = combine(inputs, &options)?;
    let encoded = vector.encode(format, output)?;
    warn(&vector, format, &encoded, output, log);
    write_atomic(output, &encoded.bytes)?;
    let report = ConversionReport {
        schema_version: 1,
        output: output.display().to_string(),
        format,
        hidden_size: vector.hidden_size(),
        layers: vector.layers.iter().map(|(layer, v)| ConvertedLayer { layer: *layer, norm: l2_norm(v) }).collect(),
        inputs: described,
        lost: encoded.lost,
    };
    if args.report.json {
        terminal::json(&report)?
    } else {
        terminal::result(&report.to_text())?
    }
    let command = match format {
        Format::Gguf => format!("llama-cli -m MODEL.gguf --control-vector-scaled {}:1.5", quote(&report.output)),
        _ => next::of_file("inspect", &report.output),
    };
    next::tell(args.report.json, if format == Format::Gguf { "in llama.cpp" } else { "look at it" }, &command, log);
    Ok(())
}

fn output_and_inputs(files: &[String]) -> Result<(&Path, &[String])> {
    match files.split_last() {
        Some((output, inputs)) if !inputs.is_empty() => Ok((Path::new(output), inputs)),
        _ => Err(Error::Argument("expected the files to read and then the file to write: bipo convert IN OUT".into())),
    }
}

/// Has a vector used in another way than its file says.
fn use_as(input: &mut Summand, operation: Operation) -> Result<()> {
    let known = &mut input.vector.metadata;
    if known.condition.is_some() {
        let problem = format!("--operation {operation}: {} is a condition, which steers nothing", input.file);
        return Err(Error::Argument(problem));
    }
    if known.operation != operation {
        known.operation = operation;
        // How strong the other operation may be was not measured.
        known.calibration = None;
    }
    Ok(())
}

/// Refuses to replace a file that the user may have forgotten to follow with an output.
fn check_output(path: &Path, force: bool) -> Result<()> {
    if !force && path.symlink_metadata().is_ok() {
        let name = path.display();
        let problem =
            format!("{name} exists, and the last argument is the output: name a new file, or replace it with --force");
        return Err(Error::Argument(problem));
    }
    Ok(())
}

fn read_inputs(args: &ConvertArgs, named: &[(PathBuf, f32)], log: Log) -> Result<(Vec<Summand>, Vec<InputReport>)> {
    let files = named.iter().map(|(path, _)| VectorFile::read(path)).collect::<Result<Vec<_>>>()?;
    let all_say = files.iter().all(|file| !file.layers().is_empty());
    if let (Some(layer), true, 2..) = (args.layer, all_say, files.len()) {
        let problem =
            format!("--layer {layer}: every input says its layer already; convert the one to be moved by itself first");
        return Err(Error::Argument(problem));
    }
    let place = |file: VectorFile| if all_say { file.at(args.layer) } else { file.or_at(args.layer) };
    let (mut inputs, mut reports) = (Vec::new(), Vec::new());
    for (file, (_, weight)) in files.into_iter().zip(named) {
        let (path, format, said) = (file.path.clone(), file.format, file.layers());
        let input = Summand::new(file, *weight, place)?;
        warn_of_unknown_keys(&input.vector, path.display(), log);
        let layers: Vec<usize> = input.vector.layers.keys().copied().collect();
        let norm = input.vector.norm();
        let name = path.display();
        if let ([from], [to]) = (said.as_slice(), layers.as_slice())
            && from != to
        {
            log.info(format!("note: {name} steers layer {from}; it is moved to layer {to}"));
        }
        log.detail(format!("{name}: {}, layers {layers:?}, |v| {norm:.4}, weight {weight}", format.name()));
        reports.push(InputReport { file: path.display().to_string(), format, weight: *weight, layers, norm });
        inputs.push(input);
    }
    Ok((inputs, reports))
}

/// Says what the reader of the file will not know.
fn warn(vector: &SteeringVector, format: Format, encoded: &Encoded, output: &Path, log: Log) {
    let output = output.display();
    if !encoded.lost.is_empty() {
        let lost = encoded.lost.join(", ");
        let layer = match vector.layers.keys().next() {
            Some(layer) if encoded.lost.contains(&"layer") => format!(", or read it with --layer {layer}"),
            _ => String::new(),
        };
        log.warn(format!("{output}: {} cannot hold {lost}: write .safetensors or .json to keep all{layer}", format.name()));
    }
    for caveat in format.caveats(vector) {
        log.warn(with_hint(format!("{output}: {caveat}")));
    }
    if vector.norm() == 0.0 {
        log.warn(format!("{output}: the vector is zero and steers nothing: choose other inputs or weights"));
    }
}

#[derive(Serialize)]
struct ConversionReport {
    schema_version: u32,
    output: String,
    format: Format,
    hidden_size: usize,
    layers: Vec<ConvertedLayer>,
    inputs: Vec<InputReport>,
    lost: Vec<&'static str>,
}

#[derive(Serialize)]
struct ConvertedLayer {
    layer: usize,
    norm: f64,
}

#[derive(Serialize)]
struct InputReport {
    file: String,
    format: Format,
    weight: f32,
    layers: Vec<usize>,
    norm: f64,
}

impl ConversionReport {
    fn to_text(&self) -> String {
        let mut text = format!("{}\n{}  hidden size {}\n", self.output, self.format.name(), self.hidden_size);
        for ConvertedLayer { layer, norm } in &self.layers {
            text += &format!("layer {layer}  |v| {norm:.4}\n");
        }
        text
    }
}
