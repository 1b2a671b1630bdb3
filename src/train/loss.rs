//! The margin and the bi-directional DPO loss with its gradient: pure functions of response log-probabilities.

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

/// A batch's loss, and what follows from it.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Mean of −log σ(d·margin).
    pub value: f64,
    /// Margin of each pair, before the direction is applied.
    pub margins: Vec<f64>,
    /// ∂ loss / ∂ policy log-probabilities.
    pub gradients: Vec<PairLogProbs>,
}

/// The loss of arXiv 2406.00045, algorithm 1, for a policy steered by `d`·v.
pub fn bidirectional_dpo(beta: f64, d: f64, policy: &[PairLogProbs], reference: &[PairLogProbs]) -> Loss {
    let margins: Vec<f64> = policy.iter().zip(reference).map(|(p, r)| margin(beta, *p, *r)).collect();
    let scale = 1.0 / margins.len() as f64;
    let value = -margins.iter().map(|m| log_sigmoid(d * m)).sum::<f64>() * scale;
    let gradients = margins.iter().map(|m| {
        let slope = -scale * d * beta * log_sigmoid(-d * m).exp();
        [slope, -slope]
    });
    Loss { value, gradients: gradients.collect(), margins }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
