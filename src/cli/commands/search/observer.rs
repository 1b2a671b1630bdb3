//! The progress of all runs of a search as one.

use bipo::Result;
use bipo::train::{EpochRecord, Observer, StepRecord};

use crate::commands::interrupt::Interrupt;
use crate::terminal::{Log, Progress};

/// Shows the progress of all runs as one.
pub struct SearchObserver {
    caching: Progress,
    training: Option<Progress>,
    log: Log,
    steps: usize,
    total_steps: usize,
    interrupt: Interrupt,
}

impl SearchObserver {
    pub fn new(log: Log, pairs: usize, total_steps: usize, interrupt: Interrupt) -> Self {
        let caching = log.progress("caching", pairs);
        Self { caching, training: None, log, steps: 0, total_steps, interrupt }
    }

    pub fn finish(&self) {
        self.training.iter().for_each(Progress::finish);
    }
}

impl Observer for SearchObserver {
    fn cached(&mut self, done: usize, total: usize) -> Result<()> {
        self.caching.set(done, String::new);
        if done == total {
            self.caching.finish();
        }
        self.interrupt.check()
    }

    fn step(&mut self, record: &StepRecord, _: usize) -> Result<()> {
        self.steps += 1;
        let (log, total) = (self.log, self.total_steps);
        let progress = self.training.get_or_insert_with(|| log.progress("training", total));
        progress.set(self.steps, || format!("loss {:.4}", record.loss));
        Ok(())
    }

    fn epoch(&mut self, _: &EpochRecord, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}
