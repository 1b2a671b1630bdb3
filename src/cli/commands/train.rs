//! `bipo train`: checks what is cheap, loads, trains, and writes the vector, its metrics and its settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bipo::data::Dataset;
use bipo::hub::presets;
use bipo::machine::bytes::peak_memory;
use bipo::machine::files::{sha256, write_atomic};
use bipo::model::Model;
use bipo::report::card;
use bipo::report::curves;
use bipo::session::{Demand, Session};
use bipo::steering::layers::Layers;
use bipo::steering::positions::Spans;
use bipo::steering::vector::{Metadata, SteeringVector};
use bipo::text::chat::Message;
use bipo::text::tokens::{EncodedPair, fingerprint};
use bipo::train::checkpoint;
use bipo::train::optim::l2_norm;
use bipo::train::{EpochRecord, Heldout, Moment, Observer, Outcome, StepRecord, Timings, TrainConfig, TrainState};
use bipo::{Error, Result};
use candle_core::Device;
use serde_json::{Value, json};

use super::metrics::Metrics;
use super::output_dir::{OutputDir, Start};
use super::run::{self, Prepared};
use super::steer::{self, Sweep};
use crate::args::{MethodArg, RunArgs, TrainArgs};
use crate::terminal::{self, Log, Progress};

/// What a run leaves in its output directory.
pub const VECTOR_FILE: &str = "steering_vector.safetensors";

/// The picture of the run, beside the vector.
const CURVE: &str = "training.png";

/// The question of `--test-generation`.
const TEST_PROMPT: &str = "How was your day?";

/// Its magnitudes.
const TEST_MAGNITUDES: [f32; 3] = [-2.0, 0.0, 2.0];

/// The most tokens of each of its answers.
const TEST_TOKENS: usize = 48;

pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    if args.method == MethodArg::Caa {
        return super::caa::run(args);
    }
    if args.caa_positions.is_some() {
        return Err(Error::Argument("--caa-positions has no effect here: it needs --method caa".into()).into());
    }
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let mut dir = OutputDir::claim(args, log)?;
    let init = args.init.as_ref().map(|path| Init::read(path, args.layer)).transpose()?;
    let Prepared { opened, dataset, heldout, pairs, heldout_pairs, tokenize_s } = Prepared::new(&args.run, log)?;
    let mut config = config(args, &opened, init.as_ref(), log)?;
    let mut settings = settings(&args.run, &opened, &config, &dataset, heldout.as_ref());
    settings["method"] = json!("bipo");
    settings["init"] = init.as_ref().map_or(Value::Null, |init| json!({"name": init.name, "sha256": init.sha256}));
    let mut identity = identity(&settings, args, &opened, &pairs, heldout_pairs.as_deref());
    dir.make()?;
    let (state, is_new) = match dir.start(&mut identity, &mut settings)? {
        Start::New => (TrainState::new(&config, opened.config.hidden_size, pairs.len()), true),
        Start::Resumed(checkpoint) => (checkpoint.state, false),
        Start::Finished(vector) => return report_finished(args, &vector),
    };
    let sets = run::sets(&pairs, heldout_pairs.as_deref());
    let demand = Demand::training(&sets, &config.layers, config.batch_size);
    let demand = with_test_generation(demand, args, &opened)?;
    let (model, load_s) = run::load(&opened, &mut config, demand, log)?;
    let plan = bipo::train::plan(&model, &pairs, heldout_pairs.as_deref(), &config)?;

    let vector_of = |v: &[f32], results: Value| vector(&opened, &config, args.run.spans, v, &settings, results);
    let total = config.total_steps(pairs.len());
    log.info(format!(
        "{}: {} pairs, {total} steps of {} at layer {}",
        dataset.name,
        pairs.len(),
        config.batch_size,
        config.layers
    ));
    log.info(plan.size().to_string());
    if is_new {
        dir.clear()?;
    }
    // From here on the directory holds this run, unfinished.
    checkpoint::write(&args.output_dir, &identity, &state)?;
    write_atomic(&args.output_dir.join("config.json"), &pretty(&settings))?;
    let mut reporter = Reporter::new(args, log, &vector_of, &identity, state.steps)?;
    let outcome = bipo::train::train(&model, plan, &config, state, &mut reporter)?;
    reporter.finish();

    let path = args.output_dir.join(VECTOR_FILE);
    let vector = vector_of(&outcome.v, results(&outcome));
    vector.write(&path)?;
    let curve = draw_curve(&args.output_dir, &reporter.metrics.steps, &outcome.epochs, log);
    write_card(&args.output_dir, &vector, &outcome.epochs, curve, log)?;
    if outcome.stopped.is_none() {
        checkpoint::remove(&args.output_dir)?;
    }
    log.detail(times(&outcome.timings, (load_s, tokenize_s), model.device()));
    report(args, &path, &outcome, dataset.skipped.len(), (load_s, tokenize_s))?;
    if let Some(error) = outcome.stopped {
        let how = if matches!(error, Error::Interrupted) { "--resume" } else { "--force-resume and another setting" };
        let (steps, path) = (outcome.steps, path.display());
        log.info(format!("what was reached after {steps} steps is saved in {path}; continue with {how}"));
        return Err(error.into());
    }
    test_generation(args, &opened, &model, &vector)
}

