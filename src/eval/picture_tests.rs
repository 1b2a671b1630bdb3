//! Tests of a report's curves and texts.

use super::super::bootstrap;
use super::super::judge::JudgedText;
use super::super::{EvalTimings, GeneratedText};
use super::*;
use crate::generate::FinishReason;
use crate::steering::Operation;

fn report() -> EvalReport {
    let estimate = |value| bootstrap::Estimate { value, low: value - 0.5, high: value + 0.5 };
    let row = |subject: &str, magnitude: Option<f32>, right: f64| EvalRow {
        subject: subject.into(),
        magnitude,
        measures: [
            ("dose", MeasureUnit::Number, 0.1),
            ("moved_right", MeasureUnit::Share, right),
            ("perplexity_ratio", MeasureUnit::Number, 12.5),
        ]
        .map(|(name, unit, value)| Measure { name: name.into(), unit, estimate: estimate(value) })
        .to_vec(),
        failure: None,
    };
    let text = |subject: &str, magnitude, prompt: &str| GeneratedText {
        subject: subject.into(),
        magnitude,
        prompt: prompt.into(),
        text: "x".into(),
        finish_reason: FinishReason::Stop,
        numeric_match: None,
        judge_score: None,
    };
    EvalReport {
        schema_version: 2,
        settings: serde_json::json!({}),
        rows: vec![
            row("vector", Some(2.0), 0.75),
            row("vector", Some(0.0), 0.5),
            row("random", Some(2.0), 0.25),
            row("prompt", None, 0.625),
        ],
        generations: vec![
            text("vector", Some(2.0), "a"),
            text("vector", Some(2.0), "b"),
            text("vector", Some(0.0), "a"),
            text("vector", Some(0.0), "b"),
            text("random", Some(2.0), "a"),
            text("prompt", None, "a"),
        ],
        timings: EvalTimings::default(),
    }
}

#[test]
fn a_measure_has_a_curve_a_subject_from_the_model_at_0_and_a_line_for_an_instruction() {
    let chart = report().chart();
    let labels: Vec<&str> = chart.panels.iter().map(|panel| panel.y_label.as_str()).collect();
    assert_eq!(labels, ["moved right, %", "perplexity ratio"]);
    let panel = &chart.panels[0];
    let point = |x, y| Point::new(x, y).between(y - 50.0, y + 50.0);
    let series: Vec<(&str, &[Point])> = panel.series.iter().map(|s| (s.name.as_str(), s.points.as_slice())).collect();
    let expected = [[point(0.0, 50.0), point(2.0, 75.0)], [point(0.0, 50.0), point(2.0, 25.0)]];
    assert_eq!(series, [("vector", &expected[0][..]), ("random", &expected[1][..])]);
    assert_eq!(panel.reference, Some((62.5, "prompt".to_owned())));
}

#[test]
fn a_line_has_a_gap_where_the_untouched_model_has_no_such_measure() {
    let mut report = report();
    report.rows[1].measures.retain(|measure| measure.name != "moved_right");
    for series in &report.chart().panels[0].series {
        assert!(series.points[0].x == 0.0 && series.points[0].y.is_nan() && series.points[1].y.is_finite());
    }
}

#[test]
fn a_value_whose_interval_has_no_width_is_a_point_alone_except_at_0() {
    let mut report = report();
    for row in &mut report.rows {
        let right = row.measures.iter_mut().find(|measure| measure.name == "moved_right").unwrap();
        (right.estimate.low, right.estimate.high) = (right.estimate.value, right.estimate.value);
    }
    let points = &report.chart().panels[0].series[0].points;
    assert_eq!(points.iter().map(|point| point.interval).collect::<Vec<_>>(), [Some((50.0, 50.0)), None]);
}

#[test]
fn texts_stand_by_prompt_then_subject() {
    let texts = report().texts();
    let seen: Vec<(&str, &str, usize)> =
        texts.iter().map(|texts| (texts.prompt.as_str(), texts.subject.as_str(), texts.answers.len())).collect();
    assert_eq!(seen, [("a", "vector", 2), ("a", "random", 1), ("a", "prompt", 1), ("b", "vector", 2)]);
}

#[test]
fn a_judges_scores_become_the_mean_of_each_row_without_those_that_failed() {
    let mut report = report();
    let verdict = |score| JudgeVerdict {
        generation: JudgedText { prompt: String::new(), magnitude: 0.0, operation: Operation::Add, text: String::new() },
        score,
        failure: None,
    };
    let verdicts = [Some(4), Some(1), Some(2), None, None, Some(3)].map(verdict);
    report.add_scores(&verdicts);
    let means: Vec<Option<f64>> =
        report.rows.iter().map(|row| row.get("judge").map(|measure| measure.estimate.value)).collect();
    assert_eq!(means, [Some(2.5), Some(2.0), None, Some(3.0)]);
    let titles: Vec<String> = report.sections().into_iter().map(|section| section.title).collect();
    assert_eq!(titles, ["Preference", "Judge", "Damage", "Generations"]);
    assert_eq!(report.texts()[0].answers[0].note, "judge: 4 of 4");
}
