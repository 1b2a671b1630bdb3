//! What every command that trains begins with: pairs read and encoded for an opened model, and the settings of the run.

use std::path::PathBuf;
use std::time::Instant;

use bipo::data::{self, Dataset, LoadOptions, Source};
use bipo::hub::presets;
use bipo::model::Model;
use bipo::session::{Demand, Session};
use bipo::steering::layers::Layers;
use bipo::steering::reach::Reach;
use bipo::text::tokens::EncodedPair;
use bipo::train::activations::CacheOptions;
use bipo::train::collective::Collective;
use bipo::train::layer_search;
use bipo::train::{Factor, LARGE_LR, LEARNED_START, ObjectiveName, TrainConfig};
use bipo::{Error, Result};

use super::session;
use crate::args::{RunArgs, given_of, response_prefix};
use crate::downloads::fetch_options;
use crate::terminal::Log;

/// Number of skipped rows that are named one by one.
const SKIPPED_SHOWN: usize = 20;

/// A model before its weights are read, and its pairs.
pub struct Prepared {
    pub opened: Session,
    pub dataset: Dataset,
    pub heldout: Option<Dataset>,
    pub pairs: Vec<EncodedPair>,
    pub heldout_pairs: Option<Vec<EncodedPair>>,
    pub tokenize_s: f64,
}

impl Prepared {
    /// Everything that can be checked before the weights are loaded.
    pub fn new(args: &RunArgs, log: Log) -> Result<Self> {
        let options = args.rows.options(fetch_options(args.model.offline));
        let dataset = load_data(&args.dataset, &options, log)?;
        let all = LoadOptions { limit: None, ..options };
        let heldout = args.eval_dataset.as_ref().map(|name| load_data(name, &all, log)).transpose()?;
        let mut opened = session::open(&args.model, response_prefix(&args.encoding.response_prefix), log)?;
        opened.encoder.tell_places(args.spans, args.positions.ends());
        session::warn_of_pairs(&opened, &dataset.pairs, log);
        let started = Instant::now();
        let pairs = encode(&opened, &dataset, args.encoding.max_length, log)?;
        let heldout_pairs = heldout.as_ref().map(|set| encode(&opened, set, args.encoding.max_length, log)).transpose()?;
        let encoded = [Some((&dataset, &pairs)), heldout.as_ref().zip(heldout_pairs.as_ref())];
        for (set, pairs) in encoded.into_iter().flatten() {
            let reach = Reach::of(args.positions, pairs);
            session::check_reach(&set.name, reach, args.spans)?;
            session::warn_of_undecided(&set.name, "pairs", reach, log);
        }
        Ok(Self { opened, dataset, heldout, pairs, heldout_pairs, tokenize_s: started.elapsed().as_secs_f64() })
    }
}

/// Pairs to learn from, then those held out, if any.
pub fn sets<'a>(pairs: &'a [EncodedPair], heldout: Option<&'a [EncodedPair]>) -> Vec<&'a [EncodedPair]> {
    std::iter::once(pairs).chain(heldout).collect()
}

/// The pairs to learn from, those held out, and their name: those of `--eval-dataset`, or a fifth of the data set's own.
pub fn hold_out(
    pairs: Vec<EncodedPair>,
    heldout: Option<(&Dataset, Vec<EncodedPair>)>,
    dataset: &Dataset,
    seed: u64,
    log: Log,
) -> Result<(Vec<EncodedPair>, Vec<EncodedPair>, String)> {
    if let Some((set, held)) = heldout {
        return Ok((pairs, held, set.name.clone()));
    }
    let (pairs, held) = layer_search::hold_out(pairs, seed)?;
    let name = format!("{} of {}'s own pairs, drawn with seed {seed}", held.len(), dataset.name);
    log.info(format!("no --eval-dataset: held out {name}"));
    Ok((pairs, held, name))
}

