//! `bipo export`: what another engine needs to steer by a vector, with the commands that run it; for vLLM without a plugin a model that
//! has the vector in its weights.

use std::path::Path;

use bipo::hub::options::FetchOptions;
use bipo::hub::presets;
use bipo::hub::resolve::resolve;
use bipo::report::export::{Export, ExportTarget};
use bipo::report::shell::quote;
use bipo::steering::merge::Merge;
use bipo::steering::vector::{Calibration, SteeringVector};
use bipo::{Error, Result};
use serde::Serialize;

use super::merge;
use super::next::{self, MODEL_PATH};
use super::outputs::is_same;
use super::vectors::{calibration_exceeded_note, last_run, read_vector};
use crate::args::{ExportArgs, MagnitudeArg, Use, vector_and_scale};
use crate::hints::with_hint;
use crate::terminal::{self, Log};

pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    let vector = read_vector(args.vector.as_slice(), args.layer, Use::default(), log)?;
    let magnitude = magnitude(args.magnitude, &vector)?;
    let named = args.model.as_deref().or(vector.metadata.base_model.as_deref());
    let model = for_others(args.model.as_deref(), vector.metadata.base_model.as_deref());
    let export = Export::new(args.to, &vector, magnitude, &model)?;
    if let Some(note) = calibration_exceeded_note(&vector, magnitude as f32) {
        log.warn(note);
    }
    let files = match args.to {
        ExportTarget::VllmMerged => {
            let merge = merged(args, named, &vector, magnitude, log)?;
            write_merged(merge, &export, &args.output_dir, log)?
        }
        _ => {
            check_input(args, &export)?;
            export.notes().iter().for_each(|note| log.warn(with_hint(note)));
            let written = export.write(&args.output_dir, args.overwrite)?;
            written.into_iter().map(|file| Written { file: file.name, what: file.what }).collect()
        }
    };
    let dir = args.output_dir.display().to_string();
    let layers = vector.layers.keys().copied().collect();
    let command = export.command();
    let report = ExportReport { schema_version: 1, output_dir: dir, target: args.to, model, layers, magnitude, command, files };
    match args.report.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    let command = format!("cd {} && {}", quote(&report.output_dir), report.command);
    let what = if report.model == MODEL_PATH && report.command.contains(MODEL_PATH) {
        let own = vector.metadata.base_model.as_ref().map_or(String::new(), |own| format!(" {own}"));
        format!("run it, with the path of the model{own} in place of {MODEL_PATH}, or export again with --model")
    } else {
        "run it".to_owned()
    };
    next::tell(args.report.json, &what, &command, log);
    Ok(())
}

/// The factor on the vector.
fn magnitude(asked: MagnitudeArg, vector: &SteeringVector) -> Result<f64> {
    let known = vector.metadata.calibration.as_ref();
    match (asked, known) {
        (MagnitudeArg::Of(magnitude), _) => Ok(magnitude),
        // As it is shown: an f32 has more digits as an f64.
        (MagnitudeArg::Calibrated, Some(Calibration { plus: Some(plus), .. })) => Ok(plus.to_string().parse().unwrap_or(f64::from(*plus))),
        (MagnitudeArg::Calibrated, _) => Err(Error::Argument(
            "--magnitude auto: the vector's file has no largest magnitude above 0: run `bipo calibrate --save` with it first, or give a \
             number such as 1.5"
                .into(),
        )),
    }
}

/// The model's name as other programs know it: the one that the user names, else the vector's; `MODEL` where that is the name of a folder
/// or a file elsewhere.
fn for_others(given: Option<&str>, own: Option<&str>) -> String {
    let name = given.or_else(|| own.and_then(next::model_argument)).unwrap_or(MODEL_PATH);
    match presets::find(name) {
        Some(preset) => preset.repo.to_owned(),
        // The commands are run in another folder.
        None if Path::new(name).exists() => {
            std::path::absolute(name).map_or(name.to_owned(), |path| path.display().to_string())
        }
        None => name.to_owned(),
    }
}

/// Refuses to replace the vector by what is made of it.
fn check_input(args: &ExportArgs, export: &Export) -> Result<()> {
    let input = match &args.vector {
        Some(text) => vector_and_scale(text)?.0,
        None => last_run(),
    };
    let is_input = |name: &str| is_same(&args.output_dir.join(name), &input);
    match export.files()?.iter().find(|file| is_input(file.name)) {
        Some(_) => Err(Error::Argument(format!("{} would be replaced by its export: choose another folder", input.display()))),
        None => Ok(()),
    }
}

/// Builds the vector into the model.
fn merged(args: &ExportArgs, named: Option<&str>, vector: &SteeringVector, magnitude: f64, log: Log) -> Result<Merge> {
    let Some(named) = named else {
        let problem = "the vector's file does not name the model to build it into: give --model";
        return Err(Error::Argument(problem.into()));
    };
    let files =
        resolve(named, &FetchOptions { offline: args.offline, progress: log.downloads() }).map_err(|error| match error {
            Error::Argument(problem) if args.model.is_none() => {
                Error::Argument(format!("the vector was trained on {named}: {problem}; --model says where that is"))
            }
            error => error,
        })?;
    let merge = Merge::new(&files.checkpoint, vector, magnitude)?;
    if let Some(note) = vector.origin_note(&files.name, &merge.model_type) {
        log.warn(with_hint(note));
    }
    Ok(merge)
}

fn write_merged(mut merge: Merge, export: &Export, dir: &Path, log: Log) -> anyhow::Result<Vec<Written>> {
    let mut written =
        vec![Written { file: "config.json", what: "with the weights beside it: the model with the vector in a bias" }];
    for file in export.files()? {
        written.push(Written { file: file.name, what: file.what });
        merge = merge.with_file(file.name, file.bytes);
    }
    merge::write(merge, dir, log)?;
    Ok(written)
}

#[derive(Serialize)]
struct ExportReport {
    schema_version: u32,
    output_dir: String,
    target: ExportTarget,
    model: String,
    layers: Vec<usize>,
    magnitude: f64,
    command: String,
    files: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    file: &'static str,
    what: &'static str,
}

impl ExportReport {
    fn to_text(&self) -> String {
        let layers: Vec<String> = self.layers.iter().map(usize::to_string).collect();
        let plural = if layers.len() == 1 { "layer" } else { "layers" };
        let mut text =
            format!("{}\n{plural} {}, magnitude {}, {}\n", self.output_dir, layers.join(", "), self.magnitude, self.model);
        let width = self.files.iter().map(|written| written.file.len()).max().unwrap_or(0);
        for Written { file, what } in &self.files {
            text += &format!("{file:width$}  {what}\n");
        }
        text
    }
}
