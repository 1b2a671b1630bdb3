//! The shortest way to a vector: the paper's settings, and a run that nobody watches. What a program shows, keeps or resumes
//! goes through [`train`] instead.

use super::activations::CacheOptions;
use super::optim::Scheduler;
use super::{Direction, EpochRecord, Observer, Outcome, StepRecord, TrainConfig, TrainState, plan, train};
use crate::Result;
use crate::model::Model;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::text::tokens::EncodedPair;

/// Learns a vector a layer from these pairs, as `config` says: [`plan`], then [`train`] from the start, with nobody watching.
///
/// # Errors
/// As [`plan`] and [`train`].
pub fn learn(model: &Model, pairs: &[EncodedPair], config: &TrainConfig) -> Result<Outcome> {
    let plan = plan(model, pairs, None, config)?;
    let state = TrainState::new(config, model.config.hidden_size, pairs.len());
    train(model, plan, config, state, &mut ())
}

impl TrainConfig {
    /// The paper's settings for vectors at these layers, with its learning rate for models of 7 billion parameters: smaller
    /// ones learn faster.
    pub fn at(layers: impl Into<Layers>) -> Self {
        Self {
            layers: layers.into(),
            epochs: 5,
            max_steps: None,
            schedule_epochs: None,
            batch_size: 4,
            lr: 5e-4,
            beta: 0.1,
            direction: Direction::Sign,
            max_grad_norm: Some(1.0),
            positions: Positions::All,
            weight_decay: 0.05,
            warmup_steps: 100,
            scheduler: Scheduler::Cosine,
            seed: 11,
            init: None,
            cache: CacheOptions::default(),
        }
    }
}

/// Nobody watches.
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