/// Loads the model for a run that takes `demand`; from now on the run's cache knows what room that leaves.
pub fn load(opened: &Session, config: &mut TrainConfig, demand: Demand, log: Log) -> Result<(Model, f64)> {
    let demand = demand.cached(config.cache.place, config.cache.memory);
    config.cache.beside = opened.placement.beside(&opened.config, &demand);
    session::load(opened, &demand, log)
}

/// Reads a data set, and says which of its rows are skipped.
pub fn load_data(name: &str, options: &LoadOptions, log: Log) -> Result<Dataset> {
    let dataset = data::load(&Source::parse_pairs(name)?, options)?;
    for skipped in dataset.skipped.iter().take(SKIPPED_SHOWN) {
        log.warn(format!("{}: row {} skipped: {}", dataset.name, skipped.row, skipped.reason));
    }
    if dataset.skipped.len() > SKIPPED_SHOWN {
        let more = dataset.skipped.len() - SKIPPED_SHOWN;
        log.warn(format!("{}: {more} more rows skipped: bipo data counts them by reason", dataset.name));
    }
    if !dataset.skipped.is_empty() {
        let advice = dataset.few_pairs();
        let advice =
            advice.unwrap_or_else(|| "mend skipped rows to have them used, or give --strict to refuse them".to_owned());
        log.warn(format!("{}: {advice}", dataset.name));
    }
    Ok(dataset)
}

/// The pairs of a data set; says how many are truncated.
pub fn encode(opened: &Session, dataset: &Dataset, max_length: usize, log: Log) -> Result<Vec<EncodedPair>> {
    let context = opened.config.max_position_embeddings;
    let length = max_length.min(context);
    let (mut truncated, mut equal) = (0, 0);
    let mut pairs: Vec<EncodedPair> = Vec::with_capacity(dataset.pairs.len());
    for pair in &dataset.pairs {
        let (pair, cut) = opened.encoder.encode_pair(pair, length)?;
        truncated += usize::from(cut);
        // Nothing can be learned from it, but the optimiser would make a full step of what rounding leaves.
        if pair.chosen.ids == pair.rejected.ids {
            equal += 1;
        } else {
            pairs.push(pair);
        }
    }
    if truncated > 0 {
        log.warn(format!("{}: {truncated} pairs truncated to {length} tokens: {}", dataset.name, longer(length, context)));
    }
    if pairs.is_empty() {
        let problem =
            format!("{}: both responses of every pair are the same {length} tokens: raise --max-length", dataset.name);
        return Err(Error::Argument(problem));
    }
    if equal > 0 {
        log.warn(format!(
            "{}: {equal} pairs left out: both responses are the same {length} tokens: {}",
            dataset.name,
            longer(length, context)
        ));
    }
    Ok(pairs)
}

/// What to do where `length` tokens are too few, of a model with this context.
pub fn longer(length: usize, context: usize) -> &'static str {
    if length < context { "raise --max-length to see more of them" } else { "the model's context has no more, shorten them" }
}

/// Returns the source of the factor on v.
fn factor(args: &RunArgs) -> Factor {
    match &args.factors {
        _ if args.learn_factor => Factor::Learned { scale: args.factor_scale, lr: args.factor_lr },
        Some(factors) => Factor::Drawn(factors.as_slice().to_vec()),
        None => args.objective.default_factor(),
    }
}

/// What a run by `config` takes of this process to cache the activations of `sets` and to learn from them.
pub fn demand(sets: &[&[EncodedPair]], config: &TrainConfig) -> Demand {
    let batch_size = config.cache.collective.share().items_a_pass(config.batch_size);
    of_own(sets, config, |sets| {
        let demand = Demand::training(sets, config.layers.as_slice(), batch_size);
        if config.has_factors_apart() { demand.apart(sets) } else { demand }
    })
}

