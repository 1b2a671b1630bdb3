//! `bipo bench`: loads or makes a model and measures training steps, sweeps, their share of the best matrix product, and memory.

use std::time::{Duration, Instant};

use bipo::check::bench::counted::{StageCount, count};
use bipo::check::bench::{self, BenchOptions, PeakMemory, Steps, SweepSpeed};
use bipo::hub::presets;
use bipo::machine::bytes::Bytes;
use bipo::machine::device;
use bipo::model::Model;
use bipo::model::config::Config;
use bipo::model::random::MadeOn;
use bipo::model::shapes::Shape;
use bipo::model::split::{self, Split};
use bipo::model::weights::{WeightStorage, Weights};
use bipo::session::{DTypeChoice, Placement};
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use candle_core::{DType, Device};
use serde::Serialize;

use super::{next, session};
use crate::args::{BenchArgs, given, given_of, refuse_idle};
use crate::terminal::{self, Log};

/// Text and JSON are views of this.
#[derive(Debug, Serialize)]
struct BenchReport {
    schema_version: u32,
    bipo_version: &'static str,
    device: String,
    model: String,
    dtype: String,
    weights_bytes: u64,
    load_s: f64,
    matmul_flops_per_s: f64,
    /// What multiplies matrices, on the CPU.
    product_kernel: Option<&'static str>,
    training: Training,
    sweeps: Vec<SweepSpeed>,
    /// Peak memory of the device where it has its own memory, else of this process.
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
    if args.shape.is_some() {
        let of_files = ["weights", "system", "system_in_user", "template", "template_var", "offline"];
        refuse_idle(&of_files, "no effect with --shape, whose weights are made and whose prompts are random tokens")?;
    }
    if let (Some(shape), Some(split)) = (args.shape, &args.model.split) {
        let report = CountReport::new(args, shape, split, &options)?;
        match args.model.json {
            true => terminal::json(&report)?,
            false => terminal::result(&report.to_text())?,
        }
        say_next(args, log);
        return Ok(());
    }
    let devices = device::open_all(&args.model.device)?;
    let peak = PeakMemory::watch(&devices[0]);
    let Measured { name, model, placement, load_s } = load(args, devices, &options, log)?;
    log.info("matrix products");
    let matmul_flops_per_s = bench::matmul_flops_per_s(&model, placement.dtype, options.time)?;
    log.info("training steps");
    let steps = bench::steps(&model, &options)?;
    let training_peak = peak.bytes();
    let sweep = |magnitudes: &usize| {
        log.info(format!("sweep of {magnitudes}"));
        bench::sweep(&model, *magnitudes, &options)
    };
    let sweeps = options.sweeps.iter().map(sweep).collect::<Result<Vec<_>>>()?;
    let (in_memory, mapped) = model.weight_bytes();
    let report = BenchReport {
        schema_version: 1,
        bipo_version: env!("CARGO_PKG_VERSION"),
        device: model.devices().map(device::describe).collect::<Vec<_>>().join("; "),
        model: name,
        dtype: placement.dtype_name(),
        weights_bytes: (in_memory + mapped) as u64,
        load_s,
        matmul_flops_per_s,
        product_kernel: placement.product_kernel(),
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
        estimated_memory_bytes: options.demand(model.num_blocks()).on_device(&model.config, placement.dtype).total().0,
    };
    match args.model.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    say_next(args, log);
    Ok(())
}

/// Names the run that was measured; a shape is that of a model whose name the user knows.
fn say_next(args: &BenchArgs, log: Log) {
    // What was counted for devices that are not named says nothing of those of this machine.
    let is_counted = args.model.split.is_some() && given_of(&["device"]).is_empty();
    let command = next::command("train", &given(), |flag| next::MODEL.contains(&flag) && !(is_counted && flag == "--split"));
    let command = if args.shape.is_some() { next::with(&command, "--model", "MODEL") } else { command };
    next::tell(args.model.json, "learn a vector so", &command, log);
}

