//! `bipo train`: checks what is cheap, loads, trains, and writes the vector, its metrics and its settings.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bipo::activations::CacheOptions;
use bipo::bytes::peak_memory;
use bipo::card;
use bipo::data::{self, Dataset, LoadOptions, Source};
use bipo::files::{sha256, write_atomic};
use bipo::layers::Layers;
use bipo::model::presets;
use bipo::optim::l2_norm;
use bipo::positions::Spans;
use bipo::tokens::EncodedPair;
use bipo::train::{EpochRecord, Observer, Outcome, StepRecord, Timings, TrainConfig};
use bipo::vector::{Metadata, SteeringVector};
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::session::Opened;
use super::steer::{self, Sweep};
use crate::args::{TrainArgs, response_prefix};
use crate::output::{self, Log, Progress};

/// What a run leaves in its output directory.
pub const VECTOR_FILE: &str = "steering_vector.safetensors";

/// The question of `--test-generation`.
const TEST_PROMPT: &str = "How was your day?";

pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    args.positions.check(args.spans)?;
    let init = args.init.as_ref().map(|path| Init::read(path, args.layer)).transpose()?;
    let options = LoadOptions { limit: args.limit, strict: args.strict, pairs: args.pairs.into(), offline: args.model.offline };
    let dataset = load_data(&args.dataset, &options, log)?;
    let all = LoadOptions { limit: None, ..options };
    let heldout = args.eval_dataset.as_ref().map(|name| load_data(name, &all, log)).transpose()?;
    let mut opened = Opened::new(&args.model, response_prefix(&args.response_prefix), log)?;
    opened.encoder.tell_spans(args.spans);
    let config = config(args, &opened, init.as_ref(), log)?;
    let started = Instant::now();
    let pairs = encode(&opened, &dataset, args.max_length, log)?;
    let heldout_pairs = heldout.as_ref().map(|set| encode(&opened, set, args.max_length, log)).transpose()?;
    let tokenize_s = started.elapsed().as_secs_f64();
    prepare_directory(&args.output_dir)?;
    let (model, load_s) = opened.load(&args.model, log)?;
    let plan = bipo::train::plan(&model, &pairs, heldout_pairs.as_deref(), &config)?;

    let mut settings = settings(args, &opened, &config, &dataset, heldout.as_ref());
    settings["init"] = init.as_ref().map_or(Value::Null, |init| json!({"name": init.name, "sha256": init.sha256}));
    let vector_of = |v: &[f32], results: Value| vector(&opened, &config, args.spans, v, &settings, results);
    let total = config.total_steps(pairs.len());
    log.info(format!(
        "{}: {} pairs, {total} steps of {} at layer {}",
        dataset.name,
        pairs.len(),
        config.batch_size,
        config.layers
    ));
    log.info(plan.size().to_string());
    write_atomic(&args.output_dir.join("config.json"), &pretty(&settings))?;
    let mut reporter = Reporter::new(args, log, &vector_of)?;
    let outcome = bipo::train::train(&model, plan, &config, &mut reporter)?;
    reporter.finish();

    let path = args.output_dir.join(VECTOR_FILE);
    let vector = vector_of(&outcome.v, results(&outcome));
    vector.write(&path)?;
    write_card(&args.output_dir, &vector, &reporter.epochs, log)?;
    report(args, log, &path, &outcome, dataset.skipped.len(), (load_s, tokenize_s))?;
    if let Some(error) = outcome.stopped {
        log.info(format!("what was reached after {} steps is saved in {}", outcome.steps, path.display()));
        return Err(error.into());
    }
    if args.test_generation && !args.model.json {
        let vectors = config.layers.split(&outcome.v);
        let options = steer::greedy(48, &opened, config.positions);
        let magnitudes = &[-2.0, 0.0, 2.0];
        let sweep = Sweep { model: &model, encoder: &opened.encoder, vectors: &vectors, magnitudes, options: &options };
        output::result(&sweep.generate(TEST_PROMPT, &mut |_, _| Ok(()))?.to_text())?;
    }
    Ok(())
}

