//! The training loop, from top to bottom: a run, its epochs, their steps, the passes of a step. It writes no file and prints
//! nothing: the observer does.

use std::time::Instant;

use candle_core::Tensor;

use super::activations::{Activations, CachePlan, CachedPair};
use super::batch::Batch;
use super::collective::GradientPart;
use super::config::{Direction, Factor, TrainConfig};
use super::objective::{Loss, Objective, PairLogProbs, PairReference};
use super::observer::{Moment, Observer};
use super::optim::{Schedule, clip_grad_norm};
use super::records::{EpochRecord, Heldout, Outcome, StepRecord, Timings};
use super::state::TrainState;
use crate::model::Model;
use crate::ops::head::Gradient;
use crate::steering::dose::l2_norm;
use crate::steering::{Operation, Steering};
use crate::text::tokens::EncodedPair;
use crate::{Error, Result};

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
    CachePlan::new(model, &sets, config.layers.lowest(), (config.positions, config.sharing()), &config.cache)
}

/// Learns a vector a layer from these pairs, as `config` says: [`plan`], then [`train`] from the start, without an observer.
///
/// # Errors
/// As [`plan`] and [`train`].
pub fn learn(model: &Model, pairs: &[EncodedPair], config: &TrainConfig) -> Result<Outcome> {
    let plan = plan(model, pairs, None, config)?;
    let state = TrainState::new(config, model.config.hidden_size, pairs.len());
    train(model, plan, config, state, &mut ())
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
    state: TrainState,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let cached = cache(plan, observer)?;
    train_cached(model, cached, config, state, observer)
}

/// The activations of a run.
#[derive(Debug)]
pub struct Cached {
    data: Activations,
    heldout: Option<Activations>,
    bytes: usize,
    seconds: f64,
}

/// Computes what [`plan`] laid out, the first half of [`train`]. What follows runs the blocks above the lowest layer alone:
/// [`Model::release`] lets go of the others.
///
/// # Errors
/// As [`train`].
pub fn cache(plan: CachePlan, observer: &mut dyn Observer) -> Result<Cached> {
    let started = Instant::now();
    let bytes = plan.size().total().0 as usize;
    let mut sets = plan.compute(|done, total| observer.cached(done, total))?;
    let data = sets.remove(0);
    Ok(Cached { data, heldout: sets.pop(), bytes, seconds: started.elapsed().as_secs_f64() })
}

/// Learns from the activations of a run, the second half of [`train`].
///
/// # Errors
/// As [`train`].
pub fn train_cached(
    model: &Model,
    Cached { data, heldout, bytes, seconds }: Cached,
    config: &TrainConfig,
    mut state: TrainState,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    state.timings.cache_s += seconds;
    let mut outcome = Trainer::from_state(model, config, &data, state)?.run(heldout.as_ref(), observer)?;
    outcome.cache_bytes = bytes;
    Ok(outcome)
}

/// A run: one call of [`Trainer::step`] a step, [`Trainer::run`] for all of them.
#[derive(Debug)]
pub struct Trainer<'a> {
    model: &'a Model,
    config: &'a TrainConfig,
    data: &'a Activations,
    objective: Objective,
    schedule: Schedule,
    /// Everything that a step changes.
    pub state: TrainState,
    /// Gradient of the last step, before clipping. `(layers·H)`
    pub gradient: Vec<f32>,
    started: Instant,
    /// The state's, when this process began with it.
    earlier: Timings,
}

impl<'a> Trainer<'a> {
    /// v where the config starts it; no step done.
    pub fn new(model: &'a Model, config: &'a TrainConfig, data: &'a Activations) -> Self {
        let state = TrainState::new(config, model.config.hidden_size, data.pairs());
        Self::with(model, config, data, state)
    }

    /// Continues from `state`.
    ///
    /// # Errors
    /// `state` is that of a run with other sizes.
    pub(crate) fn from_state(
        model: &'a Model,
        config: &'a TrainConfig,
        data: &'a Activations,
        state: TrainState,
    ) -> Result<Self> {
        state.check(config, config.layers.as_slice().len() * model.config.hidden_size, data.pairs())?;
        Ok(Self::with(model, config, data, state))
    }

