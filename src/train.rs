//! Training one steering vector a layer: config, step, epoch, observer. Writes no file and prints nothing: the observer does.

use std::time::Instant;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::activations::{Activations, CacheOptions, CachePlan, Entry};
use crate::batch::Shift;
use crate::layers::Layers;
use crate::loss::{Loss, bidirectional_dpo, log_sigmoid, margin};
use crate::model::Model;
use crate::ops::head::Gradient;
use crate::optim::{AdamW, Schedule, Scheduler, clip_grad_norm, l2_norm};
use crate::positions::Positions;
use crate::tokens::EncodedPair;
use crate::{Error, Result};

/// How the direction of a step is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// One step: one line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1.
    pub step: usize,
    /// From 1.
    pub epoch: usize,
    /// Data set rows of the batch, in order.
    pub rows: Vec<usize>,
    /// Direction.
    pub d: f64,
    /// Mean of −log σ(d·margin).
    pub loss: f64,
    /// Mean margin before the direction is applied.
    pub margin: f64,
    /// Share of pairs with d·margin > 0.
    pub accuracy: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before clipping, all layers together.
    pub grad_norm: f64,
    /// Norm of v after the step, all layers together.
    pub vector_norm: f64,
    /// Rows that went through the upper blocks; those that no vector changes are in the cache.
    pub tokens: usize,
    /// Wall time.
    pub seconds: f64,
}

/// Margins on held-out pairs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Heldout {
    /// Mean margin at d = +1; positive is the right way.
    pub positive_margin: f64,
    /// Mean margin at d = −1; negative is the right way.
    pub negative_margin: f64,
    /// Share of pairs with a positive margin at d = +1.
    pub positive_right: f64,
    /// Share of pairs with a negative margin at d = −1.
    pub negative_right: f64,
    /// Mean of −log σ(d·margin) over both directions: what the best epoch is chosen by.
    pub loss: f64,
}

/// The end of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Steps so far.
    pub step: usize,
    /// Margins on the held-out pairs, if there are any.
    pub heldout: Option<Heldout>,
    /// Whether this is the best epoch so far.
    pub best: bool,
}

/// Where the time went, seconds, and what the steps did in it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Timings {
    /// Blocks 0..=L and the reference pass, once a pair.
    pub cache_s: f64,
    /// Upper blocks and head, forward.
    pub forward_s: f64,
    /// Gradient of v.
    pub backward_s: f64,
    /// Held-out scoring.
    pub eval_s: f64,
    /// Everything else of the training loop.
    pub other_s: f64,
    /// Rows that went through the upper blocks in all steps.
    pub tokens: u64,
    /// Floating-point operations that these needed, forward and back, counted from the shapes.
    pub flops: u64,
}

impl Timings {
    /// Seconds of all steps.
    pub fn step_s(&self) -> f64 {
        self.forward_s + self.backward_s
    }
}

/// What a run reports to. Each method may end the run with an error.
pub trait Observer {
    /// `done` of `total` pairs are cached.
    fn cached(&mut self, done: usize, total: usize) -> Result<()>;
    /// A step is done.
    fn step(&mut self, record: &StepRecord, total_steps: usize) -> Result<()>;
    /// An epoch is done; `v (layers·H)` are the vectors now.
    fn epoch(&mut self, record: &EpochRecord, v: &[f32]) -> Result<()>;
    /// Whether the user wants to stop; asked after every step.
    fn interrupted(&self) -> bool {
        false
    }
}

