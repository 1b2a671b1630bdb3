//! Views of a report: aligned text for readers and CSV for spreadsheets.

use super::{EvalReport, EvalRow, Measure, MeasureUnit};
use crate::report::Cell;
use crate::steering::magnitudes::signed;
use crate::{Error, Result};

/// Name of the measure with the judge's mean score.
pub(super) const JUDGE: &str = "judge";

/// The first columns of each table, in every view.
pub(super) const SUBJECT_AND_MAGNITUDE: [&str; 2] = ["subject", "magnitude"];

/// Measures of held-out pairs. Measures of question files have a point in their name. All others except the judge's are measures
/// of damage.
const PREFERENCE: [&str; 7] =
    ["fired", "dose", "margin", "moved_right", "moved_wrong", "prefers_chosen", "prefers_chosen_per_token"];

impl EvalReport {
    /// Returns tables of values with their 95 % intervals, then a line for each row that ended early.
    pub fn to_text(&self) -> String {
        let tables = self.groups().into_iter().map(|(title, names)| self.table(title, &names));
        let failures = self.failures().join("\n");
        tables.chain((!failures.is_empty()).then(|| format!("{failures}\n"))).collect::<Vec<_>>().join("\n")
    }

    /// Returns a line for each row whose numbers were not finite, which says what was not.
    pub fn failures(&self) -> Vec<String> {
        let line = |row: &EvalRow| {
            let at = row.magnitude.map_or_else(String::new, |magnitude| format!(" at magnitude {}", signed(magnitude)));
            Some(format!("{}{at}: {}", row.subject, row.failure.as_ref()?))
        };
        self.rows.iter().filter_map(line).collect()
    }

    /// Returns the title of each table with the names of its measures.
    pub(super) fn groups(&self) -> Vec<(&'static str, Vec<&str>)> {
        let is_preference = |name: &&str| PREFERENCE.contains(name);
        let (preference, others): (Vec<&str>, Vec<&str>) = self.names().into_iter().partition(is_preference);
        let (choice, others): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|name| name.contains('.'));
        let (judge, damage): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|name| *name == JUDGE);
        let groups = [("Preference", preference), ("Multiple choice", choice), ("Judge", judge), ("Damage", damage)];
        groups.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Returns a CSV with a line per row: subject, magnitude, then value, low and high of each measure. Cells of measures that
    /// were not taken are empty.
    ///
    /// # Errors
    /// The CSV writer fails, which it does only when memory runs out.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let names = self.names();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let columns = names.iter().flat_map(|name| ["", "_low", "_high"].map(|end| format!("{name}{end}")));
        let header = SUBJECT_AND_MAGNITUDE.map(String::from).into_iter().chain(columns);
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

    /// Returns the names of all measures, in the order of the row that has the most.
    fn names(&self) -> Vec<&str> {
        // The first row can lack measures: at magnitude 0 nothing is moved.
        let fullest = self.rows.iter().max_by_key(|row| row.measures.len());
        let measures = fullest.into_iter().chain(&self.rows).flat_map(|row| &row.measures);
        distinct(measures.map(|measure| measure.name.as_str()))
    }

    fn table(&self, title: &str, names: &[&str]) -> String {
        let headings =
            SUBJECT_AND_MAGNITUDE.map(String::from).into_iter().chain(names.iter().map(|name| heading(name))).collect();
        let rows = self.cells(names).into_iter().map(|row| row.iter().map(Cell::to_string).collect());
        format!("{title}\n{}", aligned(&[headings].into_iter().chain(rows).collect::<Vec<_>>()))
    }

    /// Cells of each row: subject, magnitude and the measures of these names.
    pub(super) fn cells(&self, names: &[&str]) -> Vec<Vec<Cell>> {
        let none = || Cell::new("-");
        let cells = |row: &EvalRow| {
            let magnitude = row.magnitude.map_or_else(none, |magnitude| Cell::new(signed(magnitude)));
            let measures = names.iter().map(|name| row.get(name).map_or_else(none, cell));
            [Cell::new(&row.subject), magnitude].into_iter().chain(measures).collect()
        };
        self.rows.iter().map(cells).collect()
    }
}

/// Each value once, in the order of its first appearance.
pub(super) fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// Returns the heading of a measure's column: its name as words, but a question file's as it is.
pub(super) fn heading(name: &str) -> String {
    match name {
        "kl" => "KL".to_owned(),
        "reached_kl" | "rest_kl" => name.replace("_kl", " KL"),
        name if name.contains('.') => name.to_owned(),
        name => name.replace('_', " "),
    }
}

fn cell(Measure { name, unit, estimate }: &Measure) -> Cell {
    // The dose's interval says little, and that of a perplexity is of the text's tokens and not of the change, for which its ratio is.
    let is_plain = ["dose", "perplexity", "text_fired"].contains(&name.as_str());
    let interval = estimate.interval().filter(|_| !is_plain).map(|(low, high)| (bound(low, *unit), bound(high, *unit)));
    Cell { value: number(estimate.value, *unit), interval }
}

fn number(x: f64, unit: MeasureUnit) -> String {
    match unit {
        MeasureUnit::Share => format!("{:.1} %", 100.0 * x),
        _ => bound(x, unit),
    }
}

pub(super) fn bound(x: f64, unit: MeasureUnit) -> String {
    match unit {
        MeasureUnit::Share => format!("{:.1}", 100.0 * x),
        MeasureUnit::Signed if x == 0.0 => "0".to_owned(),
        MeasureUnit::Signed => format!("{x:+.3}"),
        MeasureUnit::Number if x == 0.0 => "0".to_owned(),
        MeasureUnit::Number if x.abs() >= 1e4 || x.abs() < 1e-3 => format!("{x:.2e}"),
        MeasureUnit::Number if x.abs() >= 10.0 => format!("{x:.2}"),
        MeasureUnit::Number => format!("{x:.3}"),
    }
}

/// Aligns columns two spaces apart, the first to the left and the others to the right.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
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
#[path = "table_tests.rs"]
mod tests;
