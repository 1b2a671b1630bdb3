//! Tests of the verdict on pairs whose order is known.

use super::super::{EvalTimings, Measure, MeasureUnit};
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
    assert_eq!(plus, "At +, bipo moves the 40 pairs furthest. They show it against caa (+0.100), prompt (+0.200).");
    assert!(minus.starts_with("At -, bipo moves the 40 pairs furthest. They do not show it against caa (+0.005 ["), "{minus}");
}

#[test]
fn a_page_has_minus_signs_and_names_keep_their_hyphens() {
    assert_eq!(with_minus_signs("At -, co-caa (-0.5 [-1.0, -0.1]) at kl=1."), "At −, co-caa (−0.5 [−1.0, −0.1]) at kl=1.");
}

#[test]
fn where_no_method_moves_the_pairs_none_is_named() {
    let all = [
        lines(None, Some(1.0), &[0.5, -0.5, 0.1, -0.3].repeat(3)),
        lines(None, Some(0.0), &[0.4, -0.4, 0.2, -0.2].repeat(3)),
        lines(Some("lm"), Some(1.0), &[-2.0, -1.0, -3.0, -2.0].repeat(3)),
    ]
    .concat();
    assert_eq!(verdict(&all, "random", 0.1, &BOOTSTRAP), ["At +, the 12 pairs do not show that any method moves them."]);
}

#[test]
fn fewer_than_ten_pairs_show_no_difference_however_alike_they_are() {
    let of = |pairs: usize| {
        let all = [
            lines(None, Some(1.0), &vec![2.0; pairs]),
            lines(None, Some(0.0), &vec![0.0; pairs]),
            lines(Some("caa"), Some(1.0), &vec![1.0; pairs]),
        ];
        verdict(&all.concat(), "bipo", 0.1, &BOOTSTRAP).remove(0)
    };
    assert_eq!(of(1), "At +, 1 pair is too few to compare methods: hold out at least 10.");
    assert_eq!(of(9), "At +, 9 pairs are too few to compare methods: hold out at least 10.");
    assert_eq!(of(10), "At +, bipo moves the 10 pairs furthest. They show it against caa (+0.100).");
}

#[test]
fn the_picture_draws_no_interval_that_has_no_width() {
    let row = |subject: &str, margin: &[f64]| EvalRow {
        subject: subject.to_owned(),
        magnitude: Some(1.0),
        measures: vec![Measure { name: "margin".into(), unit: MeasureUnit::Signed, estimate: BOOTSTRAP.mean(margin).unwrap() }],
        failure: None,
    };
    let report = EvalReport {
        schema_version: 2,
        settings: serde_json::json!({"heldout_pairs": 9, "at": "kl=1"}),
        rows: vec![row("bipo", &[0.5]), row("caa", &[0.5; 9]), row("lm", &[0.25, 0.75])],
        generations: Vec::new(),
        timings: EvalTimings::default(),
    };
    let chart = Comparison { schema_version: 2, candidates: Vec::new(), verdict: Vec::new(), report }.chart();
    let has_interval: Vec<bool> = chart.panels[0].series[0].points.iter().map(|point| point.interval.is_some()).collect();
    assert_eq!(has_interval, [false, false, true]);
}

#[test]
fn one_method_alone_gets_no_verdict() {
    assert_eq!(verdict(&lines(None, Some(1.0), &[1.0, 2.0]), "bipo", 0.1, &BOOTSTRAP), Vec::<String>::new());
}

#[test]
fn the_picture_has_a_line_a_method_and_a_dot_a_direction() {
    let estimate = |value| Estimate { value, low: value - 0.5, high: value + 0.25 };
    let row = |subject: &str, magnitude, margin| EvalRow {
        subject: subject.to_owned(),
        magnitude,
        measures: vec![Measure { name: "margin".into(), unit: MeasureUnit::Signed, estimate: estimate(margin) }],
        failure: None,
    };
    let rows = vec![
        row("bipo", Some(-3.0), -1.5),
        row("bipo", Some(0.0), 0.0),
        row("bipo", Some(2.5), 2.0),
        row("caa", Some(4.0), 1.0),
        row("prompt", None, 0.125),
    ];
    let settings = serde_json::json!({"heldout_pairs": 48, "at": "kl=1"});
    let report = EvalReport { schema_version: 2, settings, rows, generations: Vec::new(), timings: EvalTimings::default() };
    let chart = Comparison { schema_version: 2, candidates: Vec::new(), verdict: Vec::new(), report }.chart();
    assert_eq!(chart.title, "Effect on 48 held-out pairs, every vector at kl=1");
    let [panel] = &chart.panels[..] else { panic!("{chart:?}") };
    assert_eq!(panel.names, ["bipo", "caa", "prompt"]);
    let dots: Vec<(&str, Vec<f64>, Vec<f64>)> = panel
        .series
        .iter()
        .map(|series| {
            let of = |value: fn(&Point) -> f64| series.points.iter().map(value).collect();
            (series.name.as_str(), of(|point| point.x), of(|point| point.y.round()))
        })
        .collect();
    let expected =
        [("at +", vec![2.0, 1.0], vec![0.0, 1.0]), ("at −", vec![-1.5], vec![0.0]), ("no magnitude", vec![0.125], vec![2.0])];
    assert_eq!(dots, expected);
    assert_eq!(panel.series[0].points[0].interval, Some((1.5, 2.25)));
}
