//! Views of a report: aligned text for a reader, CSV for a spreadsheet.

use super::{Measure, Report, Row, Unit};
use crate::{Error, Result};

/// The judge's mean score.
pub(super) const JUDGE: &str = "judge";

/// Measures of held-out pairs, with their headings; those of question files have a point in their name; what is neither of them
/// nor the judge's is damage.
const PREFERENCE: [(&str, &str); 6] = [
    ("dose", "dose"),
    ("margin", "margin"),
    ("right", "moved right"),
    ("wrong", "moved wrong"),
    ("accuracy", "prefers chosen"),
    ("accuracy_per_token", "per token"),
];

impl Report {
    /// Tables of values, each with its 95 % interval.
    pub fn to_text(&self) -> String {
        let tables: Vec<String> = self.groups().iter().map(|(title, names)| self.table(title, names)).collect();
        tables.join("\n")
    }

    /// Titles of what was measured, each with the names of its measures.
    pub(super) fn groups(&self) -> Vec<(&'static str, Vec<&str>)> {
        let is_preference = |name: &&str| PREFERENCE.iter().any(|(known, _)| known == name);
        let (preference, others): (Vec<&str>, Vec<&str>) = self.names().into_iter().partition(is_preference);
        let (choice, others): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|name| name.contains('.'));
        let (judge, damage): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|name| *name == JUDGE);
        let groups = [("Preference", preference), ("Multiple choice", choice), ("Judge", judge), ("Damage", damage)];
        groups.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }

    /// One line a row: subject, magnitude, then value, low and high of each measure; empty where it was not taken.
    ///
    /// # Errors
    /// None that memory does not make.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let names = self.names();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let columns = names.iter().flat_map(|name| ["", "_low", "_high"].map(|end| format!("{name}{end}")));
        let header = ["subject", "magnitude"].map(String::from).into_iter().chain(columns);
        let failed = |error: csv::Error| Error::Argument(format!("the table cannot be written as CSV: {error}"));
        writer.write_record(header).map_err(failed)?;
        for row in &self.rows {
            let cells = names.iter().flat_map(|name| match row.get(name).map(|measure| measure.estimate) {
                Some(estimate) => [estimate.value, estimate.low, estimate.high].map(|number| number.to_string()),
                None => Default::default(),
            });
            let magnitude = row.magnitude.map_or_else(String::new, |magnitude| magnitude.to_string());
            writer.write_record([row.subject.clone(), magnitude].into_iter().chain(cells)).map_err(failed)?;
        }
        writer.into_inner().map_err(|error| failed(error.into_error().into()))
    }

    /// Names of all measures, in the order of the first rows that have them.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        // An early row can lack what the later ones have: at magnitude 0 nothing is moved.
        let fullest = self.rows.iter().max_by_key(|row| row.measures.len());
        for measure in fullest.into_iter().chain(&self.rows).flat_map(|row| &row.measures) {
            if !names.contains(&measure.name.as_str()) {
                names.push(measure.name.as_str());
            }
        }
        names
    }

    fn table(&self, title: &str, names: &[&str]) -> String {
        let headings = names.iter().map(|name| heading(name).to_owned());
        let mut lines = vec![[title, "m"].map(String::from).into_iter().chain(headings).collect::<Vec<_>>()];
        for row in &self.rows {
            let magnitude = row.magnitude.map_or_else(|| "-".to_owned(), signed_magnitude);
            let cells = names.iter().map(|name| row.get(name).map_or_else(|| "-".to_owned(), |measure| cell(row, measure)));
            lines.push([row.subject.clone(), magnitude].into_iter().chain(cells).collect());
        }
        aligned(&lines)
    }
}

/// What a measure is called above its column.
pub(super) fn heading(name: &str) -> &str {
    let known = PREFERENCE.iter().chain(&[("kl", "KL divergence")]);
    known.into_iter().find(|(known, _)| *known == name).map_or(name, |(_, heading)| heading)
}

