//! Tests of `condition`.

use super::*;

#[test]
fn a_score_is_the_cosine_with_the_squashed_projection_whatever_the_length_and_sign_of_c() {
    // By hand: c = (3, 4), h = (2, 1): (c·h)/(c·c) = 10/25, P·h = (1.2, 1.6).
    let h = [2.0, 1.0];
    let t = [1.2_f64.tanh(), 1.6_f64.tanh()];
    let expected = (2.0 * t[0] + t[1]) / (5.0_f64.sqrt() * (t[0] * t[0] + t[1] * t[1]).sqrt());
    for c in [[3.0, 4.0], [-3.0, -4.0], [0.03, 0.04], [300.0, 400.0]] {
        assert!((score(&h, &c) - expected).abs() < 1e-7, "{c:?}");
    }
    assert_eq!(score(&[4.0, -3.0], &[3.0, 4.0]), 0.0);
    assert_eq!(score(&h, &[0.0, 0.0]), 0.0);
}

#[test]
fn a_score_at_the_threshold_passes_neither_side() {
    let condition =
        |comparison| Condition { reading: PromptReading::Mean, comparison, threshold: 0.5, f1: 1.0, need: 1, rest: 1 };
    let passes = |comparison| [0.4, 0.5, 0.6].map(|score| condition(comparison).passes(score));
    assert_eq!(passes(FiringSide::Above), [false, false, true]);
    assert_eq!(passes(FiringSide::Below), [true, false, false]);
}
