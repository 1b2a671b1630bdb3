//! Training one steering vector a layer: config, plan, step, epoch. Writes no file and prints nothing: the observer does.

pub mod activations;
pub mod batch;
pub mod caa;
pub mod checkpoint;
pub mod layer_search;
mod learn;
pub mod loss;
pub mod optim;
mod records;
pub(crate) mod responses;
mod state;

use std::time::Instant;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::ops::head::Gradient;
use crate::steering::Steering;
use crate::steering::dose::l2_norm;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::text::tokens::EncodedPair;
use crate::train::activations::{Activations, CacheOptions, CachePlan, Entry};
use crate::train::loss::{Loss, bidirectional_dpo, log_sigmoid, margin};
use crate::train::optim::{Schedule, Scheduler, clip_grad_norm};
use crate::{Error, Result};

pub use learn::learn;
pub use records::{EpochRecord, Heldout, Moment, Observer, Outcome, StepRecord, Timings};
pub use state::TrainState;

/// How the direction of a step is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::EnumString, strum::VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Direction {
    /// −1 or +1, one a step: algorithm 1.
    Sign,
    /// Uniform in \[−1, 1\], one a step.
    Uniform,
    /// Both signs of every batch, their losses averaged.
    Both,
}

/// Settings of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Blocks whose outputs are steered, each by a vector of its own; all are learned together.
    pub layers: Layers,
    /// Passes over the data.
    pub epochs: usize,
    /// Stop after this many steps.
    pub max_steps: Option<usize>,
    /// Epochs that the schedule spans, where not those of the run.
    pub schedule_epochs: Option<usize>,
    /// Pairs a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Strength of the preference.
    pub beta: f64,
    /// How directions are drawn.
    pub direction: Direction,
    /// Gradient norm above which it is scaled down.
    pub max_grad_norm: Option<f64>,
    /// Where the vector is added.
    pub positions: Positions,
    /// Decoupled decay, a factor of the learning rate.
    pub weight_decay: f64,
    /// Steps of the linear warmup.
    pub warmup_steps: usize,
    /// Fall of the learning rate after it.
    pub scheduler: Scheduler,
    /// Seed of shuffles and directions.
    pub seed: u64,
    /// Where the vectors start, one behind the other, lowest layer first; at zero where none. `(layers·H)`
    #[serde(skip)]
    pub init: Option<Vec<f32>>,
    /// Where the cache lies; the result does not depend on it.
    #[serde(skip)]
    pub cache: CacheOptions,
}

impl TrainConfig {
    /// Steps of one pass over `pairs` pairs.
    pub fn steps_per_epoch(&self, pairs: usize) -> usize {
        pairs.div_ceil(self.batch_size)
    }

    /// Steps of the run.
    pub fn total_steps(&self, pairs: usize) -> usize {
        let steps = self.epochs * self.steps_per_epoch(pairs);
        self.max_steps.map_or(steps, |max| max.min(steps))
    }

    fn schedule(&self, pairs: usize) -> Schedule {
        let total_steps = match self.schedule_epochs {
            Some(epochs) => epochs * self.steps_per_epoch(pairs),
            None => self.total_steps(pairs),
        };
        Schedule { scheduler: self.scheduler, lr: self.lr, warmup_steps: self.warmup_steps, total_steps }
    }

    fn check(&self, model: &Model) -> Result<()> {
        self.layers.check(model.num_blocks())?;
        let expected = self.layers.as_slice().len() * model.config.hidden_size;
        if let Some(found) = self.init.as_ref().map(Vec::len).filter(|found| *found != expected) {
            return Err(Error::Argument(format!("the vectors to start from have {found} elements, expected {expected}")));
        }
        if self.batch_size == 0 || self.epochs == 0 {
            return Err(Error::Argument("batch size and epochs must be at least 1".into()));
        }
        Ok(())
    }
}

/// Checks a run before anything is computed or written, and says what its cache takes: the plan that [`train`] follows.
///
/// # Errors
/// The configuration does not fit the model, no token would be steered, or the cache fits neither memory nor disk.
pub fn plan<'m>(
    model: &'m Model,
    pairs: &[EncodedPair],
    heldout: Option<&[EncodedPair]>,
    config: &TrainConfig,
) -> Result<CachePlan<'m>> {
    config.check(model)?;
    let sets: Vec<&[EncodedPair]> = [Some(pairs), heldout].into_iter().flatten().collect();
    CachePlan::new(model, &sets, config.layers.lowest(), config.positions, &config.cache)
}