/// Reads a data set, and says which of its rows are skipped.
pub fn load_data(name: &str, options: &LoadOptions, log: Log) -> Result<Dataset> {
    let dataset = data::load(&Source::parse(name)?, options)?;
    for skipped in &dataset.skipped {
        log.warn(format!("{}: row {} skipped: {}", dataset.name, skipped.row, skipped.reason));
    }
    Ok(dataset)
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
    fn start(&self, layers: &Layers, opened: &Opened) -> Result<Vec<f32>> {
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
fn layers(args: &TrainArgs, opened: &Opened, init: Option<&Init>) -> Result<Layers> {
    let num_blocks = opened.config.num_hidden_layers;
    let preset = || opened.preset.map_or_else(|| presets::default_layer(num_blocks), |preset| preset.layer);
    let layers = match (&args.layers, args.layer, init) {
        (Some(list), _, _) => list.of(num_blocks)?,
        (None, Some(layer), _) => layer.into(),
        (None, None, Some(init)) => init.layers()?,
        (None, None, None) => preset().into(),
    };
    layers.check(num_blocks)?;
    Ok(layers)
}

fn config(args: &TrainArgs, opened: &Opened, init: Option<&Init>, log: Log) -> Result<TrainConfig> {
    let layers = layers(args, opened, init)?;
    let start = init.map(|init| init.start(&layers, opened)).transpose()?;
    if let Some(init) =
        init.filter(|init| (init.vector.metadata.positions, init.vector.metadata.spans) != (args.positions, args.spans))
    {
        log.warn(format!("{} was trained at other --positions or --spans than this run's", init.path.display()));
    }
    let default_lr = || opened.preset.map_or_else(|| presets::default_lr(opened.config.hidden_size), |preset| preset.lr);
    Ok(TrainConfig {
        layers,
        epochs: args.epochs,
        max_steps: args.max_steps,
        schedule_epochs: args.schedule_epochs,
        batch_size: args.batch_size,
        lr: args.lr.unwrap_or_else(default_lr),
        beta: args.beta,
        direction: args.direction.into(),
        max_grad_norm: Some(args.max_grad_norm),
        positions: args.positions,
        weight_decay: args.weight_decay,
        warmup_steps: args.warmup_steps,
        scheduler: args.scheduler.into(),
        seed: args.seed,
        init: start,
        cache: cache_options(args),
    })
}

fn cache_options(args: &TrainArgs) -> CacheOptions {
    let memory = args.cache_memory.unwrap_or_else(|| CacheOptions::default().memory);
    CacheOptions { memory, spill_dir: args.output_dir.clone() }
}

fn encode(opened: &Opened, dataset: &Dataset, max_length: usize, log: Log) -> Result<Vec<EncodedPair>> {
    let context = opened.config.max_position_embeddings;
    let mut truncated = 0;
    let pairs: Vec<EncodedPair> = dataset
        .pairs
        .iter()
        .map(|pair| {
            let (pair, cut) = opened.encoder.encode_pair(pair, max_length.min(context))?;
            truncated += usize::from(cut);
            Ok(pair)
        })
        .collect::<Result<_>>()?;
    if truncated > 0 {
        log.warn(format!("{}: {truncated} pairs truncated to {} tokens", dataset.name, max_length.min(context)));
    }
    Ok(pairs)
}

/// Makes the directory and tries it, before anything costly.
fn prepare_directory(dir: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir));
    made.map_err(|error| Error::Argument(format!("cannot write to --output-dir {}: {error}", dir.display())))?;
    Ok(())
}

