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
mod tests {
    use super::*;

    #[test]
    fn log_sigmoid_is_exact_at_both_ends() {
        assert_eq!(log_sigmoid(-800.0), -800.0);
        assert_eq!(log_sigmoid(800.0), 0.0);
        assert!((log_sigmoid(0.0) + std::f64::consts::LN_2).abs() < 1e-16);
        assert!((log_sigmoid(-1.0) - (-1.313_261_687_518_222_8)).abs() < 1e-15);
    }

    #[test]
    fn equal_policies_give_loss_ln_2() {
        let loss = bidirectional_dpo(0.1, -1.0, &[[-3.0, -7.0], [-1.0, -2.0]], &[[-3.0, -7.0], [-1.0, -2.0]]);
        assert_eq!(loss.value, std::f64::consts::LN_2);
        assert_eq!(loss.margins, [0.0, 0.0]);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (policy, reference) = ([[-3.0, -7.5], [-20.0, -2.0]], [[-3.5, -7.0], [-18.0, -9.0]]);
        for d in [1.0, -1.0, 0.3] {
            let loss = bidirectional_dpo(0.7, d, &policy, &reference);
            for (pair, side) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let shifted = |by: f64| {
                    let mut policy = policy;
                    policy[pair][side] += by;
                    bidirectional_dpo(0.7, d, &policy, &reference).value
                };
                let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((numeric - loss.gradients[pair][side]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn the_opposite_direction_equals_swapped_responses() {
        let (policy, reference) = ([-3.0, -7.5], [-3.5, -7.0]);
        let swap = |p: PairLogProbs| [p[1], p[0]];
        let negative = bidirectional_dpo(0.1, -1.0, &[policy], &[reference]);
        let swapped = bidirectional_dpo(0.1, 1.0, &[swap(policy)], &[swap(reference)]);
        assert_eq!(negative.value, swapped.value);
        assert_eq!(negative.gradients[0], swap(swapped.gradients[0]));
    }
}