/// Learns a vector a layer, as `config` says, from what [`plan`] laid out for the same `config`. `state` is a new one, or
/// one that an observer was offered: the outcome is the same.
///
/// # Errors
/// The state is of another run, a reference log-probability is not finite, a tensor operation or the observer fails. An
/// interruption and a loss that is not finite are no errors but `Outcome::stopped`.
pub fn train(
    model: &Model,
    plan: CachePlan,
    config: &TrainConfig,
    mut state: TrainState,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let started = Instant::now();
    let cache_bytes = plan.size().total().0 as usize;
    let mut sets = plan.compute(|done, total| observer.cached(done, total))?;
    let data = sets.remove(0);
    let heldout = sets.pop();
    state.timings.cache_s += started.elapsed().as_secs_f64();
    let mut outcome = Trainer::from_state(model, config, &data, state)?.run(heldout.as_ref(), observer)?;
    outcome.cache_bytes = cache_bytes;
    Ok(outcome)
}

impl Direction {
    /// The factor of one step; for [`Direction::Both`] it is +1, the other sign is taken in the same step.
    fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Sign => {
                if rng.random::<bool>() {
                    1.0
                } else {
                    -1.0
                }
            }
            Self::Uniform => rng.random_range(-1.0..=1.0),
            Self::Both => 1.0,
        }
    }
}

/// A run: one call of [`Trainer::step`] a step, [`Trainer::run`] for all of them.
#[derive(Debug)]
pub struct Trainer<'a> {
    model: &'a Model,
    config: &'a TrainConfig,
    data: &'a Activations,
    schedule: Schedule,
    /// All that a step changes.
    pub state: TrainState,
    /// Gradient of the last step, before clipping. `(layers·H)`
    pub gradient: Vec<f32>,
    started: Instant,
    /// The state's, when this process began with it.
    earlier: Timings,
}

/// Some pairs in one direction.
struct BatchLoss {
    /// Mean of −log σ(d·margin).
    loss: f64,
    /// Margin of each pair, before the direction is applied.
    margins: Vec<f64>,
    /// Of the loss, at v. `(layers·H)`
    gradient: Vec<f32>,
    /// Rows that went through the upper blocks.
    rows: usize,
}

impl<'a> Trainer<'a> {
    /// v where the config starts it; no step done.
    pub fn new(model: &'a Model, config: &'a TrainConfig, data: &'a Activations) -> Self {
        let state = TrainState::new(config, model.config.hidden_size, data.entries.len());
        Self::with(model, config, data, state)
    }

    /// Continues from `state`.
    ///
    /// # Errors
    /// It is the state of a run with other sizes.
    pub fn from_state(model: &'a Model, config: &'a TrainConfig, data: &'a Activations, state: TrainState) -> Result<Self> {
        state.check(config.layers.as_slice().len() * model.config.hidden_size, data.entries.len())?;
        Ok(Self::with(model, config, data, state))
    }

    fn with(model: &'a Model, config: &'a TrainConfig, data: &'a Activations, mut state: TrainState) -> Self {
        state.optimiser.weight_decay = config.weight_decay;
        Self {
            model,
            config,
            data,
            schedule: config.schedule(data.entries.len()),
            gradient: vec![0.0; state.v.len()],
            started: Instant::now(),
            earlier: state.timings,
            state,
        }
    }

    /// All steps that are left; its outcome knows nothing of the cache.
    ///
    /// # Errors
    /// As [`train`].
    pub fn run(mut self, heldout: Option<&Activations>, observer: &mut dyn Observer) -> Result<Outcome> {
        let total_steps = self.config.total_steps(self.data.entries.len());
        let stopped = loop {
            let stopped = self.epoch(total_steps, observer)?;
            if stopped.is_some() {
                break stopped;
            }
            self.end_epoch(heldout, observer)?;
            if self.state.steps >= total_steps || self.state.epoch >= self.config.epochs {
                break None;
            }
            self.state.next_epoch();
            self.offer(Moment::Epoch, observer)?;
        };
        if stopped.is_some() {
            self.offer(Moment::Stopped, observer)?;
        }
        self.count_time();
        Ok(self.outcome(stopped))
    }

