//! The settings of a run: what is recorded with its vector, and what two runs must share to give the same bytes.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::activations::CacheOptions;
use super::batch::Sharing;
use super::objective::Objective;
use super::optim::{Schedule, Scheduler};
use crate::model::Model;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::{Error, Result};

/// The least and the most of RePS's own factors for Gemma 2, two apart.
const REPS_FACTORS: std::ops::RangeInclusive<u8> = 2..=20;

/// Peak learning rate of the methods that multiply v by a large factor: that of RePS (arXiv 2505.20809) and PrOSV (arXiv
/// 2605.05983) for Gemma-2-2B.
pub const LARGE_LR: f64 = 0.04;

/// Start of a learned factor, times √H, as PrOSV (arXiv 2605.05983) has it for Gemma-2-2B.
pub const FACTOR_SCALE: f64 = 4.0;
/// Peak learning rate of a learned factor, as for [`FACTOR_SCALE`].
pub const FACTOR_LR: f64 = 20.0;

/// Scale of v's start beside a learned factor, times 1/√H: PrOSV, arXiv 2605.05983.
pub const LEARNED_START: f64 = 8.0;

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
    pub(crate) fn is_two_sided(self) -> bool {
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
    /// The loss [`Objective::SimPo`].
    SimPo,
    /// [`Objective::Reps`], the mean of both directions.
    Reps,
    /// The loss [`Objective::Lm`].
    Lm,
}

impl ObjectiveName {
    /// The strength of the preference in its source.
    pub fn default_beta(self) -> f64 {
        match self {
            Self::Bipo | Self::Dpo | Self::Reps | Self::Lm => 0.1,
            Self::SimPo => 2.0,
        }
    }

    /// How its directions are drawn in its source.
    pub fn default_direction(self) -> Direction {
        match self {
            Self::Bipo => Direction::Sign,
            Self::Reps => Direction::Both,
            Self::Dpo | Self::SimPo | Self::Lm => Direction::Positive,
        }
    }

    /// The factor on v that the method's source uses; RePS's factors are for Gemma 2.
    pub fn default_factor(self) -> Factor {
        match self {
            Self::Reps => Factor::Drawn(REPS_FACTORS.step_by(2).map(f32::from).collect()),
            Self::Bipo | Self::Dpo | Self::SimPo | Self::Lm => Factor::One,
        }
    }

    /// Scale of v's start in the method's source, times 1/√H: where nothing points along v there is nothing for RePS to take
    /// out.
    pub fn default_init_scale(self) -> f64 {
        match self {
            Self::Reps => 1.0,
            Self::Bipo | Self::Dpo | Self::SimPo | Self::Lm => 0.0,
        }
    }
}

/// Source of the factor that a step multiplies v with, beside its direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Factor {
    /// The factor is 1.
    #[default]
    One,
    /// Each step draws one of these; RePS one for each response.
    Drawn(Vec<f32>),
    /// One factor for all vectors is learned beside them. What is kept of the run is v times it.
    Learned {
        /// Start of the factor, times √H.
        scale: f64,
        /// Peak learning rate of the factor; v has its own.
        lr: f64,
    },
}

impl Factor {
    /// A learned factor as in PrOSV.
    pub(crate) const LEARNED: Self = Self::Learned { scale: FACTOR_SCALE, lr: FACTOR_LR };

    fn is_one(&self) -> bool {
        *self == Self::One
    }

    /// The factor that held-out pairs are scored at: the mean of those that are drawn.
    pub(super) fn typical(&self) -> f32 {
        match self {
            Self::Drawn(factors) => factors.iter().sum::<f32>() / factors.len() as f32,
            Self::One | Self::Learned { .. } => 1.0,
        }
    }

