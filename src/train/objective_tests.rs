//! Tests of `objective`.

use super::*;

fn bipo_loss(beta: f64, d: f64, policy: &[PairLogProbs], reference: &[PairLogProbs]) -> Loss {
    let references: Vec<_> =
        reference.iter().map(|log_probs| PairReference { log_probs: *log_probs, tokens: [3, 5] }).collect();
    Objective::Bipo { beta }.loss(d, policy, &references)
}

#[test]
fn log_sigmoid_is_exact_at_both_ends() {
    assert_eq!(log_sigmoid(-800.0), -800.0);
    assert_eq!(log_sigmoid(800.0), 0.0);
    assert!((log_sigmoid(0.0) + std::f64::consts::LN_2).abs() < 1e-16);
    assert!((log_sigmoid(-1.0) - (-1.313_261_687_518_222_8)).abs() < 1e-15);
}

#[test]
fn equal_policies_give_loss_ln_2() {
    let loss = bipo_loss(0.1, -1.0, &[[-3.0, -7.0], [-1.0, -2.0]], &[[-3.0, -7.0], [-1.0, -2.0]]);
    assert_eq!(loss.mean(), std::f64::consts::LN_2);
    assert_eq!(loss.margins, [0.0, 0.0]);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (policy, reference) = ([[-3.0, -7.5], [-20.0, -2.0]], [[-3.5, -7.0], [-18.0, -9.0]]);
    for d in [1.0, -1.0, 0.3] {
        let loss = bipo_loss(0.7, d, &policy, &reference);
        for (pair, side) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let shifted = |by: f64| {
                let mut policy = policy;
                policy[pair][side] += by;
                bipo_loss(0.7, d, &policy, &reference).mean()
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric - loss.slopes[pair][side]).abs() < 1e-9);
        }
    }
}

#[test]
fn the_opposite_direction_equals_swapped_responses() {
    let (policy, reference) = ([-3.0, -7.5], [-3.5, -7.0]);
    let swap = |p: PairLogProbs| [p[1], p[0]];
    let negative = bipo_loss(0.1, -1.0, &[policy], &[reference]);
    let swapped = bipo_loss(0.1, 1.0, &[swap(policy)], &[swap(reference)]);
    assert_eq!(negative.mean(), swapped.mean());
    assert_eq!(negative.slopes[0], swap(swapped.slopes[0]));
}

#[test]
fn the_mean_is_over_pairs() {
    let loss = bipo_loss(1.0, 1.0, &[[0.0, 0.0], [800.0, 0.0], [-800.0, 0.0]], &[[0.0, 0.0]; 3]);
    assert_eq!(loss.by_pair, [std::f64::consts::LN_2, 0.0, 800.0]);
    assert!((loss.mean() - (800.0 + std::f64::consts::LN_2) / 3.0).abs() < 1e-12);
}