    fn with(model: &'a Model, config: &'a TrainConfig, data: &'a Activations, mut state: TrainState) -> Self {
        state.optimiser.weight_decay = config.weight_decay;
        Self {
            model,
            config,
            data,
            objective: config.objective(),
            schedule: config.schedule(config.lr, data.pairs()),
            gradient: vec![0.0; state.v.len()],
            started: Instant::now(),
            earlier: state.timings,
            state,
        }
    }

    /// Takes all steps that are left; its outcome knows nothing of the cache.
    ///
    /// # Errors
    /// As [`train`].
    pub fn run(mut self, heldout: Option<&Activations>, observer: &mut dyn Observer) -> Result<Outcome> {
        let total_steps = self.config.total_steps(self.data.pairs());
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
            let factors = self.config.factor.draw(self.config.has_factors_apart(), batch.len(), &mut rng);
            match self.step_by(&batch, d, &factors, self.state.epoch) {
                Ok(record) => {
                    self.state.rng = rng;
                    self.state.done += batch.len();
                    observer.step(&record, total_steps)?;
                }
                Err(error @ Error::NotFinite(_)) => return Ok(Some(error)),
                Err(error) => return Err(error),
            }
            if self.data.collective().any(observer.interrupted())? {
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
        let v = self.state.scaled();
        observer.epoch(&record, &v)?;
        self.state.epochs.push(record);
        if best {
            self.state.best_v = Some(v);
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
        let v = self.state.scaled();
        let TrainState { steps, last_loss, last_margin, epochs, best_v, timings, .. } = self.state;
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

    /// One step on the entries at `batch`, with v multiplied by the direction `d`.
    ///
    /// # Errors
    /// The loss or the gradient is not finite (v is left as it was), or a tensor operation fails.
    pub fn step(&mut self, batch: &[usize], d: f64, epoch: usize) -> Result<StepRecord> {
        self.step_by(batch, d, &vec![[1.0; 2]; batch.len()], epoch)
    }

    /// Takes a step like [`Trainer::step`], with a factor on v for the chosen and the rejected response of each pair. They
    /// differ only where the activations were laid out for that.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_by(&mut self, batch: &[usize], d: f64, factors: &[[f32; 2]], epoch: usize) -> Result<StepRecord> {
        let started = Instant::now();
        let rows: Vec<usize> = batch.iter().map(|pair| self.data.data_rows[*pair]).collect();
        let GradientPart { loss, margins, mut gradient, rows: tokens } = self.loss_and_gradient(batch, d, factors)?;
        self.check_finite(loss, &margins, &gradient, &rows)?;
        self.gradient.clone_from(&gradient);
        let lr = self.schedule.at(self.state.steps);
        let before = (self.state.v.clone(), self.state.optimiser.clone(), self.state.factor.clone());
        self.step_factor(&gradient);
        let grad_norm = clip_grad_norm(&mut gradient, self.config.max_grad_norm);
        let state = &mut self.state;
        state.optimiser.step(&mut state.v, &gradient, lr);
        let scaled = state.scaled();
        if !scaled.iter().chain(&state.v).all(|x| x.is_finite()) {
            (state.v, state.optimiser, state.factor) = before;
            return Err(Error::NotFinite(format!("step {}: the vector is not finite", state.steps + 1)));
        }
        state.steps += 1;
        let margin = mean(margins.iter().copied());
        (state.last_loss, state.last_margin) = (loss, d * margin);
        Ok(StepRecord {
            step: state.steps,
            epoch,
            rows,
            d,
            factors: if matches!(self.config.factor, Factor::Drawn(_)) { factors.to_vec() } else { Vec::new() },
            factor: state.factor.as_ref().map(|factor| factor.value),
            loss,
            margin,
            accuracy: mean(margins.iter().map(|m| f64::from(d * m > 0.0))),
            lr,
            grad_norm,
            vector_norm: l2_norm(&scaled),
            tokens,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// One update of the learned factor α, given the gradient at v. The loss depends on α·v and, where something is taken out, on
    /// v's direction alone, so that α·∂/∂α = v·∂/∂v. Its gradient is not clipped.
    fn step_factor(&mut self, gradient: &[f32]) {
        let (Some(factor), Factor::Learned { lr, .. }) = (&mut self.state.factor, &self.config.factor) else { return };
        let along: f64 = self.state.v.iter().zip(gradient).map(|(v, g)| f64::from(*v) * f64::from(*g)).sum();
        let slope = if factor.value == 0.0 { 0.0 } else { along / f64::from(factor.value) };
        let lr = self.config.schedule(*lr, self.data.pairs()).at(self.state.steps);
        factor.optimiser.step(std::slice::from_mut(&mut factor.value), &[slope as f32], lr);
    }

    /// Margins at d = ±1 on held-out pairs.
    pub fn evaluate(&mut self, heldout: &Activations) -> Result<Heldout> {
        let started = Instant::now();
        let loss = |d: f64| -> Result<Loss> {
            let (policy, references) = self.scored(heldout, d)?;
            Ok(self.objective.loss(d, &policy, &references))
        };
        let (positive, negative) = (loss(1.0)?, loss(-1.0)?);
        self.state.timings.eval_s += started.elapsed().as_secs_f64();
        Ok(Heldout {
            positive_margin: mean(positive.margins.iter().copied()),
            negative_margin: mean(negative.margins.iter().copied()),
            positive_right: mean(positive.margins.iter().map(|m| f64::from(*m > 0.0))),
            negative_right: mean(negative.margins.iter().map(|m| f64::from(*m < 0.0))),
            loss: match self.config.direction.is_two_sided() {
                true => mean(positive.by_pair.into_iter().chain(negative.by_pair)),
                false => mean(positive.by_pair.into_iter()),
            },
        })
    }

    /// Log-probabilities of all held-out pairs, steered in direction `d`, and what they are compared with.
    fn scored(&self, heldout: &Activations, d: f64) -> Result<(Vec<PairLogProbs>, Vec<PairReference>)> {
        let policy = heldout.score(self.model, &self.steering(d, self.config.factor.typical())?)?;
        let numbers = |(entry, policy): (&CachedPair, PairLogProbs)| {
            let PairReference { log_probs, tokens } = entry.pair_reference();
            [policy[0], policy[1], log_probs[0], log_probs[1], tokens[0] as f64, tokens[1] as f64]
        };
        let own = heldout.entries.iter().zip(policy).map(numbers).collect();
        let all = heldout.gather(own)?;
        let of_pair = |[chosen, rejected, chosen_before, rejected_before, chosen_tokens, rejected_tokens]: [f64; 6]| {
            let tokens = [chosen_tokens as usize, rejected_tokens as usize];
            ([chosen, rejected], PairReference { log_probs: [chosen_before, rejected_before], tokens })
        };
        Ok(all.into_iter().map(of_pair).unzip())
    }

    /// How the residual is steered in direction `d`. Where v is added, it is multiplied by `factor` too.
    fn steering(&self, d: f64, factor: f32) -> Result<Steering> {
        let vectors = self.config.layers.split(&self.state.v);
        let device = self.model.device_at(self.config.layers.lowest() + 1);
        match self.objective {
            Objective::Reps { .. } if d < 0.0 => Steering::by(Operation::Null, &vectors, device),
            _ => Ok(Steering::new(&vectors, device)?.with_factor(d as f32 * self.state.learned_factor() * factor)),
        }
    }

    /// All pairs in one pass, or in several where one would save too much for its gradient; where other processes compute some of
    /// them, each own pair in a pass of its own. Where a step takes both directions, loss and gradient are the means over them;
    /// the margins are those of direction `d`.
    fn loss_and_gradient(&mut self, batch: &[usize], d: f64, factors: &[[f32; 2]]) -> Result<GradientPart> {
        let is_both = self.config.direction == Direction::Both;
        let own = self.data.own(batch);
        let factors: Vec<[f32; 2]> = own.iter().map(|(at, _)| factors[*at]).collect();
        let entries: Vec<&CachedPair> = own.into_iter().map(|(_, entry)| entry).collect();
        let passes = passes(self.model, &entries, self.data.layer);
        let size = self.data.share().items_a_pass(entries.len().div_ceil(passes));
        let (mut parts, mut opposites) = (Vec::with_capacity(passes), Vec::new());
        for (group, factors) in entries.chunks(size).zip(factors.chunks(size)) {
            let started = Instant::now();
            let laid_out = self.data.batch(self.model, group)?;
            self.state.timings.forward_s += started.elapsed().as_secs_f64();
            parts.push(self.pass(&laid_out, group, d, factors)?);
            if is_both {
                opposites.push(self.pass(&laid_out, group, -d, factors)?);
            }
        }
        let mut whole = self.data.collective().sum(batch, &parts)?;
        if is_both {
            let opposite = self.data.collective().sum(batch, &opposites)?;
            whole.loss = (whole.loss + opposite.loss) / 2.0;
            whole.gradient.iter_mut().zip(&opposite.gradient).for_each(|(g, o)| *g = (*g + o) / 2.0);
        }
        Ok(whole)
    }

    /// Some pairs in one pass, laid out and with the residual that it begins with. `(R, H)`
    ///
    /// With CUDA the device runs through it without the host, which waits once, at the end.
    fn pass(
        &mut self,
        (batch, residual): &(Batch, Tensor),
        entries: &[&CachedPair],
        d: f64,
        factors: &[[f32; 2]],
    ) -> Result<GradientPart> {
        let started = Instant::now();
        let steering = self.steering(d, 1.0)?;
        let rows = match steering.operation() {
            Operation::Add => batch.row_factors(factors)?,
            // All of what points along v is taken out.
            Operation::Ablate | Operation::Null => batch.row_factors(&vec![[1.0; 2]; entries.len()])?,
        };
        let pass = batch.upper_by(&rows, residual, self.data.layer, &steering, Gradient::Wanted)?;
        let references: Vec<PairReference> = entries.iter().map(|entry| entry.pair_reference()).collect();
        let slopes = batch.slopes(&pass, self.objective, d, &references)?;
        self.state.timings.forward_s += started.elapsed().as_secs_f64();

        let started = Instant::now();
        let (log_probs, mut gradient) = batch.vjp(pass, &slopes)?;
        let loss = self.objective.loss(d, &log_probs, &references);
        gradient.iter_mut().for_each(|g| *g *= steering.factor());
        self.state.timings.backward_s += started.elapsed().as_secs_f64();
        self.state.timings.tokens += batch.rows() as u64;
        self.state.timings.flops += batch.flops(self.data.layer);
        Ok(GradientPart { loss: loss.mean(), margins: loss.margins, gradient, rows: batch.rows() })
    }

    fn check_finite(&self, loss: f64, margins: &[f64], gradient: &[f32], rows: &[usize]) -> Result<()> {
        let step = self.state.steps + 1;
        if let Some(bad) = margins.iter().position(|margin| !margin.is_finite()) {
            return Err(Error::NotFinite(format!("step {step}: the margin of row {} is not finite", rows[bad])));
        }
        if !loss.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
            return Err(Error::NotFinite(format!("step {step}: the gradient of rows {rows:?} is not finite")));
        }
        Ok(())
    }
}

/// How many passes a batch takes, so that what each saves for its gradient stays under a third of the weights, or 32 MiB
/// where that is more: a step never needs much beside the model, however large the batch.
fn passes(model: &Model, entries: &[&CachedPair], layer: usize) -> usize {
    let (in_memory, mapped) = model.weight_bytes();
    let limit = ((in_memory + mapped) / 3).max(32 << 20);
    let computed = entries.iter().map(|entry| entry.rows.live_rows().count()).sum();
    let seen = entries.iter().map(|entry| entry.rows.branches.rows()).sum();
    model.saved_bytes(layer + 1, computed, seen).div_ceil(limit).clamp(1, entries.len().max(1))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}
