//! What `bipo train` says when it is done: the vector, what was reached, where the time went, and the command that comes next.

use std::io;
use std::path::Path;

use bipo::machine::bytes::peak_memory;
use bipo::report::card;
use bipo::steering::dose::l2_norm;
use bipo::steering::vector::SteeringVector;
use bipo::train::share::in_percent;
use bipo::train::{Heldout, Outcome, Timings};
use candle_core::Device;
use serde_json::{Value, json};

use super::TEST_PROMPT;
use crate::args::TrainArgs;
use crate::commands::next;
use crate::commands::vectors::VECTOR_FILE;
use crate::terminal;

/// What a run was that is finished already.
pub fn finished(args: &TrainArgs, vector: &SteeringVector) -> RunResult {
    let training = vector.metadata.training.as_ref().unwrap_or(&Value::Null);
    let path = args.output_dir.join(VECTOR_FILE);
    if args.run.model.json {
        return RunResult::Json(json!({
            "schema_version": 1, "method": "bipo", "vector": path.display().to_string(), "steps": training["steps"],
            "final_loss": training["final_loss"], "final_margin": training["final_margin"], "vector_norm": vector.norm(),
            "skipped_rows": training["dataset"]["skipped_rows"], "timings": {},
        }));
    }
    let outcome = card::outcome_line(training);
    let text = format!("{} is finished, nothing to resume: {outcome}{}", path.display(), try_it(&path));
    RunResult::Text(text)
}

/// What the vector's metadata says of the run's end.
pub fn results(outcome: &Outcome) -> Value {
    json!({
        "steps": outcome.steps,
        "final_loss": outcome.final_loss,
        "final_margin": outcome.final_margin,
        "best_epoch": outcome.best_epoch,
        "heldout": outcome.heldout,
    })
}

/// What a run says on standard output.
pub enum RunResult {
    Text(String),
    Json(Value),
}

impl RunResult {
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Text(text) => terminal::result(text),
            Self::Json(value) => terminal::json(value),
        }
    }
}

/// What was reached, and where the time went: in words, or for `--json`.
/// `settings` are those that the vector's metadata have.
pub fn report(
    args: &TrainArgs,
    path: &Path,
    outcome: &Outcome,
    settings: &Value,
    (load_s, tokenize_s): (f64, f64),
) -> RunResult {
    let skipped = settings["dataset"]["skipped_rows"].as_u64().unwrap_or(0);
    let norm = l2_norm(&outcome.v);
    let steps_s = outcome.timings.step_s();
    let mut timings = json!({"load_s": load_s, "tokenize_s": tokenize_s, "step_s": steps_s, "cache_bytes": outcome.cache_bytes,
        "peak_memory_bytes": peak_memory().map(|peak| peak.0)});
    if let (Value::Object(timings), Value::Object(more)) = (&mut timings, json!(outcome.timings)) {
        timings.extend(more);
    }
    if args.run.model.json {
        return RunResult::Json(json!({
            "schema_version": 1, "method": "bipo", "vector": path.display().to_string(), "steps": outcome.steps, "final_loss": outcome.final_loss,
            "final_margin": outcome.final_margin, "vector_norm": norm, "skipped_rows": skipped, "timings": timings,
        }));
    }
    let mut text = format!("{}\n", path.display());
    text +=
        &format!("steps {}  loss {:.4}  margin {:+.4}  |v| {norm:.3}", outcome.steps, outcome.final_loss, outcome.final_margin);
    if skipped > 0 {
        text += &format!("  skipped rows {skipped}");
    }
    if let (Some(epoch), Some(heldout)) = (outcome.best_epoch, outcome.heldout) {
        text += &format!("\nheld out, best epoch {epoch}: {}", margins(&heldout, card::heldout_pairs(settings)));
    }
    text += &try_it(path);
    RunResult::Text(text)
}

/// Margins on `pairs` held-out pairs in words.
pub fn margins(heldout: &Heldout, pairs: usize) -> String {
    format!(
        "margin {:+.4} at +1 ({} right), {:+.4} at -1 ({} right)",
        heldout.positive_margin,
        in_percent(heldout.positive_right, pairs),
        heldout.negative_margin,
        in_percent(heldout.negative_right, pairs)
    )
}

/// The command lines that come next, for the same model as the user has it.
pub fn try_it(path: &Path) -> String {
    let of_vector = |name: &str| next::with(&next::of_model(name), "--vector", &path.display().to_string());
    format!(
        "\ntry it: {} --magnitudes -2,0,2 --prompt \"{TEST_PROMPT}\"\nfind its strength: {} --save\n",
        of_vector("steer"),
        of_vector("calibrate")
    )
}

/// Says in words how long each part of a run took.
pub fn times(t: &Timings, (load_s, tokenize_s): (f64, f64), device: &Device) -> String {
    // A GPU works through both while the host waits for the second.
    let step = match device {
        Device::Cuda(_) => vec![("forward and backward", t.step_s())],
        _ => vec![("forward", t.forward_s), ("backward", t.backward_s)],
    };
    let before = [("load", load_s), ("tokenise", tokenize_s), ("cache", t.cache_s)];
    let parts = [&before[..], &step, &[("held out", t.eval_s), ("other", t.other_s)]].concat();
    let parts: Vec<String> = parts.iter().map(|(name, seconds)| format!("{name} {seconds:.2} s")).collect();
    let rate = |count: u64| count as f64 / t.step_s().max(f64::MIN_POSITIVE);
    let peak = peak_memory().map_or(String::new(), |peak| format!(", peak memory {peak}"));
    let (tokens, gflops) = (rate(t.tokens), rate(t.flops) / 1e9);
    format!("time: {}\nsteps: {tokens:.0} tokens/s, {gflops:.1} GFLOP/s of useful work{peak}", parts.join(", "))
}
