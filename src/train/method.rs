//! The methods that get a vector from pairs, each with the settings of its source, so that they can be compared.

use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

use super::config::{Factor, LARGE_LR, LEARNED_START, ObjectiveName, TrainConfig};
use super::optim::Scheduler;
use crate::steering::positions::Positions;
use crate::text::ends::Ends;

/// A way to get a vector from pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Method {
    /// Bi-directional preference optimisation, arXiv 2406.00045.
    Bipo,
    /// BiPO's loss in the direction +1 alone, arXiv 2305.18290.
    Dpo,
    /// Preference without a reference model, arXiv 2405.14734.
    SimPo,
    /// Reference-free preference steering, arXiv 2505.20809.
    Reps,
    /// Language modelling of the chosen responses.
    Lm,
    /// SimPO with a learned factor at the first and the last two tokens of the prompt, arXiv 2605.05983.
    ProSv,
    /// The mean difference of activations, arXiv 2312.06681.
    Caa,
    /// The first principal component of the differences, arXiv 2310.01405.
    Pca,
}

impl Method {
    /// Positions at which the method's vector is added.
    pub fn positions(self) -> Positions {
        match self {
            Self::ProSv => Positions::Ends(Ends { first: 2, last: 2, response: false }),
            _ => Positions::All,
        }
    }

    /// The settings of a run. `base` has what all methods share: layer, length of the run, batch size, seed and cache, and the
    /// learning rate and schedule of those that learn by small steps. A method that learns nothing takes its places alone.
    pub fn config(self, base: &TrainConfig) -> TrainConfig {
        let objective = match self {
            Self::Bipo | Self::Caa | Self::Pca => ObjectiveName::Bipo,
            Self::Dpo => ObjectiveName::Dpo,
            Self::SimPo | Self::ProSv => ObjectiveName::SimPo,
            Self::Reps => ObjectiveName::Reps,
            Self::Lm => ObjectiveName::Lm,
        };
        let config = TrainConfig {
            objective,
            beta: objective.default_beta(),
            direction: objective.default_direction(),
            factor: objective.default_factor(),
            init_scale: objective.default_init_scale(),
            positions: self.positions(),
            ..base.clone()
        };
        let by_large_steps =
            TrainConfig { lr: LARGE_LR, weight_decay: 0.0, warmup_steps: 0, scheduler: Scheduler::Linear, ..config.clone() };
        match self {
            Self::Reps => by_large_steps,
            Self::ProSv => TrainConfig { factor: Factor::LEARNED, init_scale: LEARNED_START, ..by_large_steps },
            _ => config,
        }
    }

    /// Whether the method takes steps.
    pub fn learns(self) -> bool {
        !matches!(self, Self::Caa | Self::Pca)
    }
}
