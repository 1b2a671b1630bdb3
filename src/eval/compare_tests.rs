//! Tests of the verdict on pairs whose order is known.

use super::*;

/// Lines of a method at a magnitude, from chosen minus rejected of each pair.
fn lines(baseline: Option<&str>, magnitude: Option<f32>, differences: &[f64]) -> Vec<PairLine> {
    let line = |(row, difference): (usize, &f64)| PairLine {
        baseline: baseline.map(str::to_owned),
        row,
        magnitude,
        chosen_logprob: *difference,
        rejected_logprob: 0.0,
        chosen_tokens: 1,
        rejected_tokens: 1,
    };
    differences.iter().enumerate().map(line).collect()
}

const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 1000, seed: 11 };

#[test]
fn the_verdict_names_the_best_of_each_direction_and_what_the_pairs_show() {
    let noise: Vec<f64> = (0..40).map(|i| f64::from(i % 5) - 2.0).collect();
    let shifted = |by: f64| noise.iter().map(|x| x + by).collect::<Vec<f64>>();
    // As good as the first on average, but not pair by pair.
    let shuffled: Vec<f64> = shifted(0.05).into_iter().rev().collect();
    let all = [
        lines(None, Some(-1.5), &shifted(0.0)),
        lines(None, Some(0.0), &shifted(1.0)),
        lines(None, Some(2.0), &shifted(5.0)),
        lines(Some("caa"), Some(-3.0), &shuffled),
        lines(Some("caa"), Some(1.0), &shifted(4.0)),
        lines(Some("prompt"), None, &shifted(3.0)),
    ]
    .concat();
    let [plus, minus] = verdict(&all, "bipo", 0.1, &BOOTSTRAP).try_into().unwrap();
    assert_eq!(
        plus,
        "At +, bipo moves the 40 pairs furthest. They show it against caa (+0.100 [+0.100, +0.100]), prompt (+0.200 \
         [+0.200, +0.200])."
    );
    assert!(minus.starts_with("At -, bipo moves the 40 pairs furthest. They do not show it against caa (+0.005 ["), "{minus}");
}

#[test]
fn where_no_method_moves_the_pairs_none_is_named() {
    let all = [
        lines(None, Some(1.0), &[0.5, -0.5, 0.1, -0.3]),
        lines(None, Some(0.0), &[0.4, -0.4, 0.2, -0.2]),
        lines(Some("lm"), Some(1.0), &[-2.0, -1.0, -3.0, -2.0]),
    ]
    .concat();
    assert_eq!(verdict(&all, "random", 0.1, &BOOTSTRAP), ["At +, the 4 pairs do not show that any method moves them."]);
}

#[test]
fn one_method_alone_gets_no_verdict() {
    assert_eq!(verdict(&lines(None, Some(1.0), &[1.0, 2.0]), "bipo", 0.1, &BOOTSTRAP), Vec::<String>::new());
}
