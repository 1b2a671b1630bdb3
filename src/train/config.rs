//! The settings of a run: what is recorded with its vector, and what two runs must share to give the same bytes.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::activations::CacheOptions;
use super::objective::Objective;
use super::optim::{Schedule, Scheduler};
use crate::model::Model;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::{Error, Result};

/// γ of SimPO where none is given: half of its β, as the paper recommends.
pub const DEFAULT_GAMMA: f64 = 1.0;

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
    /// +1 in every step.
    Positive,
}

impl Direction {
    /// Whether a run learns from the direction −1 too.
    pub fn is_two_sided(self) -> bool {
        self != Self::Positive
    }

    /// The factor of one step; for [`Direction::Both`] it is +1, the other sign is taken in the same step.
    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Sign => {
                if rng.random::<bool>() {
                    1.0
                } else {
                    -1.0
                }
            }
            Self::Uniform => rng.random_range(-1.0..=1.0),
            Self::Both | Self::Positive => 1.0,
        }
    }
}

/// What a run minimises, by name; [`Objective`] has the formulas.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ObjectiveName {
    /// [`Objective::Bipo`] in both directions.
    #[default]
    Bipo,
    /// [`Objective::Bipo`] in the direction +1 alone.
    Dpo,
    /// [`Objective::SimPo`].
    SimPo,
    /// [`Objective::Lm`].
    Lm,
}

impl ObjectiveName {
    /// The strength of the preference in its source.
    pub fn default_beta(self) -> f64 {
        match self {
            Self::Bipo | Self::Dpo | Self::Lm => 0.1,
            Self::SimPo => 2.0,
        }
    }

    /// How its directions are drawn in its source.
    pub fn default_direction(self) -> Direction {
        match self {
            Self::Bipo => Direction::Sign,
            Self::Dpo | Self::SimPo | Self::Lm => Direction::Positive,
        }
    }
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
    /// What the steps minimise.
    #[serde(default)]
    pub objective: ObjectiveName,
    /// Strength of the preference.
    pub beta: f64,
    /// The γ of SimPO, which no other objective has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
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
    /// The paper's settings for vectors at these layers, with its learning rate for models of 7 billion parameters. Smaller
    /// models learn faster.
    pub fn at(layers: impl Into<Layers>) -> Self {
        Self {
            layers: layers.into(),
            epochs: 5,
            max_steps: None,
            schedule_epochs: None,
            batch_size: 4,
            lr: 5e-4,
            objective: ObjectiveName::Bipo,
            beta: 0.1,
            gamma: None,
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

    /// Steps of one pass over `pairs` pairs.
    pub fn steps_per_epoch(&self, pairs: usize) -> usize {
        pairs.div_ceil(self.batch_size)
    }

    /// Steps of the run.
    pub fn total_steps(&self, pairs: usize) -> usize {
        let steps = self.epochs * self.steps_per_epoch(pairs);
        self.max_steps.map_or(steps, |max| max.min(steps))
    }

    /// What its steps minimise.
    pub(super) fn objective(&self) -> Objective {
        let beta = self.beta;
        match self.objective {
            ObjectiveName::Bipo | ObjectiveName::Dpo => Objective::Bipo { beta },
            ObjectiveName::SimPo => Objective::SimPo { beta, gamma: self.gamma.unwrap_or(DEFAULT_GAMMA) },
            ObjectiveName::Lm => Objective::Lm { beta },
        }
    }

    pub(super) fn schedule(&self, pairs: usize) -> Schedule {
        let total_steps = match self.schedule_epochs {
            Some(epochs) => epochs * self.steps_per_epoch(pairs),
            None => self.total_steps(pairs),
        };
        Schedule { scheduler: self.scheduler, lr: self.lr, warmup_steps: self.warmup_steps, total_steps }
    }

    /// Checks that objective, direction and γ go together: this needs no model.
    ///
    /// # Errors
    /// They do not.
    pub fn check_objective(&self) -> Result<()> {
        let (objective, positive) = (self.objective, Direction::Positive);
        if objective != ObjectiveName::Bipo && self.direction != positive {
            let problem =
                format!("the objective {objective} learns in the direction +1 alone: expected the direction positive");
            return Err(Error::Argument(problem));
        }
        if self.gamma.is_some() && objective != ObjectiveName::SimPo {
            return Err(Error::Argument(format!("the objective {objective} has no gamma: simpo alone has one")));
        }
        Ok(())
    }

    pub(super) fn check(&self, model: &Model) -> Result<()> {
        self.layers.check(model.num_blocks())?;
        let expected = self.layers.as_slice().len() * model.config.hidden_size;
        if let Some(found) = self.init.as_ref().map(Vec::len).filter(|found| *found != expected) {
            return Err(Error::Argument(format!("the vectors to start from have {found} elements, expected {expected}")));
        }
        self.check_objective()?;
        if self.batch_size == 0 || self.epochs == 0 {
            return Err(Error::Argument("batch size and epochs must be at least 1".into()));
        }
        Ok(())
    }
}