/// What it takes of this process to cache the activations of `sets` alone.
pub fn demand_of_activations(sets: &[&[EncodedPair]], config: &TrainConfig) -> Demand {
    of_own(sets, config, |sets| Demand::activations(sets, config.layers.as_slice()))
}

/// What this process's own pairs of `sets` take.
fn of_own(sets: &[&[EncodedPair]], config: &TrainConfig, demand: impl FnOnce(&[&[EncodedPair]]) -> Demand) -> Demand {
    let share = config.cache.collective.share();
    let own: Vec<Vec<EncodedPair>> = sets.iter().map(|set| share.of(set)).collect();
    demand(&own.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Says how a run is shared out, where it is.
pub fn tell_ranks(collective: &Collective, log: Log) {
    if collective.ranks() > 1 {
        let (ranks, threads) = (collective.ranks(), rayon::current_num_threads());
        log.info(format!(
            "{ranks} ranks share the pairs; the first computes with {threads} threads, and what follows is its share"
        ));
    }
}

/// Shares a run out over the processes of a job.
pub fn share(config: &mut TrainConfig, args: &RunArgs, collective: &Collective) {
    config.cache.collective = collective.clone();
    if args.cache_memory.is_none() {
        // A part of the machine's memory, which its ranks share.
        config.cache.memory.0 /= collective.on_this_machine().1 as u64;
    }
    if !collective.is_first() {
        // The output directory is the first rank's.
        config.cache.spill_dir = CacheOptions::default().spill_dir;
    }
}

/// The run's settings, of which this process computes all; its cache goes to `spill_dir` where it does not fit.
pub fn config(
    args: &RunArgs,
    opened: &Session,
    layers: Layers,
    init: Option<Vec<f32>>,
    spill_dir: PathBuf,
) -> Result<TrainConfig> {
    layers.check(opened.config.num_hidden_layers)?;
    let by_model = || opened.preset.map_or_else(|| presets::default_lr(opened.config.hidden_size), |preset| preset.lr);
    let default_lr = || if args.learn_factor || args.objective == ObjectiveName::Reps { LARGE_LR } else { by_model() };
    let default_scale = || if args.learn_factor { LEARNED_START } else { args.objective.default_init_scale() };
    let init_scale = if init.is_some() { 0.0 } else { args.init_scale.unwrap_or_else(default_scale) };
    let memory = args.cache_memory.unwrap_or_else(|| CacheOptions::default().memory);
    let config = TrainConfig {
        layers,
        epochs: args.epochs,
        max_steps: args.max_steps,
        schedule_epochs: args.schedule_epochs,
        batch_size: args.batch_size,
        lr: args.lr.unwrap_or_else(default_lr),
        objective: args.objective,
        beta: args.beta.unwrap_or_else(|| args.objective.default_beta()),
        gamma: args.gamma,
        direction: args.direction.unwrap_or_else(|| args.objective.default_direction()),
        max_grad_norm: Some(args.max_grad_norm),
        positions: args.positions,
        weight_decay: args.weight_decay,
        warmup_steps: args.warmup_steps,
        scheduler: args.scheduler,
        seed: args.seed,
        init,
        init_scale,
        factor: factor(args),
        cache: CacheOptions { place: args.cache, memory, spill_dir, ..CacheOptions::default() },
    };
    config.check_objective()?;
    Ok(config)
}

/// Whether a run ends before its learning rate is reached, in a warmup that the user did not choose.
pub fn ends_in_warmup(config: &TrainConfig, steps: usize) -> bool {
    steps <= config.warmup_steps && config.warmup_steps > 0 && given_of(&["warmup_steps"]).is_empty()
}

/// What is wrong with such a run, and what to do.
pub fn warmup_problem(config: &TrainConfig, steps: usize) -> String {
    format!(
        "{steps} steps end within the warmup of {}: the learning rate never reaches its full value (--lr); lower --warmup-steps or \
         train longer",
        config.warmup_steps
    )
}