/// What each of several devices would take, and do. Text and JSON are views of this.
#[derive(Debug, Serialize)]
struct CountReport {
    schema_version: u32,
    bipo_version: &'static str,
    model: String,
    dtype: String,
    layer: usize,
    batch_size: usize,
    prompt_tokens: usize,
    response_tokens: usize,
    new_tokens: usize,
    /// Texts of the largest sweep.
    magnitudes: usize,
    devices: Vec<DeviceCount>,
}

#[derive(Debug, Serialize)]
struct DeviceCount {
    device: String,
    #[serde(flatten)]
    count: StageCount,
}

impl CountReport {
    /// Counts a shape; no device is opened.
    fn new(args: &BenchArgs, shape: Shape, counts: &[usize], options: &BenchOptions) -> Result<Self> {
        let config = shape.config();
        split::check(counts, config.num_hidden_layers)?;
        check_lengths(&config, options)?;
        let named = device::names(&args.model.device)?;
        let names: Vec<String> = match named.len() {
            1 => (0..counts.len()).map(|number| format!("device {number}")).collect(),
            there if there == counts.len() => named.iter().map(ToString::to_string).collect(),
            there => {
                let problem = format!("--split has {} numbers, but --device names {there} devices", counts.len());
                return Err(Error::Argument(problem));
            }
        };
        // What is counted is meant for devices with memory of their own, unless the CPU is named.
        let is_cpu = args.model.device != "auto" && named[0].kind == "cpu";
        let dtype = match args.model.dtype {
            DTypeChoice::Auto if !is_cpu => DType::BF16,
            chosen => chosen.on(&Device::Cpu),
        };
        let counted = count(&config, dtype, counts, options);
        let of_device = |(device, count)| DeviceCount { device, count };
        Ok(Self {
            schema_version: 1,
            bipo_version: env!("CARGO_PKG_VERSION"),
            model: shape.to_string(),
            dtype: format!("{dtype:?}").to_lowercase(),
            layer: presets::default_layer(config.num_hidden_layers),
            batch_size: options.batch_size,
            prompt_tokens: options.prompt_tokens,
            response_tokens: options.response_tokens,
            new_tokens: options.new_tokens,
            magnitudes: options.sweeps.iter().copied().max().unwrap_or(0),
            devices: names.into_iter().zip(counted).map(of_device).collect(),
        })
    }

    fn to_text(&self) -> String {
        let Self { model, dtype, layer, batch_size, prompt_tokens, response_tokens, magnitudes, .. } = self;
        let tera = |flops: u64| format!("{:.2} TFLOP", flops as f64 * 1e-12);
        let mut rows = vec![
            ("model".to_owned(), format!("{model}, {dtype}, steered at layer {layer}")),
            ("a step".into(), format!("{batch_size} pairs of {prompt_tokens}+{response_tokens} tokens")),
        ];
        for DeviceCount { device, count } in &self.devices {
            rows.push((device.clone(), format!("blocks {} to {}", count.first_block, count.last_block)));
            let memory = |bytes: u64| Bytes(bytes).to_string();
            let (made, step) = (memory(count.cache_bytes), memory(count.step_bytes));
            rows.push(("  weights".into(), memory(count.weights_bytes)));
            rows.push(("  making the cache".into(), format!("{made}, {} a pair", tera(count.cached_pair_flops))));
            rows.push(("  a training step".into(), format!("{step}, {}", tera(count.step_flops))));
            rows.push(("  both with --offload".into(), format!("{} at most", memory(count.offload_bytes))));
            rows.push((format!("  a sweep of {magnitudes}"), memory(count.sweep_bytes)));
        }
        aligned(&rows)
    }
}