    /// The factors of chosen and rejected response of each of `pairs` pairs: `apart` says whether each has its own.
    pub(super) fn draw(&self, apart: bool, pairs: usize, rng: &mut ChaCha8Rng) -> Vec<[f32; 2]> {
        let Self::Drawn(factors) = self else { return vec![[1.0; 2]; pairs] };
        let mut one = || factors[rng.random_range(0..factors.len())];
        match apart {
            true => (0..pairs).map(|_| [one(), one()]).collect(),
            false => vec![[one(); 2]; pairs],
        }
    }
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
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
    /// Number of pairs in a step.
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
    /// Positions at which the vector is added.
    pub positions: Positions,
    /// Decoupled decay, a factor of the learning rate.
    pub weight_decay: f64,
    /// Steps of the linear warmup.
    pub warmup_steps: usize,
    /// Fall of the learning rate after it.
    pub scheduler: Scheduler,
    /// Seed of shuffles and directions.
    pub seed: u64,
    /// Start of the vectors, one behind the other, lowest layer first; zero where none. `(layers·H)`
    #[serde(skip)]
    pub init: Option<Vec<f32>>,
    /// Scale of a random start in place of zero, if `init` does not say one: uniform in ±`init_scale`/√H.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub init_scale: f64,
    /// Source of the factor on v.
    #[serde(default, skip_serializing_if = "Factor::is_one")]
    pub factor: Factor,
    /// Place of the cache, and the processes that share the pairs: the vector does not depend on the former, nor on how many
    /// those are.
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
            init_scale: 0.0,
            factor: Factor::One,
            cache: CacheOptions::default(),
        }
    }

    /// Steps of one pass over `pairs` pairs.
    pub(crate) fn steps_per_epoch(&self, pairs: usize) -> usize {
        pairs.div_ceil(self.batch_size)
    }

    /// Steps of the run.
    pub fn total_steps(&self, pairs: usize) -> usize {
        let steps = self.epochs * self.steps_per_epoch(pairs);
        self.max_steps.map_or(steps, |max| max.min(steps))
    }

    /// The objective that the run's steps minimise.
    pub(super) fn objective(&self) -> Objective {
        let beta = self.beta;
        match self.objective {
            ObjectiveName::Bipo | ObjectiveName::Dpo => Objective::Bipo { beta },
            ObjectiveName::SimPo => Objective::SimPo { beta, gamma: self.gamma.unwrap_or(DEFAULT_GAMMA) },
            ObjectiveName::Reps => Objective::Reps { beta },
            ObjectiveName::Lm => Objective::Lm { beta },
        }
    }

    /// Whether the responses of a pair have factors of their own.
    pub fn has_factors_apart(&self) -> bool {
        self.objective == ObjectiveName::Reps && matches!(self.factor, Factor::Drawn(_))
    }

    /// The rows that the responses of a pair share.
    pub fn sharing(&self) -> Sharing {
        if self.has_factors_apart() { Sharing::Unsteered } else { Sharing::All }
    }

    /// The schedule of what has the peak learning rate `lr`.
    pub(super) fn schedule(&self, lr: f64, pairs: usize) -> Schedule {
        let total_steps = match self.schedule_epochs {
            Some(epochs) => epochs * self.steps_per_epoch(pairs),
            None => self.total_steps(pairs),
        };
        Schedule { scheduler: self.scheduler, lr, warmup_steps: self.warmup_steps, total_steps }
    }

    /// Checks that objective, direction, γ and factors go together: this needs no model.
    ///
    /// # Errors
    /// Two of them exclude each other; the message names them.
    pub fn check_objective(&self) -> Result<()> {
        let objective = self.objective;
        let only = objective.default_direction();
        if objective != ObjectiveName::Bipo && self.direction != only {
            let problem = match only {
                Direction::Both => format!("the objective {objective} is a mean of two terms: expected the direction both"),
                _ => format!("the objective {objective} learns in the direction +1 alone: expected the direction positive"),
            };
            return Err(Error::Argument(problem));
        }
        if self.gamma.is_some() && objective != ObjectiveName::SimPo {
            return Err(Error::Argument(format!("the objective {objective} has no gamma: simpo alone has one")));
        }
        if let Factor::Drawn(factors) = &self.factor
            && (factors.is_empty() || factors.iter().any(|factor| !factor.is_finite() || *factor <= 0.0))
        {
            return Err(Error::Argument(format!("the factors {factors:?} are not all above 0: the direction has the sign")));
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
