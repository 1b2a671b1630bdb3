//! `bipo merge`: writes a model whose MLP bias carries the vector. Checks everything before the first byte is written.

use std::path::Path;

use bipo::hub::options::FetchOptions;
use bipo::hub::resolve::resolve;
use bipo::report::shell::quote;
use bipo::steering::merge::Merge;
use bipo::steering::vector::{CombineOptions, combine};
use serde_json::json;

use super::interrupt::Interrupt;
use super::vectors::{calibration_exceeded_note, read_inputs};
use crate::args::MergeArgs;
use crate::hints::with_hint;
use crate::terminal::{self, Log};

/// What a program that runs the merged model is asked.
const CHECK_PROMPT: &str = "How was your day?";

pub fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    let vector = combine(read_inputs(&args.vector, args.layer, log)?, &CombineOptions::default())?;
    let files = resolve(&args.model, &FetchOptions { offline: args.offline, progress: log.downloads() })?;
    let merge = Merge::new(&files.checkpoint, &vector, args.magnitude)?;
    if let Some(note) = vector.origin_note(&files.name, &merge.model_type) {
        log.warn(with_hint(note));
    }
    calibration_exceeded_note(&vector, args.magnitude as f32).iter().for_each(|note| log.warn(note));
    log.detail(format!("{}: a bias at layers {:?} of {}", files.name, merge.layers, args.output_dir.display()));
    let (layers, bytes) = (merge.layers.clone(), merge.bytes());
    write(merge, &args.output_dir, log)?;
    if args.report.json {
        return Ok(terminal::json(&json!({
            "schema_version": 1, "model": args.output_dir.display().to_string(), "base_model": files.name, "layers": layers,
            "magnitude": args.magnitude, "bytes": bytes, "check": check(args),
        }))?);
    }
    let biases: Vec<String> = layers.iter().map(|layer| format!("model.layers.{layer}.mlp.down_proj.bias")).collect();
    let text = format!(
        "{}\n{:.1} MB of weights; {} times the vector is in {}\n",
        args.output_dir.display(),
        bytes as f64 / 1e6,
        args.magnitude,
        biases.join(", ")
    );
    Ok(terminal::result(&(text + &advice(args)))?)
}

/// Writes the merged model, shows how far it is, and leaves nothing behind if the user interrupts it.
pub fn write(merge: Merge, dir: &Path, log: Log) -> anyhow::Result<()> {
    if merge.is_as_llama {
        log.info(format!(
            "note: model type {} has no such bias; the model is written as LlamaForCausalLM, which computes the same",
            merge.model_type
        ));
    }
    let interrupt = Interrupt::listen(log)?;
    let mut progress = log.progress("writing MB", (merge.bytes() / 1_000_000) as usize);
    merge.write(dir, |done, _| {
        progress.set((done / 1_000_000) as usize, String::new);
        interrupt.check()
    })?;
    progress.finish();
    Ok(())
}

/// How the user sees whether a program applies the vector.
fn advice(args: &MergeArgs) -> String {
    match check(args) {
        None => String::new(),
        Some(command) => format!(
            "not every program reads such a bias (see bipo merge --help): let yours answer this prompt greedily, and compare\n  \
             {command}\nat 0 is the answer of this model, at {} that of a program which drops the bias\n",
            -args.magnitude
        ),
    }
}

/// Answers a prompt with the merged model as it is, and with the vector taken away again; none where it adds nothing.
fn check(args: &MergeArgs) -> Option<String> {
    let mut words = vec!["bipo steer --model".to_owned(), quote(&args.output_dir.display().to_string())];
    words.extend(args.vector.iter().map(|vector| format!("--vector {}", quote(vector))));
    words.extend(args.layer.map(|layer| format!("--layer {layer}")));
    words.push(format!("--magnitudes={},0 --max-new-tokens 16 --prompt {}", -args.magnitude, quote(CHECK_PROMPT)));
    (args.magnitude != 0.0).then(|| words.join(" "))
}