/// A finished or stopped run.
#[derive(Debug)]
pub struct Outcome {
    /// The vectors, lowest layer first: the best epoch's where held-out pairs were given, else the last. `(layers·H)`
    pub v: Vec<f32>,
    /// Steps done.
    pub steps: usize,
    /// Loss of the last step.
    pub final_loss: f64,
    /// Mean margin of the last step, times its direction.
    pub final_margin: f64,
    /// Epoch of `v`, where held-out pairs chose it.
    pub best_epoch: Option<usize>,
    /// Held-out margins of `v`.
    pub heldout: Option<Heldout>,
    /// Where the time went.
    pub timings: Timings,
    /// Bytes of the activation cache, in memory and in a file.
    pub cache_bytes: usize,
    /// Why the run ended early: `v` is then the last good state.
    pub stopped: Option<Error>,
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

/// Learns a vector a layer, as `config` says, from what [`plan`] laid out for the same `config`.
///
/// # Errors
/// A reference log-probability is not finite, a tensor operation or the observer fails. An interruption and a loss that is
/// not finite are no errors but `Outcome::stopped`.
pub fn train(model: &Model, plan: CachePlan, config: &TrainConfig, observer: &mut dyn Observer) -> Result<Outcome> {
    let started = Instant::now();
    let cache_bytes = plan.size().total().0 as usize;
    let mut sets = plan.compute(|done, total| observer.cached(done, total))?;
    let data = sets.remove(0);
    let heldout = sets.pop();
    let cache_s = started.elapsed().as_secs_f64();
    let mut outcome = train_on(model, &data, heldout.as_ref(), config, observer)?;
    outcome.timings.cache_s = cache_s;
    outcome.cache_bytes = cache_bytes;
    Ok(outcome)
}

/// As [`train`] on what is cached already; its outcome knows nothing of the cache.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    model: &Model,
    data: &Activations,
    heldout: Option<&Activations>,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let started = Instant::now();
    let mut trainer = Trainer::new(model, config, data);
    let mut best: Option<(usize, Heldout, Vec<f32>)> = None;
    let mut stopped = None;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..data.entries.len()).collect();
    let total_steps = config.total_steps(order.len());
    'epochs: for epoch in 1..=config.epochs {
        order.shuffle(&mut rng);
        for batch in order.chunks(config.batch_size) {
            if trainer.steps == total_steps {
                break;
            }
            let d = config.direction.draw(&mut rng);
            match trainer.step(batch, d, epoch) {
                Ok(record) => observer.step(&record, total_steps)?,
                Err(error @ Error::NotFinite(_)) => stopped = Some(error),
                Err(error) => return Err(error),
            }
            if stopped.is_none() && observer.interrupted() {
                stopped = Some(Error::Interrupted);
            }
            if stopped.is_some() {
                break 'epochs;
            }
        }
        let heldout = heldout.map(|set| trainer.evaluate(set)).transpose()?;
        let is_best = heldout.is_some_and(|now| best.as_ref().is_none_or(|(_, best, _)| now.loss < best.loss));
        observer.epoch(&EpochRecord { epoch, step: trainer.steps, heldout, best: is_best }, &trainer.v)?;
        if let Some(heldout) = heldout.filter(|_| is_best) {
            best = Some((epoch, heldout, trainer.v.clone()));
        }
        if trainer.steps == total_steps {
            break;
        }
    }
    let mut timings = trainer.timings;
    timings.other_s = started.elapsed().as_secs_f64() - timings.forward_s - timings.backward_s - timings.eval_s;
    let (best_epoch, heldout, v) = match best {
        Some((epoch, heldout, v)) => (Some(epoch), Some(heldout), v),
        None => (None, None, trainer.v),
    };
    Ok(Outcome {
        v,
        steps: trainer.steps,
        final_loss: trainer.last_loss,
        final_margin: trainer.last_margin,
        best_epoch,
        heldout,
        timings,
        cache_bytes: 0,
        stopped,
    })
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

