//! Whom a run tells, and when.

use super::records::{EpochRecord, StepRecord};
use super::state::TrainState;
use crate::Result;

/// When a run offers its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After a step.
    Step,
    /// After an epoch that is not the last.
    Epoch,
    /// The run ends early.
    Stopped,
}

/// What a run reports to. Each method may end the run with an error.
pub trait Observer {
    /// `done` of `total` pairs are cached.
    fn cached(&mut self, done: usize, total: usize) -> Result<()>;
    /// A step is done.
    fn step(&mut self, record: &StepRecord, total_steps: usize) -> Result<()>;
    /// An epoch is done; `v (layers·H)` are the vectors now.
    fn epoch(&mut self, record: &EpochRecord, v: &[f32]) -> Result<()>;
    /// The run can be continued from `state`.
    fn checkpoint(&mut self, _state: &TrainState, _moment: Moment) -> Result<()> {
        Ok(())
    }
    /// Whether the user wants to stop; asked after every step.
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that does nothing.
impl Observer for () {
    fn cached(&mut self, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, _: &StepRecord, _: usize) -> Result<()> {
        Ok(())
    }

    fn epoch(&mut self, _: &EpochRecord, _: &[f32]) -> Result<()> {
        Ok(())
    }
}
