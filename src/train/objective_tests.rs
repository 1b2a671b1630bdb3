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
fn slopes_of_every_objective_agree_with_finite_differences() {
    let policy = [[-3.0, -7.5], [-20.0, -2.0], [-1.0, -30.0]];
    let references: Vec<_> = [[3, 5], [9, 2], [1, 12]].map(|tokens| PairReference { log_probs: [-3.5, -7.0], tokens }).into();
    for objective in [Objective::SimPo { beta: 2.0, gamma: 0.7 }, Objective::Lm { beta: 0.1 }] {
        let mean = |policy: &[PairLogProbs]| objective.loss(1.0, policy, &references).mean();
        let slopes = objective.loss(1.0, &policy, &references).slopes;
        for (pair, side) in (0..3).flat_map(|pair| [(pair, 0), (pair, 1)]) {
            let shifted = |by: f64| {
                let mut policy = policy;
                policy[pair][side] += by;
                mean(&policy)
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric - slopes[pair][side]).abs() < 1e-9, "{objective:?}, pair {pair}, side {side}");
        }
    }
}

#[test]
fn slopes_of_both_terms_of_reps_agree_with_finite_differences() {
    let policy = [[-3.0, -7.5], [-20.0, -2.0], [-1.0, -30.0]];
    // The reference prefers either response in turn, so that k is 1 in one term and more in the other.
    let references: Vec<_> = [([-3.5, -7.0], [3, 5]), ([-18.0, -9.0], [9, 2]), ([-2.0, -2.5], [1, 12])]
        .map(|(log_probs, tokens)| PairReference { log_probs, tokens })
        .into();
    let reps = Objective::Reps { beta: 0.1 };
    for d in [1.0, -1.0] {
        let slopes = reps.loss(d, &policy, &references).slopes;
        for (pair, side) in (0..3).flat_map(|pair| [(pair, 0), (pair, 1)]) {
            let shifted = |by: f64| {
                let mut policy = policy;
                policy[pair][side] += by;
                reps.loss(d, &policy, &references).mean()
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric - slopes[pair][side]).abs() < 1e-9, "direction {d}, pair {pair}, side {side}");
        }
    }
}

#[test]
fn reps_weighs_the_winner_by_what_the_reference_has_against_it() {
    // ℓ/|y| is −2 of the chosen and −3 of the rejected; the reference gives the chosen one 4 nats less.
    let reference = PairReference { log_probs: [-13.0, -9.0], tokens: [4, 5] };
    let loss = |d: f64| Objective::Reps { beta: 0.1 }.loss(d, &[[-8.0, -15.0]], &[reference]).mean();
    let minus_log_sigmoid = |x: f64| (1.0 + (-x).exp()).ln();
    assert!((loss(1.0) - minus_log_sigmoid(4.0 * -2.0 + 3.0)).abs() < 1e-12);
    // Swapped, the winner is what the reference prefers: its weight is 1.
    assert!((loss(-1.0) - minus_log_sigmoid(-3.0 + 2.0)).abs() < 1e-12);
}

#[test]
fn losses_are_those_of_their_formulas() {
    // ℓ/|y| is −2 and −3 nats.
    let reference = PairReference { log_probs: [-9.0, -13.0], tokens: [4, 5] };
    let loss = |objective: Objective| objective.loss(1.0, &[[-8.0, -15.0]], &[reference]);
    let simpo = loss(Objective::SimPo { beta: 2.0, gamma: 0.5 });
    assert!((simpo.mean() - (1.0 + (-1.5f64).exp()).ln()).abs() < 1e-12); // 2·(−2) − 2·(−3) − 0.5
    assert_eq!(loss(Objective::Lm { beta: 0.1 }).mean(), 2.0);
    // Margins have one meaning whatever is learned from: chosen rose by 1 nat, rejected fell by 2.
    assert!((loss(Objective::Lm { beta: 0.1 }).margins[0] - 0.3).abs() < 1e-12);
    assert!((simpo.margins[0] - 6.0).abs() < 1e-12);
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