/// The settings, and all else that the bytes of a result depend on: what a checkpoint is compared by.
fn identity(
    settings: &Value,
    args: &TrainArgs,
    opened: &Session,
    pairs: &[EncodedPair],
    heldout: Option<&[EncodedPair]>,
) -> Value {
    let mut identity = settings.clone();
    identity["weights"] = json!(format!("{:?}", args.run.model.weights).to_lowercase());
    identity["model_type"] = json!(opened.config.model_type);
    identity["hidden_size"] = json!(opened.config.hidden_size);
    identity["num_hidden_layers"] = json!(opened.config.num_hidden_layers);
    identity["pairs_as_tokens"] = json!(fingerprint(pairs));
    identity["eval_pairs_as_tokens"] = json!(heldout.map(fingerprint));
    identity["bipo_version"] = json!(env!("CARGO_PKG_VERSION"));
    identity
}

/// There is nothing to do, in one line.
fn report_finished(args: &TrainArgs, vector: &SteeringVector) -> anyhow::Result<()> {
    let training = vector.metadata.training.as_ref().unwrap_or(&Value::Null);
    let path = args.output_dir.join(VECTOR_FILE);
    if args.run.model.json {
        return Ok(terminal::json(&json!({
            "schema_version": 1, "method": "bipo", "vector": path, "steps": training["steps"],
            "final_loss": training["final_loss"], "final_margin": training["final_margin"], "vector_norm": vector.norm(),
            "skipped_rows": training["dataset"]["skipped_rows"], "timings": null,
        }))?);
    }
    let outcome = card::outcome_line(training);
    Ok(terminal::result(&format!("{} is finished, nothing to resume: {outcome}\n", path.display()))?)
}

/// Adds what `--test-generation` takes of memory.
pub fn with_test_generation(demand: Demand, args: &TrainArgs, opened: &Session) -> Result<Demand> {
    if !args.test_generation {
        return Ok(demand);
    }
    let prompt = opened.encoder.encode_prompt(&[Message::new("user", TEST_PROMPT)])?;
    Ok(demand.and_generation(TEST_MAGNITUDES.len(), prompt.ids.len(), TEST_TOKENS))
}

/// A short sweep, where it was asked for.
pub fn test_generation(args: &TrainArgs, opened: &Session, model: &Model, vector: &SteeringVector) -> anyhow::Result<()> {
    if !args.test_generation || args.run.model.json {
        return Ok(());
    }
    let options = steer::greedy(TEST_TOKENS, opened, vector.metadata.positions);
    let magnitudes = &TEST_MAGNITUDES;
    let sweep = Sweep { model, encoder: &opened.encoder, vectors: &vector.layers, magnitudes, options: &options };
    Ok(terminal::result(&sweep.generate(TEST_PROMPT, &mut |_, _| Ok(()))?.to_text())?)
}