    /// The steps that are left of an epoch. Returns why it ended early, if it did: the state is then that of the last good
    /// step.
    fn epoch(&mut self, total_steps: usize, observer: &mut dyn Observer) -> Result<Option<Error>> {
        while self.state.steps < total_steps {
            let batch = self.state.batch(self.config.batch_size);
            if batch.is_empty() {
                break;
            }
            let mut rng = self.state.rng.clone();
            let d = self.config.direction.draw(&mut rng);
            match self.step(&batch, d, self.state.epoch) {
                Ok(record) => {
                    self.state.rng = rng;
                    self.state.done += batch.len();
                    observer.step(&record, total_steps)?;
                }
                Err(error @ Error::NotFinite(_)) => return Ok(Some(error)),
                Err(error) => return Err(error),
            }
            if observer.interrupted() {
                return Ok(Some(Error::Interrupted));
            }
            self.offer(Moment::Step, observer)?;
        }
        Ok(None)
    }

    fn end_epoch(&mut self, heldout: Option<&Activations>, observer: &mut dyn Observer) -> Result<()> {
        let heldout = heldout.map(|set| self.evaluate(set)).transpose()?;
        let is_better = |now: Heldout| self.state.best().is_none_or(|(_, best)| now.loss < best.loss);
        let best = heldout.is_some_and(|now| now.loss.is_finite() && is_better(now));
        let record = EpochRecord { epoch: self.state.epoch, step: self.state.steps, heldout, best };
        observer.epoch(&record, &self.state.v)?;
        self.state.epochs.push(record);
        if best {
            self.state.best_v = Some(self.state.v.clone());
        }
        Ok(())
    }

    fn offer(&mut self, moment: Moment, observer: &mut dyn Observer) -> Result<()> {
        self.count_time();
        observer.checkpoint(&self.state, moment)
    }

    fn count_time(&mut self) {
        let timings = &mut self.state.timings;
        let measured = timings.measured_s() - self.earlier.measured_s();
        timings.other_s = self.earlier.other_s + self.started.elapsed().as_secs_f64() - measured;
    }

    fn outcome(self, stopped: Option<Error>) -> Outcome {
        let best = self.state.best().map(|(record, heldout)| (record.epoch, heldout));
        let TrainState { v, steps, last_loss, last_margin, epochs, best_v, timings, .. } = self.state;
        Outcome {
            v: best_v.unwrap_or(v),
            steps,
            final_loss: last_loss,
            final_margin: last_margin,
            best_epoch: best.map(|(epoch, _)| epoch),
            heldout: best.map(|(_, heldout)| heldout),
            epochs,
            timings,
            cache_bytes: 0,
            stopped,
        }
    }