/// Every setting that the result depends on: names, not paths.
fn settings(args: &TrainArgs, opened: &Opened, config: &TrainConfig, dataset: &Dataset, heldout: Option<&Dataset>) -> Value {
    let mut settings = json!(config);
    settings["dataset"] = describe(dataset);
    settings["eval_dataset"] = heldout.map_or(Value::Null, describe);
    settings["limit"] = json!(args.limit);
    settings["max_length"] = json!(args.max_length);
    settings["model"] = json!(opened.files.name);
    settings["dtype"] = json!(format!("{:?}", args.model.dtype).to_lowercase());
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

fn vector(
    opened: &Opened,
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

/// Leaves the model card beside the vector.
fn write_card(dir: &Path, vector: &SteeringVector, epochs: &[EpochRecord], log: Log) -> Result<()> {
    if !card::write(dir, &card::model_card(vector, VECTOR_FILE, epochs))? {
        let path = dir.join(card::CARD_FILE);
        log.warn(format!("{} is no model card of bipo and stays as it is", path.display()));
    }
    Ok(())
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn report(
    args: &TrainArgs,
    log: Log,
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
    log.detail(times(&outcome.timings, load_s, tokenize_s));
    if args.model.json {
        return Ok(output::json(&json!({
            "schema_version": 1, "vector": path, "steps": outcome.steps, "final_loss": outcome.final_loss,
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
        text += &format!(
            "\nheld out, best epoch {epoch}: margin {:+.4} at +1 ({:.0} % right), {:+.4} at -1 ({:.0} % right)",
            heldout.positive_margin,
            100.0 * heldout.positive_right,
            heldout.negative_margin,
            100.0 * heldout.negative_right
        );
    }
    text += &format!(
        "\ntry it: bipo steer --model {} --vector {} --magnitudes -2,0,2 --prompt \"{TEST_PROMPT}\"\n",
        args.model.model,
        path.display()
    );
    Ok(output::result(&text)?)
}

/// Where the time went, in words.
fn times(t: &Timings, load_s: f64, tokenize_s: f64) -> String {
    let parts = [
        ("load", load_s),
        ("tokenise", tokenize_s),
        ("cache", t.cache_s),
        ("forward", t.forward_s),
        ("backward", t.backward_s),
        ("held out", t.eval_s),
        ("other", t.other_s),
    ];
    let parts: Vec<String> = parts.iter().map(|(name, seconds)| format!("{name} {seconds:.2} s")).collect();
    let rate = |count: u64| count as f64 / t.step_s().max(f64::MIN_POSITIVE);
    let peak = peak_memory().map_or(String::new(), |peak| format!(", peak memory {peak}"));
    let (tokens, gflops) = (rate(t.tokens), rate(t.flops) / 1e9);
    format!("time: {}\nsteps: {tokens:.0} tokens/s, {gflops:.1} GFLOP/s of useful work{peak}", parts.join(", "))
}

/// Writes each step and epoch as it comes and shows progress.
struct Reporter<'a> {
    log: Log,
    output_dir: PathBuf,
    metrics: File,
    vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector,
    epochs: Vec<EpochRecord>,
    cache_progress: Option<Progress>,
    step_progress: Option<Progress>,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Reporter<'a> {
    fn new(args: &TrainArgs, log: Log, vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector) -> anyhow::Result<Self> {
        let path = args.output_dir.join("metrics.jsonl");
        let metrics = File::create(&path).map_err(|source| Error::write(&path, source))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || {
            // The second time at once: the first waits for the end of a step.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })?;
        let output_dir = args.output_dir.clone();
        Ok(Self {
            log,
            output_dir,
            metrics,
            vector_of,
            epochs: Vec::new(),
            cache_progress: None,
            step_progress: None,
            interrupted,
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
        let line = format!("{}\n", json!(record));
        let written = self.metrics.write_all(line.as_bytes());
        written.map_err(|source| Error::write(self.output_dir.join("metrics.jsonl"), source))?;
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
        self.epochs.push(record.clone());
        if let Some(heldout) = record.heldout {
            self.log.info(format!(
                "epoch {}: held out {:+.4} at +1 ({:.0} % right), {:+.4} at -1 ({:.0} % right){}",
                record.epoch,
                heldout.positive_margin,
                100.0 * heldout.positive_right,
                heldout.negative_margin,
                100.0 * heldout.negative_right,
                if record.best { ", the best so far" } else { "" }
            ));
        }
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}