/// A vector that a run continues from.
struct Init {
    path: PathBuf,
    name: String,
    sha256: String,
    vector: SteeringVector,
}

impl Init {
    /// `layer` is that of a file which does not say its own.
    fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let vector = match SteeringVector::read(path, None) {
            Err(Error::Malformed { .. }) if layer.is_some() => SteeringVector::read(path, layer)?,
            read => read?,
        };
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { path: path.to_owned(), name, sha256: sha256(path)?, vector })
    }

    fn layers(&self) -> Result<Layers> {
        self.vector.layers.keys().copied().collect::<Vec<_>>().try_into()
    }

    /// Its vectors one behind the other.
    fn start(&self, layers: &Layers, opened: &Session) -> Result<Vec<f32>> {
        let own = self.layers()?;
        if own != *layers {
            let path = self.path.display();
            return Err(Error::Argument(format!(
                "--init {path} steers layer {own}, but the run layer {layers}: they must match"
            )));
        }
        self.vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers)?;
        Ok(self.vector.layers.values().flatten().copied().collect())
    }
}

/// The layers that are named, else those of `--init`, else the model's preset.
fn layers(args: &TrainArgs, opened: &Session, init: Option<&Init>) -> Result<Layers> {
    match init {
        Some(init) if args.layers.is_none() && args.layer.is_none() => init.layers(),
        _ => named_layers(args, opened),
    }
}

/// The layers that are named, else the model's preset.
pub fn named_layers(args: &TrainArgs, opened: &Session) -> Result<Layers> {
    let num_blocks = opened.config.num_hidden_layers;
    let preset = || opened.preset.map_or_else(|| presets::default_layer(num_blocks), |preset| preset.layer);
    match &args.layers {
        Some(list) => list.of(num_blocks),
        None => Ok(args.layer.unwrap_or_else(preset).into()),
    }
}

fn config(args: &TrainArgs, opened: &Session, init: Option<&Init>, log: Log) -> Result<TrainConfig> {
    let layers = layers(args, opened, init)?;
    let start = init.map(|init| init.start(&layers, opened)).transpose()?;
    let here = (args.run.positions, args.run.spans);
    if let Some(init) = init.filter(|init| (init.vector.metadata.positions, init.vector.metadata.spans) != here) {
        log.warn(format!("{} was trained at other --positions or --spans than this run's", init.path.display()));
    }
    run::config(&args.run, opened, layers, start, args.output_dir.clone())
}

/// Every setting that the result depends on: names, not paths.
pub fn settings(args: &RunArgs, opened: &Session, config: &TrainConfig, dataset: &Dataset, heldout: Option<&Dataset>) -> Value {
    let mut settings = json!(config);
    settings["dataset"] = describe(dataset);
    settings["eval_dataset"] = heldout.map_or(Value::Null, describe);
    settings["limit"] = json!(args.limit);
    settings["max_length"] = json!(args.max_length);
    settings["model"] = json!(opened.files.name);
    settings["dtype"] = json!(opened.placement.dtype_name());
    settings["device"] = json!(opened.placement.device_kind());
    settings["system"] = json!(args.model.system);
    settings["template"] = json!(without_folders(&args.model.template));
    settings["response_prefix"] = json!(args.response_prefix);
    settings["spans"] = json!(args.spans);
    settings
}

/// A template that is a file is known by its name: the folders are this machine's.
pub fn without_folders(template: &str) -> String {
    Path::new(template).file_name().map_or_else(|| template.to_owned(), |name| name.to_string_lossy().into_owned())
}

pub fn describe(set: &Dataset) -> Value {
    json!({"name": set.name, "sha256": set.sha256, "pairs": set.pairs.len(), "skipped_rows": set.skipped.len()})
}

fn results(outcome: &Outcome) -> Value {
    json!({
        "steps": outcome.steps,
        "final_loss": outcome.final_loss,
        "final_margin": outcome.final_margin,
        "best_epoch": outcome.best_epoch,
        "heldout": outcome.heldout,
    })
}