    /// One step on the entries at `batch`, in direction `d`.
    ///
    /// # Errors
    /// The loss or the gradient is not finite (v is left as it was), or a tensor operation fails.
    pub fn step(&mut self, batch: &[usize], d: f64, epoch: usize) -> Result<StepRecord> {
        let started = Instant::now();
        let entries: Vec<&Entry> = batch.iter().map(|index| &self.data.entries[*index]).collect();
        let rows: Vec<usize> = entries.iter().map(|entry| entry.rows.row).collect();
        let BatchLoss { mut loss, margins, mut gradient, rows: tokens } = self.loss_and_gradient(&entries, d)?;
        if self.config.direction == Direction::Both {
            let opposite = self.loss_and_gradient(&entries, -d)?;
            loss = (loss + opposite.loss) / 2.0;
            gradient.iter_mut().zip(&opposite.gradient).for_each(|(g, o)| *g = (*g + o) / 2.0);
        }
        self.check_finite(loss, &margins, &gradient, &rows)?;
        self.gradient.clone_from(&gradient);
        let lr = self.schedule.at(self.state.steps);
        let grad_norm = clip_grad_norm(&mut gradient, self.config.max_grad_norm);
        let state = &mut self.state;
        let before = (state.v.clone(), state.optimiser.clone());
        state.optimiser.step(&mut state.v, &gradient, lr);
        if state.v.iter().any(|x| !x.is_finite()) {
            (state.v, state.optimiser) = before;
            return Err(Error::NotFinite(format!("step {}: the vector is not finite; lower --lr", state.steps + 1)));
        }
        state.steps += 1;
        let margin = mean(margins.iter().copied());
        (state.last_loss, state.last_margin) = (loss, d * margin);
        Ok(StepRecord {
            step: state.steps,
            epoch,
            rows,
            d,
            loss,
            margin,
            accuracy: mean(margins.iter().map(|m| f64::from(d * m > 0.0))),
            lr,
            grad_norm,
            vector_norm: l2_norm(&state.v),
            tokens,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Margins at d = ±1 on held-out pairs.
    pub fn evaluate(&mut self, heldout: &Activations) -> Result<Heldout> {
        let started = Instant::now();
        let margins = |d: f32| -> Result<Vec<f64>> {
            let scores = heldout.score(self.model, &self.steering(d)?)?;
            let beta = self.config.beta;
            Ok(scores.iter().zip(&heldout.entries).map(|(score, entry)| margin(beta, *score, entry.reference)).collect())
        };
        let (positive, negative) = (margins(1.0)?, margins(-1.0)?);
        self.state.timings.eval_s += started.elapsed().as_secs_f64();
        let losses = positive.iter().map(|m| -log_sigmoid(*m)).chain(negative.iter().map(|m| -log_sigmoid(-m)));
        Ok(Heldout {
            positive_margin: mean(positive.iter().copied()),
            negative_margin: mean(negative.iter().copied()),
            positive_right: mean(positive.iter().map(|m| f64::from(*m > 0.0))),
            negative_right: mean(negative.iter().map(|m| f64::from(*m < 0.0))),
            loss: mean(losses),
        })
    }

    fn steering(&self, d: f32) -> Result<Steering> {
        Ok(Steering::new(&self.config.layers.split(&self.state.v), self.model.device())?.with_factor(d))
    }

    /// All pairs in one pass, or in several where one would save too much for its gradient.
    fn loss_and_gradient(&mut self, entries: &[&Entry], d: f64) -> Result<BatchLoss> {
        let mut whole = BatchLoss { loss: 0.0, margins: Vec::new(), gradient: vec![0.0; self.state.v.len()], rows: 0 };
        let passes = passes(self.model, entries, self.data.layer);
        for group in entries.chunks(entries.len().div_ceil(passes)) {
            let part = self.pass(group, d)?;
            let share = group.len() as f64 / entries.len() as f64;
            whole.loss += share * part.loss;
            whole.margins.extend(part.margins);
            whole.gradient.iter_mut().zip(&part.gradient).for_each(|(sum, g)| *sum += share as f32 * g);
            whole.rows += part.rows;
        }
        Ok(whole)
    }

    /// With CUDA the device runs through it without the host, which waits once, at the end.
    fn pass(&mut self, entries: &[&Entry], d: f64) -> Result<BatchLoss> {
        let started = Instant::now();
        let (batch, residual) = self.data.batch(self.model, entries)?; // residual (R, H)
        let pass = batch.upper(&residual, self.data.layer, &self.steering(d as f32)?, Gradient::Wanted)?;
        let reference: Vec<_> = entries.iter().map(|entry| entry.reference).collect();
        let slopes = batch.dpo_slopes(&pass, self.config.beta, d, &reference)?;
        self.state.timings.forward_s += started.elapsed().as_secs_f64();

        let started = Instant::now();
        let (log_probs, mut gradient) = batch.vjp(pass, &slopes)?;
        let Loss { value, margins, .. } = bidirectional_dpo(self.config.beta, d, &log_probs, &reference);
        gradient.iter_mut().for_each(|g| *g *= d as f32);
        self.state.timings.backward_s += started.elapsed().as_secs_f64();
        self.state.timings.tokens += batch.rows() as u64;
        self.state.timings.flops += batch.flops(self.data.layer);
        Ok(BatchLoss { loss: value, margins, gradient, rows: batch.rows() })
    }

    fn check_finite(&self, loss: f64, margins: &[f64], gradient: &[f32], rows: &[usize]) -> Result<()> {
        let step = self.state.steps + 1;
        if let Some(bad) = margins.iter().position(|margin| !margin.is_finite()) {
            return Err(Error::NotFinite(format!(
                "step {step}: the margin of row {} is not finite; lower --lr or use --dtype f32",
                rows[bad]
            )));
        }
        if !loss.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
            return Err(Error::NotFinite(format!(
                "step {step}: the gradient of rows {rows:?} is not finite; lower --lr or use --dtype f32"
            )));
        }
        Ok(())
    }
}

/// How many passes a batch takes, so that what each saves for its gradient stays under a third of the weights, or 32 MiB
/// where that is more: a step never needs much beside the model, however large the batch.
fn passes(model: &Model, entries: &[&Entry], layer: usize) -> usize {
    let (in_memory, mapped) = model.weight_bytes();
    let limit = ((in_memory + mapped) / 3).max(32 << 20);
    let computed = entries.iter().map(|entry| entry.rows.live_rows().count()).sum();
    let seen = entries.iter().map(|entry| entry.rows.branches.rows()).sum();
    model.saved_bytes(layer + 1, computed, seen).div_ceil(limit).clamp(1, entries.len())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}
