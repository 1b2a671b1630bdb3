//! Tests of a report's text, CSV and JSON.

use super::super::bootstrap::{Bootstrap, Estimate};
use super::super::damage::repetition;
use super::super::{EvalReport, EvalTimings};
use super::*;

fn report() -> EvalReport {
    let measure = |name: &str, unit, value| Measure {
        name: name.into(),
        unit,
        estimate: Estimate { value, low: value - 0.1, high: value + 0.1 },
    };
    let row = |subject: &str, magnitude, measures| EvalRow { subject: subject.into(), magnitude, measures, failure: None };
    let rows = vec![
        row(
            "vector",
            Some(0.0),
            vec![measure("margin", MeasureUnit::Signed, 0.5), measure("perplexity", MeasureUnit::Number, 12.5)],
        ),
        row(
            "vector",
            Some(2.0),
            vec![
                measure("margin", MeasureUnit::Signed, -1.0),
                measure("moved_right", MeasureUnit::Share, 0.625),
                measure("q.mc1", MeasureUnit::Share, 0.25),
                measure("perplexity", MeasureUnit::Number, 12.5),
            ],
        ),
        row("prompt, kind", None, vec![measure("q.mc1", MeasureUnit::Share, 0.5)]),
    ];
    EvalReport {
        schema_version: 2,
        settings: serde_json::json!({}),
        rows,
        generations: Vec::new(),
        timings: EvalTimings::default(),
    }
}

#[test]
fn text_has_a_table_a_kind_of_measure() {
    let expected = "\
Preference
subject       magnitude                   margin         moved right
vector                0   +0.500 [+0.400, +0.600]                   -
vector               +2  -1.000 [-1.100, -0.900]  62.5 % [52.5, 72.5]
";
    let text = report().to_text();
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeeze(&text).starts_with(&squeeze(expected)), "{text}");
    assert!(
        squeeze(&text)
            .ends_with(&squeeze("Damage subject magnitude perplexity vector 0 12.50 vector +2 12.50 prompt, kind - -"))
    );
}

#[test]
fn an_interval_of_values_that_are_all_alike_is_not_shown() {
    let text: &[u32] = &[1, 2, 3, 4, 5, 6];
    let bootstrap = Bootstrap { resamples: 100, seed: 11 };
    for texts in [1, 8] {
        let repetition = repetition(&vec![text; texts], &bootstrap).unwrap();
        assert_eq!((repetition.estimate.low, repetition.estimate.high), (0.0, 0.0));
        let shown = cell(&repetition);
        assert_eq!((shown.value.as_str(), shown.interval), ("0.0 %", None), "{texts} texts");
    }
    let of = |values: &[f64]| Measure {
        name: "margin".into(),
        unit: MeasureUnit::Signed,
        estimate: bootstrap.mean(values).unwrap(),
    };
    assert_eq!(cell(&of(&[0.5])).to_string(), "+0.500");
    assert_eq!(cell(&of(&[0.5; 9])).to_string(), "+0.500");
    // Many values that differ little have an interval, however narrow.
    assert_eq!(cell(&of(&[0.5, 0.500_01])).to_string(), "+0.500 [+0.500, +0.500]");
    assert!(cell(&of(&[0.5, 0.75])).interval.is_some());
}

#[test]
fn csv_leaves_empty_what_was_not_taken() {
    let csv = String::from_utf8(report().to_csv().unwrap()).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("subject,magnitude,margin,margin_low,margin_high,moved_right,moved_right_low"));
    assert_eq!(lines[1], "vector,0,0.5,0.4,0.6,,,,,,,12.5,12.4,12.6");
    assert!(lines[3].starts_with("\"prompt, kind\",,,,,,,,0.5,0.4,0.6,"));
}

#[test]
fn json_has_measures_by_name() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["rows"][1]["measures"]["moved_right"]["value"], 0.625);
    assert_eq!(json["rows"][2]["magnitude"], serde_json::Value::Null);
}