pub fn vector(
    opened: &Session,
    config: &TrainConfig,
    spans: Option<Spans>,
    v: &[f32],
    settings: &Value,
    results: Value,
) -> SteeringVector {
    let mut training = settings.clone();
    if let (Value::Object(training), Value::Object(results)) = (&mut training, results) {
        training.extend(results);
    }
    SteeringVector {
        layers: config.layers.split(v),
        metadata: Metadata {
            base_model: Some(opened.files.name.clone()),
            model_type: Some(opened.config.model_type.clone()),
            num_hidden_layers: Some(opened.config.num_hidden_layers),
            positions: config.positions,
            spans,
            training: Some(training),
            ..Metadata::default()
        },
    }
}

/// Leaves the training curve beside the vector, as SVG too. Returns the name of the picture, none where it could not be
/// drawn: the vector is saved, so that is no reason to fail.
fn draw_curve(dir: &Path, steps: &[StepRecord], epochs: &[EpochRecord], log: Log) -> Option<&'static str> {
    remove_curve(dir);
    let chart = curves::training(steps, epochs);
    let path = dir.join(CURVE);
    let drawn = chart.write(&path.with_extension("svg")).and_then(|()| chart.write(&path));
    drawn.map_err(|error| log.warn(format!("no training curve: {error}"))).ok().map(|()| CURVE)
}

/// Takes the curve of an earlier run away: it would pass for this vector's.
pub fn remove_curve(dir: &Path) {
    for extension in ["svg", "png"] {
        // Most often there is none; what cannot be removed cannot be helped.
        let _ = std::fs::remove_file(dir.join(CURVE).with_extension(extension));
    }
}

/// Leaves the model card beside the vector.
pub fn write_card(dir: &Path, vector: &SteeringVector, epochs: &[EpochRecord], curve: Option<&str>, log: Log) -> Result<()> {
    if !card::write(dir, &card::model_card(vector, VECTOR_FILE, epochs, curve))? {
        let path = dir.join(card::CARD_FILE);
        log.warn(format!("{} is no model card of bipo and stays as it is", path.display()));
    }
    Ok(())
}

pub fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn report(
    args: &TrainArgs,
    path: &Path,
    outcome: &Outcome,
    skipped: usize,
    (load_s, tokenize_s): (f64, f64),
) -> anyhow::Result<()> {
    let norm = l2_norm(&outcome.v);
    let steps_s = outcome.timings.step_s();
    let mut timings = json!({"load_s": load_s, "tokenize_s": tokenize_s, "step_s": steps_s, "cache_bytes": outcome.cache_bytes,
        "peak_memory_bytes": peak_memory().map(|peak| peak.0)});
    if let (Value::Object(timings), Value::Object(more)) = (&mut timings, json!(outcome.timings)) {
        timings.extend(more);
    }
    if args.run.model.json {
        return Ok(terminal::json(&json!({
            "schema_version": 1, "method": "bipo", "vector": path.display().to_string(), "steps": outcome.steps, "final_loss": outcome.final_loss,
            "final_margin": outcome.final_margin, "vector_norm": norm, "skipped_rows": skipped, "timings": timings,
        }))?);
    }
    let mut text = format!("{}\n", path.display());
    text +=
        &format!("steps {}  loss {:.4}  margin {:+.4}  |v| {norm:.3}", outcome.steps, outcome.final_loss, outcome.final_margin);
    if skipped > 0 {
        text += &format!("  skipped rows {skipped}");
    }
    if let (Some(epoch), Some(heldout)) = (outcome.best_epoch, outcome.heldout) {
        text += &format!("\nheld out, best epoch {epoch}: {}", margins(&heldout));
    }
    text += &try_it(args, path);
    Ok(terminal::result(&text)?)
}

