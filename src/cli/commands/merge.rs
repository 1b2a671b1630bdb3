//! `bipo merge`: writes a model whose MLP bias carries the vector. Checks everything before the first byte is written.

use bipo::hub::resolve::{ResolveOptions, resolve};
use bipo::steering::merge::Merge;
use bipo::steering::vector::{CombineOptions, combine};
use serde_json::json;

use super::interrupt::Interrupt;
use super::vectors::read_inputs;
use crate::args::MergeArgs;
use crate::terminal::{self, Log};

pub fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    let vector = combine(read_inputs(&args.vector, args.layer)?, &CombineOptions::default())?;
    let files = resolve(&args.model, &ResolveOptions { offline: args.offline, quiet: args.report.quiet })?;
    let merge = Merge::new(&files.checkpoint, &vector, args.magnitude)?;
    log.detail(format!("{}: a bias at layers {:?} of {}", files.name, merge.layers, args.output_dir.display()));
    let interrupt = Interrupt::listen(log)?;
    let (layers, bytes) = (merge.layers.clone(), merge.bytes());
    let mut progress = log.progress("writing MB", (bytes / 1_000_000) as usize);
    merge.write(&args.output_dir, |done, _| {
        progress.set((done / 1_000_000) as usize, String::new);
        interrupt.check()
    })?;
    progress.finish();
    if args.report.json {
        return Ok(terminal::json(&json!({
            "schema_version": 1, "model": args.output_dir.display().to_string(), "base_model": files.name, "layers": layers,
            "magnitude": args.magnitude, "bytes": bytes,
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
    Ok(terminal::result(&text)?)
}
