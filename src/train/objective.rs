//! What a step minimises: from the log-probabilities of pairs' responses, and the direction, to a loss, a margin and slopes of
//! each pair. These are pure functions; which token belongs to which response is the business of `responses`.

/// Log-probabilities of a pair's two responses, summed over their tokens, nats: chosen, rejected.
pub type PairLogProbs = [f64; 2];

/// log σ(x) without overflow or cancellation.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
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

/// A loss over pairs of responses. With `ℓ` the log-probability of a response under the steered model and `|y|` its number of
/// tokens:
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Bi-directional preference optimisation, arXiv 2406.00045, algorithm 1: −log σ(d·margin) of a policy steered by d·v. It
    /// does not look at the number of tokens. In the direction +1 alone it is DPO, arXiv 2305.18290.
    Bipo {
        /// Strength of the preference.
        beta: f64,
    },
    /// SimPO, arXiv 2405.14734: −log σ(β·ℓ(chosen)/|chosen| − β·ℓ(rejected)/|rejected| − γ), without a reference.
    SimPo {
        /// Strength of the preference.
        beta: f64,
        /// Difference of the two terms at which the loss is ln 2.
        gamma: f64,
    },
    /// Reference-free preference steering (RePS), arXiv 2505.20809: −log σ(k·ℓ(win)/|win| − ℓ(lose)/|lose|) with
    /// k = max(ℓ₀(lose) − ℓ₀(win), 1), where ℓ₀ is of the unsteered model. In the direction +1 v is added and the chosen response
    /// wins; in the direction −1 what of the residual points along v is taken out, and the rejected one wins.
    Reps {
        /// Factor of the margin, which is reported and not learned from.
        beta: f64,
    },
    /// Language modelling on the chosen response alone: −ℓ(chosen)/|chosen|.
    Lm {
        /// Factor of the margin, which is reported and not learned from.
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
    /// The loss of pairs whose responses have the log-probabilities `policy` under the model that is steered in direction `d`,
    /// which is +1 unless the objective is bi-directional.
    pub fn loss(&self, d: f64, policy: &[PairLogProbs], references: &[PairReference]) -> Loss {
        let (Self::Bipo { beta } | Self::SimPo { beta, .. } | Self::Reps { beta } | Self::Lm { beta }) = *self;
        let pairs = || policy.iter().zip(references);
        let margins: Vec<f64> = pairs().map(|(policy, reference)| margin(beta, *policy, reference.log_probs)).collect();
        let share = 1.0 / policy.len() as f64; // of a pair in the mean
        let of_pair = |(policy, pair): (&PairLogProbs, &PairReference)| match *self {
            Self::Bipo { beta } => bipo(beta, d, margin(beta, *policy, pair.log_probs), share),
            Self::SimPo { beta, gamma } => simpo(beta, gamma, *policy, pair.tokens, share),
            Self::Reps { .. } => reps(d, *policy, pair, share),
            Self::Lm { .. } => lm(*policy, pair.tokens, share),
        };
        let (by_pair, slopes) = pairs().map(of_pair).unzip();
        Loss { by_pair, slopes, margins }
    }
}

/// The loss of a pair, and `share` times its slopes in the log-probabilities.
fn bipo(beta: f64, d: f64, margin: f64, share: f64) -> (f64, PairLogProbs) {
    let slope = -share * d * beta * log_sigmoid(-d * margin).exp();
    (-log_sigmoid(d * margin), [slope, -slope])
}

/// The loss of a pair by SimPO, and `share` times its slopes in the log-probabilities.
fn simpo(beta: f64, gamma: f64, policy: PairLogProbs, tokens: [usize; 2], share: f64) -> (f64, PairLogProbs) {
    let factors = tokens.map(|tokens| beta / tokens as f64);
    let difference = factors[0] * policy[0] - factors[1] * policy[1] - gamma;
    let slope = -share * log_sigmoid(-difference).exp();
    (-log_sigmoid(difference), [slope * factors[0], -slope * factors[1]])
}

/// The loss of a pair by RePS, and `share` times its slopes in the log-probabilities.
fn reps(d: f64, policy: PairLogProbs, pair: &PairReference, share: f64) -> (f64, PairLogProbs) {
    let (win, lose) = if d > 0.0 { (0, 1) } else { (1, 0) };
    let k = (pair.log_probs[lose] - pair.log_probs[win]).max(1.0);
    let (by_win, by_lose) = (k / pair.tokens[win] as f64, 1.0 / pair.tokens[lose] as f64);
    let difference = by_win * policy[win] - by_lose * policy[lose];
    let slope = -share * log_sigmoid(-difference).exp();
    let mut slopes = [0.0; 2];
    (slopes[win], slopes[lose]) = (slope * by_win, -slope * by_lose);
    (-log_sigmoid(difference), slopes)
}

/// The loss of a pair by language modelling, and `share` times its slopes in the log-probabilities.
fn lm(policy: PairLogProbs, tokens: [usize; 2], share: f64) -> (f64, PairLogProbs) {
    let factor = -1.0 / tokens[0] as f64;
    (factor * policy[0], [share * factor, 0.0])
}

#[cfg(test)]
#[path = "objective_tests.rs"]
mod tests;
