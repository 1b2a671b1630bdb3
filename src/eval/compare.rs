//! Several methods on the same pairs at one cost: a table of what each reaches, and in words which differences the pairs show.

use serde::Serialize;

use super::bootstrap::{Bootstrap, Estimate, mean};
use super::table::{SUBJECT_AND_MAGNITUDE, aligned, distinct, heading};
use super::{EvalReport, EvalRow, PairLine};
use crate::report::{Cell, Chart, Panel, Point, Section, SectionPart, Series, Style, Table};

/// What is compared, and what it took.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Name of the method.
    pub name: String,
    /// Positions at which the candidate's vector is added; none of an instruction.
    pub positions: Option<String>,
    /// Norm of the candidate's vector.
    pub norm: Option<f64>,
    /// What its vector took; none of an instruction and of a random direction.
    pub learned: Option<Learned>,
}

/// What a vector took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Learned {
    /// Steps; 0 where activations were compared.
    pub steps: usize,
    /// Wall time, without the activations that all share.
    pub seconds: f64,
    /// Size of the vector's file in bytes.
    pub bytes: u64,
}

/// The result of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Version of the JSON schema, 2.
    pub schema_version: u32,
    /// The candidates, in the order of the rows.
    pub candidates: Vec<Candidate>,
    /// Differences that the pairs show, a sentence a line.
    pub verdict: Vec<String>,
    /// The measures of each, and the settings that they depend on.
    pub report: EvalReport,
}

/// Measures in the table: what is reached, and what it costs beside what all were brought to.
const MEASURES: [&str; 8] =
    ["fired", "margin", "moved_right", "prefers_chosen", "perplexity_ratio", "repetition", "reached_kl", "reached_ppl"];

/// Fewest pairs from which a difference between methods is claimed: resamples of fewer are too much alike for their 95 % intervals to
/// hold what they say.
const FEWEST_PAIRS: usize = 10;

impl Comparison {
    /// The table, then the verdict.
    pub fn to_text(&self) -> String {
        let (columns, rows) = self.table();
        let rows = rows.iter().map(|row| row.iter().map(Cell::to_string).collect());
        let verdict: String = self.verdict.iter().map(|line| format!("{line}\n")).collect();
        format!("{}\n{verdict}", aligned(&[columns].into_iter().chain(rows).collect::<Vec<_>>()))
    }

    /// The margin that each method reaches in each direction, with its interval: a line a method, a dot a direction.
    pub fn chart(&self) -> Chart {
        let names = distinct(self.effects().map(|row| row.subject.as_str()));
        // Above 0 is above in each line, and so drawn first.
        let side = |name: &str, is_here: fn(Option<f32>) -> bool, shift: f64, hue: usize| {
            let point = |row: &EvalRow| {
                let at = names.iter().position(|name| *name == row.subject)?;
                let estimate = row.get("margin")?.estimate;
                let point = Point::new(estimate.value, at as f64 + shift);
                Some(match estimate.interval() {
                    Some((low, high)) => point.between(low, high),
                    None => point,
                })
            };
            let rows = self.effects().filter(|row| is_here(row.magnitude));
            Series::new(name, Style::Markers, rows.filter_map(point).collect()).hue(hue)
        };
        let series = vec![
            side("at +", |magnitude| magnitude.is_some_and(|m| m > 0.0), -0.15, 1),
            side("at −", |magnitude| magnitude.is_some_and(|m| m < 0.0), 0.15, 0),
            side("no magnitude", |magnitude| magnitude.is_none(), 0.0, 5),
        ];
        let settings = &self.report.settings;
        let (pairs, at) = (&settings["heldout_pairs"], settings["at"].as_str().unwrap_or_default());
        let panel = Panel { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Panel::new("subject", series) };
        Chart::new(format!("Effect on {pairs} held-out pairs, every vector at {at}"), "margin, nats", vec![panel])
    }

    /// The rows of what is compared, without that of the untouched model.
    fn effects(&self) -> impl Iterator<Item = &EvalRow> {
        self.report.rows.iter().filter(|row| row.magnitude != Some(0.0) && row.get("margin").is_some())
    }

    /// The table and the verdict, then the curves and texts of the report.
    pub fn sections(&self) -> Vec<Section> {
        let (columns, rows) = self.table();
        let caption = "In brackets: 95 % intervals.".to_owned();
        let mut blocks: Vec<SectionPart> = self.verdict.iter().map(|line| SectionPart::Text(with_minus_signs(line))).collect();
        blocks.push(SectionPart::Table(Table { caption, columns, rows }));
        blocks.push(SectionPart::Chart(self.chart()));
        [vec![Section::new("Comparison", blocks)], self.report.sections()].concat()
    }