/// Rows of a name and a value, the values one below the other.
fn aligned(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Before the weights are made or read.
fn check_lengths(config: &Config, options: &BenchOptions) -> Result<()> {
    let longest = config.max_position_embeddings;
    let lengths = [
        ("--prompt-tokens", options.prompt_tokens),
        ("--response-tokens", options.response_tokens),
        ("--new-tokens", options.new_tokens),
    ];
    let [(_, prompt), answers @ ..] = lengths;
    match answers.into_iter().find(|(_, answer)| prompt + answer >= longest) {
        None => Ok(()),
        Some(answer) => {
            let (flag, _) = if prompt > answer.1 { lengths[0] } else { answer };
            Err(Error::Argument(format!("prompt and response fill the model's context of {longest} tokens: lower {flag}")))
        }
    }
}

/// A model that is measured.
struct Measured {
    name: String,
    model: Model,
    placement: Placement,
    /// Seconds that reading or making it took.
    load_s: f64,
}

fn load(args: &BenchArgs, devices: Vec<Device>, options: &BenchOptions, log: Log) -> Result<Measured> {
    let Some(shape) = args.shape else {
        if args.model.model.is_empty() {
            return Err(Error::Argument("no model: give --shape NAME for random weights, or --model MODEL".into()));
        }
        let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
        check_lengths(&opened.config, options)?;
        let (model, load_s) = session::load(&opened, &options.demand(opened.config.num_hidden_layers), log)?;
        return Ok(Measured { name: opened.files.name, model, placement: opened.placement, load_s });
    };
    let config = shape.config();
    check_lengths(&config, options)?;
    let split = Split::new(devices, None, &config)?;
    let device = split.last();
    let dtype = args.model.dtype.on(device);
    let (made_on, storage) =
        if device.is_cpu() { (MadeOn::Host(11), WeightStorage::Dense) } else { (MadeOn::Device, WeightStorage::Tensors) };
    let placement = Placement { split, dtype, storage };
    let weights = Bytes(config.matrix_elements() * dtype.size_in_bytes() as u64);
    let fit = placement.check(&config, weights, &options.demand(config.num_hidden_layers)).map_err(session::short)?;
    fit.iter().for_each(|fit| log.info(fit.to_string()));
    let started = Instant::now();
    let model = Model::load_divided(&Weights::random(made_on), config, dtype, &placement.split, storage)?;
    model.synchronize()?;
    Ok(Measured { name: shape.to_string(), model, placement, load_s: started.elapsed().as_secs_f64() })
}

impl BenchReport {
    fn to_text(&self) -> String {
        let Training { steps, share_of_matmul, batch_size, prompt_tokens, response_tokens, .. } = &self.training;
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| Bytes(bytes).to_string());
        let giga = |rate: f64| format!("{:.1} GFLOP/s", rate * 1e-9);
        let by = self.product_kernel.map_or_else(String::new, |kernel| format!(", by {kernel}"));
        let mut rows = vec![
            ("device".to_owned(), self.device.clone()),
            ("model".into(), format!("{}, {}, weights {}", self.model, self.dtype, Bytes(self.weights_bytes))),
            ("load".into(), format!("{:.2} s", self.load_s)),
            ("best matrix product".into(), format!("{}{by}", giga(self.matmul_flops_per_s))),
            (
                format!("training, {batch_size} pairs of {prompt_tokens}+{response_tokens} tokens"),
                format!("{:.2} steps/s, {} tokens a step", steps.steps_per_s, steps.tokens_a_step),
            ),
            ("  useful work".into(), format!("{}, {:.0} % of that", giga(steps.flops_per_s), 100.0 * share_of_matmul)),
            (
                "  making the cache".into(),
                format!("{:.1} pairs/s, {}", steps.cached_pairs_per_s, giga(steps.cached_flops_per_s)),
            ),
            ("  peak memory".into(), memory(self.training.peak_memory_bytes)),
        ];
        let alone = self.sweeps.iter().find(|sweep| sweep.magnitudes == 1).map(|sweep| sweep.tokens_per_s);
        for sweep in &self.sweeps {
            let ratio = alone.map_or_else(String::new, |alone| format!(", {:.1}x one alone", sweep.tokens_per_s / alone));
            rows.push((format!("sweep of {}", sweep.magnitudes), format!("{:.1} tokens/s{ratio}", sweep.tokens_per_s)));
        }
        rows.push(("peak memory".into(), memory(self.peak_memory_bytes)));
        rows.push(("counted for a device".into(), Bytes(self.estimated_memory_bytes).to_string()));
        aligned(&rows)
    }
}
