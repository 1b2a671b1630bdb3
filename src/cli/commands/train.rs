//! `bipo train`: checks what is cheap, loads, trains, and writes the vector, its metrics and its settings.

use bipo::machine::files::write_atomic;
use bipo::steering::dose::l2_norm;
use bipo::steering::layers::Layers;
use bipo::steering::vector::Metadata;
use bipo::train::checkpoint;
use bipo::train::collective::Collective;
use bipo::train::{TrainConfig, TrainState};
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::ranks::{Silent, check_same};
use super::run::{self, Prepared};
use super::session;
use super::training::init::Init;
use super::training::observer::TrainObserver;
use super::training::outcome::{finished, report, results, times};
use super::training::output_dir::{OutputDir, Start};
use super::training::run_files::{draw_curve, pretty, write_card};
use super::training::settings::{identity, named_layers, settings, vector};
use super::training::test_generation;
use super::vectors::{VECTOR_FILE, warn_of_unknown_keys};
use crate::args::{MethodArg, TrainArgs};
use crate::terminal::Log;
use bipo::model::Model;
use bipo::session::{Demand, LowerBlocks, Session};

pub fn run(args: &TrainArgs, collective: &Collective) -> anyhow::Result<()> {
    if args.method == MethodArg::Condition {
        return super::condition::run(args, collective);
    }
    let idle = [("--against", args.against.is_some()), ("--eval-against", args.eval_against.is_some())];
    let idle = idle.into_iter().chain([("--reading", args.reading.is_some())]);
    if let Some((flag, _)) = idle.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::Argument(format!("{flag} has no effect here: it needs --method condition")).into());
    }
    if args.method == MethodArg::Caa {
        return super::caa::run(args, collective);
    }
    if args.caa_positions.is_some() {
        return Err(Error::Argument("--caa-positions has no effect here: it needs --method caa".into()).into());
    }
    if args.init.is_some() && args.run.init_scale.is_some() {
        return Err(Error::Argument("--init and --init-scale both say where the vector starts: leave one out".into()).into());
    }
    match collective.is_first() {
        true => lead(args, collective),
        false => follow(args, collective),
    }
}

/// A run before its weights are read: the same on every rank.
struct Begun {
    prepared: Prepared,
    config: TrainConfig,
    settings: Value,
    /// Everything that the bytes of the result depend on.
    identity: Value,
}

impl Begun {
    fn new(args: &TrainArgs, collective: &Collective, log: Log) -> Result<Self> {
        let init = args.init.as_ref().map(|path| Init::read(path, args.layer)).transpose()?;
        let prepared = collective.in_turn(|| Prepared::new(&args.run, log))?;
        let Prepared { opened, dataset, heldout, pairs, heldout_pairs, .. } = &prepared;
        let mut config = config(args, opened, init.as_ref(), log)?;
        run::share(&mut config, &args.run, collective);
        let mut settings = settings(&args.run, opened, &config, dataset, heldout.as_ref());
        settings["method"] = json!("bipo");
        settings["init"] = init.as_ref().map_or(Value::Null, |init| json!({"name": init.name, "sha256": init.sha256}));
        let identity = identity(&settings, opened, pairs, heldout_pairs.as_deref());
        check_same(collective, &identity, opened, log)?;
        Ok(Self { prepared, config, settings, identity })
    }
}

/// What a rank does that is not the first: it computes its share, and neither writes nor says anything.
fn follow(args: &TrainArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let Begun { prepared, mut config, .. } = Begun::new(args, collective, log)?;
    let Prepared { opened, pairs, heldout_pairs, .. } = prepared;
    let state: Vec<u8> = collective.from_first(Vec::new())?;
    if state.is_empty() {
        return Ok(());
    }
    let state = checkpoint::from_bytes(&args.output_dir, &state)?.state;
    let demand = run::demand(&run::sets(&pairs, heldout_pairs.as_deref()), &config).with_lower(lower_blocks(args));
    let (mut model, _) = run::load(&opened, &mut config, demand, log)?;
    let mut silent = Silent(Interrupt::listen(log)?);
    let plan = bipo::train::plan(&model, &pairs, heldout_pairs.as_deref(), &config)?;
    let cached = bipo::train::cache(plan, &mut silent)?;
    release(&mut model, args, &config);
    let outcome = bipo::train::train_cached(&model, cached, &config, state, &mut silent)?;
    outcome.stopped.map_or(Ok(()), |error| Err(error.into()))
}