    fn table(&self) -> (Vec<String>, Vec<Vec<Cell>>) {
        let measured = |name: &&str| self.report.rows.iter().any(|row| row.get(name).is_some());
        let names: Vec<&str> = MEASURES.into_iter().filter(measured).collect();
        let measures: Vec<String> = names.iter().map(|name| heading(name)).collect();
        let headings =
            SUBJECT_AND_MAGNITUDE.into_iter().chain(measures.iter().map(String::as_str)).chain(["trained in", "file"]);
        let mut rows = self.report.cells(&names);
        for (cells, row) in rows.iter_mut().zip(&self.report.rows) {
            let candidate = self.candidates.iter().find(|candidate| candidate.name == row.subject);
            let learned = candidate.and_then(|candidate| candidate.learned).filter(|_| row.magnitude != Some(0.0));
            let [time, size] = learned.map_or(["-".into(), "-".into()], |learned| {
                [format!("{:.1} s", learned.seconds), format!("{:.1} kB", learned.bytes as f64 / 1e3)]
            });
            if row.magnitude == Some(0.0) {
                // Every vector is the same model there.
                cells[0] = Cell::new("untouched");
            }
            cells.extend([Cell::new(time), Cell::new(size)]);
        }
        (headings.map(String::from).collect(), rows)
    }
}

/// A line as a page has it, where a hyphen that begins a number, or stands for the direction, is a minus sign.
fn with_minus_signs(line: &str) -> String {
    let before = std::iter::once(' ').chain(line.chars());
    before
        .zip(line.chars())
        .map(|(before, letter)| if letter == '-' && !before.is_alphanumeric() { '−' } else { letter })
        .collect()
}

/// Says which method moves the pairs furthest in each direction, and against which others the pairs show it: where the 95 %
/// interval of the mean difference of their margins, pair by pair, does not hold 0. Of fewer than ten pairs it says that they are too
/// few. `first` is the name of the first subject, whose lines have no baseline, and those at magnitude 0 are the untouched model's.
pub fn verdict(lines: &[PairLine], first: &str, beta: f64, bootstrap: &Bootstrap) -> Vec<String> {
    [("+", 1.0), ("-", -1.0)]
        .into_iter()
        .filter_map(|(side, sign)| of_side(lines, first, beta, bootstrap, (side, sign)))
        .collect()
}

fn of_side(lines: &[PairLine], first: &str, beta: f64, bootstrap: &Bootstrap, (side, sign): (&str, f64)) -> Option<String> {
    let is_here = |line: &&PairLine| line.magnitude.map_or(sign > 0.0, |magnitude| sign * f64::from(magnitude) > 0.0);
    // The reference is the same for all and cancels in a difference.
    let mut effects: Vec<(&str, Vec<f64>)> = Vec::new();
    for line in lines.iter().filter(is_here) {
        let name = line.baseline.as_deref().unwrap_or(first);
        let effect = sign * beta * (line.chosen_logprob - line.rejected_logprob);
        match effects.iter_mut().find(|(other, _)| *other == name) {
            Some((_, effects)) => effects.push(effect),
            None => effects.push((name, vec![effect])),
        }
    }
    effects.sort_by(|(_, a), (_, b)| mean(b).total_cmp(&mean(a)));
    let ((best, best_effects), others) = effects.split_first()?;
    if others.is_empty() {
        return None;
    }
    let pairs = best_effects.len();
    if pairs < FEWEST_PAIRS {
        let counted = if pairs == 1 { "1 pair is".to_owned() } else { format!("{pairs} pairs are") };
        return Some(format!("At {side}, {counted} too few to compare methods: hold out at least {FEWEST_PAIRS}."));
    }
    let (mut shown, mut open) = (Vec::new(), Vec::new());
    for (name, effects) in others {
        let differences: Vec<f64> = best_effects.iter().zip(effects).map(|(best, other)| best - other).collect();
        let difference = bootstrap.mean(&differences)?;
        let text = format!("{name} ({})", with_interval(difference));
        if difference.low > 0.0 { shown.push(text) } else { open.push(text) }
    }
    let untouched = lines.iter().filter(|line| line.baseline.is_none() && line.magnitude == Some(0.0));
    let untouched = untouched.map(|line| sign * beta * (line.chosen_logprob - line.rejected_logprob));
    let moved: Vec<f64> = best_effects.iter().zip(untouched).map(|(best, untouched)| best - untouched).collect();
    if bootstrap.mean(&moved).is_some_and(|moved| moved.low <= 0.0) {
        return Some(format!("At {side}, the {pairs} pairs do not show that any method moves them."));
    }
    let mut sentence = format!("At {side}, {best} moves the {pairs} pairs furthest.");
    if !shown.is_empty() {
        sentence += &format!(" They show it against {}.", shown.join(", "));
    }
    if !open.is_empty() {
        sentence += &format!(" They do not show it against {}.", open.join(", "));
    }
    Some(sentence)
}

/// A difference with its interval, if there is one.
fn with_interval(difference: Estimate) -> String {
    let interval = difference.interval().map_or(String::new(), |(low, high)| format!(" [{low:+.3}, {high:+.3}]"));
    format!("{:+.3}{interval}", difference.value)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
