//! What happens while a run trains: each step, epoch and checkpoint is written as it comes, and progress is shown.

use std::path::Path;
use std::time::{Duration, Instant};

use bipo::Result;
use bipo::report::card;
use bipo::steering::vector::SteeringVector;
use bipo::train::checkpoint;
use bipo::train::{EpochRecord, Moment, Observer, StepRecord, TrainState};
use serde_json::{Value, json};

use super::metrics::Metrics;
use super::outcome::margins;
use crate::args::TrainArgs;
use crate::commands::interrupt::Interrupt;
use crate::terminal::{Log, Progress};

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
pub struct TrainObserver<'a> {
    log: Log,
    output_dir: &'a Path,
    pub metrics: Metrics,
    vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector,
    settings: &'a Value,
    checkpoint_every: Option<usize>,
    saved: Instant,
    cache_progress: Option<Progress>,
    step_progress: Option<Progress>,
    interrupt: Interrupt,
}

impl<'a> TrainObserver<'a> {
    /// An observer of a run that has done `steps` steps.
    pub fn new(
        args: &'a TrainArgs,
        log: Log,
        vector_of: &'a dyn Fn(&[f32], Value) -> SteeringVector,
        settings: &'a Value,
        steps: usize,
        interrupt: Interrupt,
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
            interrupt,
        })
    }

    pub fn finish(&self) {
        self.step_progress.iter().chain(&self.cache_progress).for_each(Progress::finish);
    }
}

impl Observer for TrainObserver<'_> {
    fn cached(&mut self, done: usize, total: usize) -> Result<()> {
        let log = self.log;
        let progress = self.cache_progress.get_or_insert_with(|| log.progress("caching", total));
        progress.set(done, String::new);
        if done == total {
            progress.finish();
        }
        self.interrupt.check()
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
            self.log.info(format!(
                "epoch {}: held out {}{best}",
                record.epoch,
                margins(&heldout, card::heldout_pairs(self.settings))
            ));
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
        self.interrupt.is_raised()
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