pub(super) fn signed_magnitude(magnitude: f32) -> String {
    if magnitude == 0.0 { "0".to_owned() } else { format!("{magnitude:+}") }
}

fn cell(row: &Row, measure: &Measure) -> String {
    match parts(row, measure) {
        (value, None) => value,
        (value, Some((low, high))) => format!("{value} [{low}, {high}]"),
    }
}

/// The value and the ends of its interval as they are shown.
pub(super) fn parts(row: &Row, Measure { name, unit, estimate }: &Measure) -> (String, Option<(String, String)>) {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high];
    // The same at every draw: the dose's interval says little, a margin of 0 at magnitude 0 nothing.
    let is_constant = name == "dose" || (row.magnitude == Some(0.0) && low == high);
    (number(value, *unit), (!is_constant).then(|| (bound(low, *unit), bound(high, *unit))))
}

fn number(x: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{:.1} %", 100.0 * x),
        _ => bound(x, unit),
    }
}

fn bound(x: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{:.1}", 100.0 * x),
        Unit::Signed if x == 0.0 => "0".to_owned(),
        Unit::Signed => format!("{x:+.3}"),
        Unit::Number if x == 0.0 => "0".to_owned(),
        Unit::Number if x.abs() >= 1e4 || x.abs() < 1e-3 => format!("{x:.2e}"),
        Unit::Number if x.abs() >= 10.0 => format!("{x:.2}"),
        Unit::Number => format!("{x:.3}"),
    }
}

/// Columns two spaces apart: the first flush left, the others flush right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let len = |line: &Vec<String>, column: usize| line.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = (0..columns).map(|column| lines.iter().map(|line| len(line, column)).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::Estimate;
    use super::super::{Report, Timings};
    use super::*;

    fn report() -> Report {
        let measure = |name: &str, unit, value| Measure {
            name: name.into(),
            unit,
            estimate: Estimate { value, low: value - 0.1, high: value + 0.1 },
        };
        let row = |subject: &str, magnitude, measures| Row { subject: subject.into(), magnitude, measures };
        let rows = vec![
            row("vector", Some(0.0), vec![measure("margin", Unit::Signed, 0.5), measure("perplexity", Unit::Number, 12.5)]),
            row(
                "vector",
                Some(2.0),
                vec![
                    measure("margin", Unit::Signed, -1.0),
                    measure("right", Unit::Share, 0.625),
                    measure("q.mc1", Unit::Share, 0.25),
                    measure("perplexity", Unit::Number, 12.5),
                ],
            ),
            row("prompt, kind", None, vec![measure("q.mc1", Unit::Share, 0.5)]),
        ];
        Report {
            schema_version: 1,
            settings: serde_json::json!({}),
            rows,
            generations: Vec::new(),
            timings: Timings::default(),
        }
    }

    #[test]
    fn text_has_a_table_a_kind_of_measure() {
        let expected = "\
Preference     m                   margin         moved right
vector         0   +0.500 [+0.400, +0.600]                   -
vector        +2  -1.000 [-1.100, -0.900]  62.5 % [52.5, 72.5]
";
        let text = report().to_text();
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeeze(&text).starts_with(&squeeze(expected)), "{text}");
        assert!(squeeze(&text).ends_with(&squeeze(
            "Damage m perplexity vector 0 12.50 [12.40, 12.60] vector +2 12.50 [12.40, 12.60] prompt, kind - -"
        )));
    }

    #[test]
    fn csv_leaves_empty_what_was_not_taken() {
        let csv = String::from_utf8(report().to_csv().unwrap()).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("subject,magnitude,margin,margin_low,margin_high,right,right_low"));
        assert_eq!(lines[1], "vector,0,0.5,0.4,0.6,,,,,,,12.5,12.4,12.6");
        assert!(lines[3].starts_with("\"prompt, kind\",,,,,,,,0.5,0.4,0.6,"));
    }

    #[test]
    fn json_has_measures_by_name() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["rows"][1]["measures"]["right"]["value"], 0.625);
        assert_eq!(json["rows"][2]["magnitude"], serde_json::Value::Null);
    }
}