/// The state of a run: one call of [`Trainer::step`] a step.
#[derive(Debug)]
pub struct Trainer<'a> {
    model: &'a Model,
    config: &'a TrainConfig,
    data: &'a Activations,
    schedule: Schedule,
    optimiser: AdamW,
    /// The vectors, one behind the other, lowest layer first. `(layers·H)`
    pub v: Vec<f32>,
    /// Gradient of the last step, before clipping. `(layers·H)`
    pub gradient: Vec<f32>,
    /// Steps done.
    pub steps: usize,
    last_loss: f64,
    last_margin: f64,
    timings: Timings,
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
        let len = config.layers.as_slice().len() * model.config.hidden_size;
        Self {
            model,
            config,
            data,
            schedule: config.schedule(data.entries.len()),
            optimiser: AdamW::new(len, config.weight_decay),
            v: config.init.clone().unwrap_or_else(|| vec![0.0; len]),
            gradient: vec![0.0; len],
            steps: 0,
            last_loss: f64::NAN,
            last_margin: f64::NAN,
            timings: Timings::default(),
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
        let lr = self.schedule.at(self.steps);
        let grad_norm = clip_grad_norm(&mut gradient, self.config.max_grad_norm);
        self.optimiser.step(&mut self.v, &gradient, lr);
        self.steps += 1;
        let margin = mean(margins.iter().copied());
        (self.last_loss, self.last_margin) = (loss, d * margin);
        Ok(StepRecord {
            step: self.steps,
            epoch,
            rows,
            d,
            loss,
            margin,
            accuracy: mean(margins.iter().map(|m| f64::from(d * m > 0.0))),
            lr,
            grad_norm,
            vector_norm: l2_norm(&self.v),
            tokens,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Margins at d = ±1 on held-out pairs.
    pub fn evaluate(&mut self, heldout: &Activations) -> Result<Heldout> {
        let started = Instant::now();
        let margins = |d: f32| -> Result<Vec<f64>> {
            let scores = heldout.score(self.model, &self.shifts(d)?)?;
            let beta = self.config.beta;
            Ok(scores.iter().zip(&heldout.entries).map(|(score, entry)| margin(beta, *score, entry.reference)).collect())
        };
        let (positive, negative) = (margins(1.0)?, margins(-1.0)?);
        self.timings.eval_s += started.elapsed().as_secs_f64();
        let losses = positive.iter().map(|m| -log_sigmoid(*m)).chain(negative.iter().map(|m| -log_sigmoid(-m)));
        Ok(Heldout {
            positive_margin: mean(positive.iter().copied()),
            negative_margin: mean(negative.iter().copied()),
            positive_right: mean(positive.iter().map(|m| f64::from(*m > 0.0))),
            negative_right: mean(negative.iter().map(|m| f64::from(*m < 0.0))),
            loss: mean(losses),
        })
    }

    fn shifts(&self, d: f32) -> Result<Vec<Shift>> {
        Shift::all(&self.config.layers, &self.v, d, self.model)
    }

    /// All pairs in one pass, or in several where one would save too much for its gradient.
    fn loss_and_gradient(&mut self, entries: &[&Entry], d: f64) -> Result<BatchLoss> {
        let mut whole = BatchLoss { loss: 0.0, margins: Vec::new(), gradient: vec![0.0; self.v.len()], rows: 0 };
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

    fn pass(&mut self, entries: &[&Entry], d: f64) -> Result<BatchLoss> {
        let started = Instant::now();
        let (batch, residual) = self.data.batch(self.model, entries)?; // residual (R, H)
        let pass = batch.upper(&residual, self.data.layer, &self.shifts(d as f32)?, Gradient::Wanted)?;
        let reference: Vec<_> = entries.iter().map(|entry| entry.reference).collect();
        let Loss { value, margins, gradients } = bidirectional_dpo(self.config.beta, d, &pass.log_probs, &reference);
        self.timings.forward_s += started.elapsed().as_secs_f64();

        let started = Instant::now();
        let mut gradient = batch.vjp(pass, &gradients)?;
        gradient.iter_mut().for_each(|g| *g *= d as f32);
        self.timings.backward_s += started.elapsed().as_secs_f64();
        self.timings.tokens += batch.rows() as u64;
        self.timings.flops += batch.flops(self.data.layer);
        Ok(BatchLoss { loss: value, margins, gradient, rows: batch.rows() })
    }

    fn check_finite(&self, loss: f64, margins: &[f64], gradient: &[f32], rows: &[usize]) -> Result<()> {
        let step = self.steps + 1;
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
    let rows: usize = entries.iter().map(|entry| entry.rows.live_rows().count()).sum();
    (rows * model.saved_bytes_a_row(layer + 1)).div_ceil(limit).clamp(1, entries.len())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}