/// What the first rank does, or the only process.
fn lead(args: &TrainArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let mut dir = OutputDir::claim(args, log)?;
    let Begun { prepared, mut config, mut settings, mut identity } = Begun::new(args, collective, log)?;
    let Prepared { opened, dataset, pairs, heldout_pairs, tokenize_s, .. } = prepared;
    dir.make()?;
    let (state, is_new) = match dir.start(&mut identity, &mut settings)? {
        Start::New => (TrainState::new(&config, opened.config.hidden_size, pairs.len()), true),
        Start::Resumed(checkpoint) => (checkpoint.state, false),
        Start::Finished(vector) => {
            collective.from_first(Vec::<u8>::new())?;
            return test_generation::say(finished(args, &vector), args, || {
                let demand = test_generation::demanded(Demand::default(), args, &opened)?;
                let (model, _) = session::load(&opened, &demand, log)?;
                Ok(test_generation::generate(&opened, &model, &vector, &Interrupt::listen(log)?)?)
            });
        }
    };
    if collective.ranks() > 1 {
        collective.from_first(checkpoint::to_bytes(&identity, &state)?)?;
    }
    let sets = run::sets(&pairs, heldout_pairs.as_deref());
    let demand = test_generation::demanded(run::demand(&sets, &config), args, &opened)?.with_lower(lower_blocks(args));
    let (mut model, load_s) = run::load(&opened, &mut config, demand, log)?;
    if let Some(times) = opened.placement.gain_of_bf16() {
        log.info(format!(
            "this processor multiplies bf16 up to {times} times as fast as f32: --dtype bf16 may train faster, and rounds more"
        ));
    }
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
    if run::ends_in_warmup(&config, total) {
        log.warn(run::warmup_problem(&config, total));
    }
    run::tell_ranks(collective, log);
    log.info(plan.size().to_string());
    if is_new {
        dir.clear()?;
    }
    // From here on the directory holds this run, unfinished.
    checkpoint::write(&args.output_dir, &identity, &state)?;
    write_atomic(&args.output_dir.join("config.json"), &pretty(&settings))?;
    let interrupt = Interrupt::listen(log)?;
    let mut reporter = TrainObserver::new(args, log, &vector_of, &identity, state.steps, interrupt.clone())?;
    let cached = bipo::train::cache(plan, &mut reporter)?;
    release(&mut model, args, &config);
    let outcome = bipo::train::train_cached(&model, cached, &config, state, &mut reporter)?;
    reporter.finish();

    let path = args.output_dir.join(VECTOR_FILE);
    let vector = vector_of(&outcome.v, results(&outcome));
    vector.write(&path)?;
    let curve = draw_curve(&args.output_dir, &reporter.metrics.steps, &outcome.epochs, log);
    write_card(&args.output_dir, &vector, &outcome.epochs, curve, log)?;
    if outcome.stopped.is_none() {
        checkpoint::remove(&args.output_dir)?;
    }
    if l2_norm(&outcome.v) == 0.0 {
        log.warn(format!(
            "the vector is still zero after {} steps: lower --warmup-steps, or take more --epochs or pairs",
            outcome.steps
        ));
    }
    log.detail(times(&outcome.timings, (load_s, tokenize_s), model.device()));
    let said = report(args, &path, &outcome, &settings, (load_s, tokenize_s));
    if let Some(error) = outcome.stopped {
        said.print()?;
        let how = if matches!(error, Error::Interrupted) { "--resume" } else { "--force-resume and another setting" };
        let (steps, path) = (outcome.steps, path.display());
        log.info(format!("what was reached after {steps} steps is saved in {path}; continue with {how}"));
        return Err(error.into());
    }
    test_generation::say(said, args, || Ok(test_generation::generate(&opened, &model, &vector, &interrupt)?))
}

/// What becomes of the blocks that no step needs. Generating a text needs them all.
fn lower_blocks(args: &TrainArgs) -> LowerBlocks {
    match (args.test_generation, args.offload) {
        (true, _) => LowerBlocks::Stay,
        (false, true) => LowerBlocks::InFile,
        (false, false) => LowerBlocks::Leave,
    }
}

/// Lets go of the blocks that no step needs, if nothing else does.
fn release(model: &mut Model, args: &TrainArgs, config: &TrainConfig) {
    if lower_blocks(args) != LowerBlocks::Stay {
        model.release(config.layers.lowest() + 1);
    }
}

/// The layers that are named, else those of `--init`, else the model's preset.
fn layers(args: &TrainArgs, opened: &Session, init: Option<&Init>) -> Result<Layers> {
    match init {
        Some(init) if args.layers.is_none() && args.layer.is_none() => init.layers(),
        _ => named_layers(args, opened),
    }
}

fn config(args: &TrainArgs, opened: &Session, init: Option<&Init>, log: Log) -> Result<TrainConfig> {
    let layers = layers(args, opened, init)?;
    let start = init.map(|init| init.start(&layers, opened)).transpose()?;
    let here = (args.run.positions, args.run.spans);
    if let Some(init) = init.filter(|init| (init.vector.metadata.positions, init.vector.metadata.spans) != here) {
        let Metadata { positions, spans, .. } = &init.vector.metadata;
        let spans = spans.map_or_else(String::new, |spans| format!(" --spans {spans}"));
        log.warn(format!(
            "{} was trained elsewhere in the text than this run trains: --positions {positions}{spans} goes on as it was",
            init.path.display()
        ));
    }
    if let Some(init) = init {
        warn_of_unknown_keys(&init.vector, "--init", log);
        if !init.vector.metadata.operation.is_addition() {
            log.warn(format!(
                "--init: {} is taken out where it is used, but the vector of this run is added: start from one that is added, or leave \
                 --init out",
                init.path.display()
            ));
        }
        let family = init.vector.family_note(&opened.config.model_type);
        family.iter().for_each(|note| log.warn(format!("--init: {note}")));
    }
    run::config(&args.run, opened, layers, start, args.output_dir.clone())
}