/// Held-out margins in words.
pub fn margins(heldout: &Heldout) -> String {
    format!(
        "margin {:+.4} at +1 ({:.0} % right), {:+.4} at -1 ({:.0} % right)",
        heldout.positive_margin,
        100.0 * heldout.positive_right,
        heldout.negative_margin,
        100.0 * heldout.negative_right
    )
}

/// The command line that comes next.
pub fn try_it(args: &TrainArgs, path: &Path) -> String {
    format!(
        "\ntry it: bipo steer --model {} --vector {} --magnitudes -2,0,2 --prompt \"{TEST_PROMPT}\"\n",
        args.run.model.model,
        path.display()
    )
}

/// Where the time went, in words.
fn times(t: &Timings, (load_s, tokenize_s): (f64, f64), device: &Device) -> String {
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

/// A flag that SIGINT and SIGTERM raise.
pub fn interrupt_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        // The second time at once: the first waits for the end of a step.
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    Ok(interrupted)
}

/// How long a run goes without saving its state, where `--checkpoint-every` does not say.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// Whether the state is to be saved now, `since` it was the last time.
fn is_checkpoint_due(every: Option<usize>, moment: Moment, steps: usize, since: Duration) -> bool {
    match (moment, every) {
        (Moment::Stopped, _) => true,
        (Moment::Step, Some(every)) => steps.is_multiple_of(every),
        (Moment::Epoch, every) => every.is_none(),
        (Moment::Step, None) => since >= CHECKPOINT_EVERY,
    }
}

/// Writes each step, epoch and checkpoint as it comes and shows progress.
struct Reporter<'a> {
    log: Log,
    output_dir: &'a Path,
    metrics: Metrics,
    vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector,
    settings: &'a Value,
    checkpoint_every: Option<usize>,
    saved: Instant,
    cache_progress: Option<Progress>,
    step_progress: Option<Progress>,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Reporter<'a> {
    /// Of a run that has done `steps` steps.
    fn new(
        args: &'a TrainArgs,
        log: Log,
        vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector,
        settings: &'a Value,
        steps: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            log,
            output_dir: &args.output_dir,
            metrics: Metrics::open(&args.output_dir, steps, log)?,
            vector_of,
            settings,
            checkpoint_every: args.checkpoint_every,
            saved: Instant::now(),
            cache_progress: None,
            step_progress: None,
            interrupted: interrupt_flag()?,
        })
    }

    fn finish(&self) {
        self.step_progress.iter().chain(&self.cache_progress).for_each(Progress::finish);
    }
}

impl Observer for Reporter<'_> {
    fn cached(&mut self, done: usize, total: usize) -> Result<()> {
        let log = self.log;
        let progress = self.cache_progress.get_or_insert_with(|| log.progress("caching", total));
        progress.set(done, String::new);
        if done == total {
            progress.finish();
        }
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn step(&mut self, record: &StepRecord, total_steps: usize) -> Result<()> {
        self.metrics.push(record)?;
        let log = self.log;
        let progress = self.step_progress.get_or_insert_with(|| log.progress("training", total_steps));
        progress.set(record.step, || {
            format!("loss {:.4}  margin {:+.4}  lr {:.1e}", record.loss, record.d * record.margin, record.lr)
        });
        Ok(())
    }

    fn epoch(&mut self, record: &EpochRecord, v: &[f32]) -> Result<()> {
        let path = self.output_dir.join(format!("steering_vector-epoch-{:02}.safetensors", record.epoch));
        (self.vector_of)(v, json!({"epoch": record.epoch, "steps": record.step, "heldout": record.heldout})).write(&path)?;
        if let Some(heldout) = record.heldout {
            let best = if record.best { ", the best so far" } else { "" };
            self.log.info(format!("epoch {}: held out {}{best}", record.epoch, margins(&heldout)));
        }
        Ok(())
    }

    fn checkpoint(&mut self, state: &TrainState, moment: Moment) -> Result<()> {
        if is_checkpoint_due(self.checkpoint_every, moment, state.steps, self.saved.elapsed()) {
            self.metrics.sync()?;
            checkpoint::write(self.output_dir, self.settings, state)?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
