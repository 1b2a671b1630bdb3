//! `bipo bench`: loads or makes a model and measures training steps, sweeps, their share of the best matrix product, and memory.

use std::time::{Duration, Instant};

use bipo::check::bench::{self, BenchOptions, PeakMemory, Steps, Sweep};
use bipo::machine::bytes::Bytes;
use bipo::machine::device;
use bipo::model::Model;
use bipo::model::config::Config;
use bipo::model::random::MadeOn;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::session::cache_place::CachePlace;
use bipo::session::fit::Run;
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use candle_core::Device;
use serde::Serialize;

use super::memory::{Need, OnDevice};
use super::session::Opened;
use crate::args::BenchArgs;
use crate::terminal::{self, Log};

/// Text and JSON are views of this.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    bipo_version: &'static str,
    device: String,
    model: String,
    dtype: String,
    weights_bytes: u64,
    load_s: f64,
    matmul_flops_per_s: f64,
    training: Training,
    sweeps: Vec<Sweep>,
    /// Of the device where it has its own memory, else of this process.
    peak_memory_bytes: Option<u64>,
    /// What is counted before loading, of a device with its own memory.
    estimated_memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Training {
    batch_size: usize,
    prompt_tokens: usize,
    response_tokens: usize,
    #[serde(flatten)]
    steps: Steps,
    /// Useful operations over those of the best matrix product.
    share_of_matmul: f64,
    /// When training was over; sweeps come behind it.
    peak_memory_bytes: Option<u64>,
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let options = BenchOptions {
        batch_size: args.batch_size,
        prompt_tokens: args.prompt_tokens,
        response_tokens: args.response_tokens,
        new_tokens: args.new_tokens,
        sweeps: args.sweeps.clone(),
        time: Duration::from_secs_f64(args.seconds),
    };
    let device = device::open(&args.model.device)?;
    let peak = PeakMemory::watch(&device);
    let (name, model, load_s) = load(args, device, &options, log)?;
    log.info("matrix products");
    let matmul_flops_per_s = bench::matmul_flops_per_s(&model, options.time)?;
    log.info("training steps");
    let steps = bench::steps(&model, &options)?;
    let training_peak = peak.bytes();
    let sweep = |magnitudes: &usize| {
        log.info(format!("sweep of {magnitudes}"));
        bench::sweep(&model, *magnitudes, &options)
    };
    let sweeps = options.sweeps.iter().map(sweep).collect::<Result<Vec<_>>>()?;
    let (in_memory, mapped) = model.weight_bytes();
    let report = Report {
        schema_version: 1,
        bipo_version: env!("CARGO_PKG_VERSION"),
        device: device::describe(model.device()),
        model: name,
        dtype: format!("{:?}", model.dtype()).to_lowercase(),
        weights_bytes: (in_memory + mapped) as u64,
        load_s,
        matmul_flops_per_s,
        training: Training {
            batch_size: options.batch_size,
            prompt_tokens: options.prompt_tokens,
            response_tokens: options.response_tokens,
            share_of_matmul: steps.flops_per_s / matmul_flops_per_s,
            steps,
            peak_memory_bytes: training_peak.map(|peak| peak.0),
        },
        sweeps,
        peak_memory_bytes: peak.bytes().map(|peak| peak.0),
        estimated_memory_bytes: on_device(&model.config, &options).need(model.dtype()).total().0,
    };
    if args.model.json {
        return Ok(terminal::json(&report)?);
    }
    Ok(terminal::result(&report.to_text())?)
}

/// What is measured here takes.
fn on_device(config: &Config, options: &BenchOptions) -> OnDevice {
    let rows = (options.prompt_tokens + 2 * (options.response_tokens - 1)) as u64;
    let run = Run::training(config, vec![rows; 4 * options.batch_size], 1, config.num_hidden_layers);
    OnDevice { run, batch_size: options.batch_size, cache: CachePlace::Auto }
}

/// Before the weights are made or read.
fn check_lengths(config: &Config, options: &BenchOptions) -> Result<()> {
    let longest = config.max_position_embeddings;
    if options.prompt_tokens + options.response_tokens.max(options.new_tokens) < longest {
        return Ok(());
    }
    let problem = format!("prompt and response fill the model's context of {longest} tokens: lower --prompt-tokens");
    Err(Error::Argument(problem))
}

/// The name of the model, itself, and the seconds that it took.
fn load(args: &BenchArgs, device: Device, options: &BenchOptions, log: Log) -> Result<(String, Model, f64)> {
    let Some(shape) = args.shape else {
        if args.model.model.is_empty() {
            return Err(Error::Argument("no model: give --shape NAME for random weights, or --model MODEL".into()));
        }
        let mut opened = Opened::new(&args.model, ResponsePrefix::Auto, log)?;
        check_lengths(&opened.config, options)?;
        opened.on_device = on_device(&opened.config, options);
        let (model, load_s) = opened.load(&args.model, log)?;
        return Ok((opened.files.name.clone(), model, load_s));
    };
    let dtype = args.model.dtype.resolve(device.is_cpu());
    let config = shape.config();
    check_lengths(&config, options)?;
    if let Some(memory) = device::memory(&device) {
        log.info(on_device(&config, options).check(dtype, memory)?);
    } else if device.is_cpu() {
        Need { weights: config.matrix_elements() * dtype.size_in_bytes() as u64, ..Need::default() }.check(None)?;
    }
    let (made_on, hold) =
        if device.is_cpu() { (MadeOn::Host(11), WeightStorage::Dense) } else { (MadeOn::Device, WeightStorage::Tensors) };
    let started = Instant::now();
    let model = Model::load_as(&Weights::random(made_on), config, dtype, &device, hold)?;
    device.synchronize()?;
    Ok((shape.to_string(), model, started.elapsed().as_secs_f64()))
}

impl Report {
    fn to_text(&self) -> String {
        let Training { steps, share_of_matmul, batch_size, prompt_tokens, response_tokens, .. } = &self.training;
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| Bytes(bytes).to_string());
        let giga = |rate: f64| format!("{:.1} GFLOP/s", rate * 1e-9);
        let mut rows = vec![
            ("device".to_owned(), self.device.clone()),
            ("model".into(), format!("{}, {}, weights {}", self.model, self.dtype, Bytes(self.weights_bytes))),
            ("load".into(), format!("{:.2} s", self.load_s)),
            ("best matrix product".into(), giga(self.matmul_flops_per_s)),
            (
                format!("training, {batch_size} pairs of {prompt_tokens}+{response_tokens} tokens"),
                format!("{:.2} steps/s, {} tokens a step", steps.steps_per_s, steps.tokens_a_step),
            ),
            ("  useful work".into(), format!("{}, {:.0} % of that", giga(steps.flops_per_s), 100.0 * share_of_matmul)),
            ("  making the cache".into(), format!("{:.1} pairs/s", steps.cached_pairs_per_s)),
            ("  peak memory".into(), memory(self.training.peak_memory_bytes)),
        ];
        let alone = self.sweeps.iter().find(|sweep| sweep.magnitudes == 1).map(|sweep| sweep.tokens_per_s);
        for sweep in &self.sweeps {
            let ratio = alone.map_or_else(String::new, |alone| format!(", {:.1}x one alone", sweep.tokens_per_s / alone));
            rows.push((format!("sweep of {}", sweep.magnitudes), format!("{:.1} tokens/s{ratio}", sweep.tokens_per_s)));
        }
        rows.push(("peak memory".into(), memory(self.peak_memory_bytes)));
        rows.push(("counted for a device".into(), Bytes(self.estimated_memory_bytes).to_string()));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }
}
