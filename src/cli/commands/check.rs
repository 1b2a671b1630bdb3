//! `bipo check`: whether a device computes what the CPU does, as a table or JSON; fails where it does not.

use bipo::check::agreement::{self, Check, Recording, Trace};
use bipo::data::{self, DEFAULT_DATASET, LoadOptions, Source};
use bipo::hub::options::FetchOptions;
use bipo::hub::presets;
use bipo::machine::device;
use bipo::model::shapes::Shape;
use bipo::model::weights::WeightStorage;
use bipo::session::{DTypeChoice, Placement, Session};
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use candle_core::{DType, Device};
use serde_json::json;

use super::{next, session};
use crate::args::{CheckArgs, given};
use crate::terminal::{self, Log};

pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let device = device::open(&args.model.device)?;
    if args.model.split.is_some() {
        return Err(Error::Argument("--split: check compares one device with the CPU".into()).into());
    }
    if args.golden.is_some() && args.model.model.is_empty() {
        return Err(Error::Argument("--golden needs --model: the model that was recorded".into()).into());
    }
    let dtypes = match args.model.dtype {
        DTypeChoice::Auto => vec![DType::F32, DType::BF16, DType::F16],
        dtype => vec![dtype.on(&device)],
    };
    // First what can be wrong.
    let real_model = (!args.model.model.is_empty()).then(|| RealModel::open(args, log)).transpose()?;
    log.info(format!("{}: tiny models", device::describe(&device)));
    let mut checks = agreement::tiny_models(&device, &dtypes)?;
    log.info("48 training steps");
    checks.extend(agreement::tiny_training(&device, &dtypes)?);
    if let Some(real_model) = real_model {
        checks.extend(real_model.check(&dtypes, log)?);
    }
    let failed = checks.iter().filter(|check| !check.passed).count();
    if args.model.json {
        terminal::json(&json!({
            "schema_version": 1, "bipo_version": env!("CARGO_PKG_VERSION"), "device": device::describe(&device),
            "passed": failed == 0, "checks": checks,
        }))?;
    } else {
        terminal::result(&to_text(&checks, args.model.verbose))?;
    }
    match failed {
        0 => {
            next::tell(args.model.json, "measure its speed", &bench(args), log);
            Ok(())
        }
        failed => Err(anyhow::anyhow!("{failed} of {} checks failed", checks.len())),
    }
}

/// The command that measures the same device, with the same model if there is one.
fn bench(args: &CheckArgs) -> String {
    if args.model.model.is_empty() {
        let command = next::command("bench", &given(), |flag| ["--device", "--dtype"].contains(&flag));
        return next::with(&command, "--shape", &Shape::Smollm2_135m.to_string());
    }
    next::of_model("bench")
}

/// A real model that repeats 48 training steps, those of the recording or others.
struct RealModel {
    opened: Session,
    recording: Recording,
    recorded: Option<Trace>,
}

impl RealModel {
    fn open(args: &CheckArgs, log: Log) -> Result<Self> {
        let golden = args.golden.as_deref().map(Recording::read).transpose()?;
        let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
        let (recording, recorded) = match golden {
            Some((recording, trace)) => (recording, Some(trace)),
            None => (first_pairs(&opened)?, None),
        };
        Ok(Self { opened, recording, recorded })
    }

    /// Against the recording, or against the CPU.
    fn check(self, dtypes: &[DType], log: Log) -> Result<Vec<Check>> {
        let Self { opened, recording, recorded } = self;
        let name = &opened.files.name;
        let demand = recording.demand();
        let load = |placement| opened.load_at(&placement, &demand).map(|loaded| loaded.model);
        let expected = match recorded {
            Some(trace) => trace,
            None => recording.run(&load(Placement::one(Device::Cpu, DType::F32, WeightStorage::Dense, &opened.config))?)?,
        };
        let mut checks = Vec::new();
        for dtype in dtypes {
            log.info(format!("{name}, {dtype:?}: 48 training steps"));
            let device = opened.placement.device().clone();
            let model = load(Placement::one(device, *dtype, WeightStorage::Tensors, &opened.config))?;
            checks.extend(recording.run(&model)?.compare(name, *dtype, &expected));
        }
        Ok(checks)
    }
}

/// The first 64 pairs of the default data set.
fn first_pairs(opened: &Session) -> Result<Recording> {
    let options = LoadOptions { limit: Some(64), fetch: FetchOptions::offline(), ..LoadOptions::default() };
    let dataset = data::load(&Source::parse(DEFAULT_DATASET)?, &options)?;
    let encode = |pair| opened.encoder.encode_pair(pair, opened.config.max_position_embeddings).map(|(pair, _)| pair);
    let pairs = dataset.pairs.iter().map(encode).collect::<Result<_>>()?;
    let layer = opened.preset.map_or_else(|| presets::default_layer(opened.config.num_hidden_layers), |preset| preset.layer);
    Ok(Recording::new(pairs, layer, 5e-4))
}

/// A line for all that was compared of a model in a dtype, the comparison nearest to its bound, or those that failed; all of
/// them where the user wants to know.
fn to_text(checks: &[Check], all: bool) -> String {
    let name = |check: &Check| format!("{}, {}", check.model, check.dtype);
    let mut shown: Vec<&Check> = Vec::new();
    for group in checks.chunk_by(|a, b| name(a) == name(b)) {
        let share = |check: &&Check| check.difference / check.bound.max(f64::MIN_POSITIVE);
        let nearest = group.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let has_failed = group.iter().any(|check| !check.passed);
        shown.extend(group.iter().filter(|check| all || !check.passed));
        shown.extend(nearest.filter(|_| !all && !has_failed));
    }
    let widest = |text: &dyn Fn(&Check) -> usize| shown.iter().map(|check| text(check)).max().unwrap_or(0);
    let (models, whats) = (widest(&|check| name(check).len()), widest(&|check| check.what.len()));
    let line = |check: &Check| {
        let verdict = if check.passed { "ok" } else { "FAILED" };
        let Check { what, difference, bound, .. } = check;
        format!("{verdict:6}  {:models$}  {what:whats$}  {difference:9.2e}, at most {bound:.1e}\n", name(check))
    };
    shown.into_iter().map(line).collect()
}
