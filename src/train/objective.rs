//! What a step minimises: from the log-probabilities of pairs' responses, and the direction, to a loss, a margin and slopes of
//! each pair. These are pure functions; which token belongs to which response is the business of `responses`.

/// Log-probabilities of a pair's two responses, summed over their tokens, nats: chosen, rejected.
pub type PairLogProbs = [f64; 2];

/// log σ(x) without overflow or cancellation.
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// β·\[(log π_d(chosen) − log π(chosen)) − (log π_d(rejected) − log π(rejected))\]
pub fn margin(beta: f64, policy: PairLogProbs, reference: PairLogProbs) -> f64 {
    beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
}

/// What training knows of a pair without steering it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairReference {
    /// Log-probabilities of the responses under the unsteered model.
    pub log_probs: PairLogProbs,
    /// Number of tokens of the responses: chosen, rejected.
    pub tokens: [usize; 2],
}

/// A loss over pairs of responses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Bi-directional preference optimisation, arXiv 2406.00045, algorithm 1: −log σ(d·margin) of a policy steered by d·v. It
    /// does not look at the number of tokens.
    Bipo {
        /// Strength of the preference.
        beta: f64,
    },
}

/// The loss of some pairs, and what follows from it. Each list is in the order of the pairs.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Loss of each pair.
    pub by_pair: Vec<f64>,
    /// Margin of each pair, before the direction is applied.
    pub margins: Vec<f64>,
    /// ∂ mean loss / ∂ policy log-probabilities.
    pub slopes: Vec<PairLogProbs>,
}

impl Loss {
    /// Mean over the pairs.
    pub fn mean(&self) -> f64 {
        self.by_pair.iter().sum::<f64>() * (1.0 / self.by_pair.len() as f64)
    }
}

impl Objective {
    /// The loss of pairs whose responses have the log-probabilities `policy` under the model that is steered in direction `d`.
    pub fn loss(&self, d: f64, policy: &[PairLogProbs], references: &[PairReference]) -> Loss {
        match *self {
            Self::Bipo { beta } => {
                let pairs = policy.iter().zip(references);
                bipo(beta, d, pairs.map(|(policy, reference)| margin(beta, *policy, reference.log_probs)).collect())
            }
        }
    }
}

fn bipo(beta: f64, d: f64, margins: Vec<f64>) -> Loss {
    let scale = 1.0 / margins.len() as f64;
    let slopes = margins.iter().map(|m| {
        let slope = -scale * d * beta * log_sigmoid(-d * m).exp();
        [slope, -slope]
    });
    Loss { by_pair: margins.iter().map(|m| -log_sigmoid(d * m)).collect(), slopes: slopes.collect(), margins }
}

#[cfg(test)]
#[path = "objective_tests.rs"]
mod tests;
