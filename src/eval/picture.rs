//! Pictures of a report: a curve a measure against magnitude, a series a subject, intervals shaded; and what a page shows of it.

use super::judge::JudgeVerdict;
use super::table::{JUDGE, SUBJECT_AND_MAGNITUDE, distinct, heading};
use super::{EvalReport, EvalRow, Measure, MeasureUnit};
use crate::eval::bootstrap::Estimate;
use crate::report::{Chart, Generations, Panel, Point, Scale, Section, SectionPart, Series, ShownAnswer, Style, Table};

/// Measures that say what another one says, or are alike at all magnitudes: they have no curve.
const WITHOUT_CURVE: [&str; 6] = ["dose", "moved_wrong", "prefers_chosen_per_token", "perplexity", "reached_kl", "reached_ppl"];

impl EvalReport {
    /// Effect and damage against magnitude: a panel a measure, a baseline without magnitude as a line across.
    pub fn chart(&self) -> Chart {
        let names: Vec<&str> = self.groups().into_iter().flat_map(|(_, names)| names).collect();
        Chart::new("Effect and damage", "magnitude", self.panels(&names))
    }

    /// A section a group of measures, with curves and table, then one of the generated texts.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        for (title, names) in self.groups() {
            let panels = self.panels(&names);
            let mut blocks = Vec::new();
            if !panels.is_empty() {
                blocks.push(SectionPart::Chart(Chart::new("", "magnitude", panels)));
            }
            let columns = SUBJECT_AND_MAGNITUDE.map(String::from).into_iter();
            let columns = columns.chain(names.iter().map(|name| heading(name)));
            blocks.push(SectionPart::Table(Table {
                caption: "In brackets: 95 % intervals.".to_owned(),
                columns: columns.collect(),
                rows: self.cells(&names),
            }));
            sections.push(Section::new(title, blocks));
        }
        let failures: Vec<SectionPart> = self.failures().into_iter().map(SectionPart::Text).collect();
        if !failures.is_empty() {
            sections.push(Section::new("Not measured to the end", failures));
        }
        if !self.generations.is_empty() {
            sections.push(Section::new("Generations", self.texts().into_iter().map(SectionPart::Generations).collect()));
        }
        sections
    }

    /// Takes a judge's scores, one a generated text in their order, and adds the mean of each row to its measures.
    pub fn add_scores(&mut self, verdicts: &[JudgeVerdict]) {
        for (text, verdict) in self.generations.iter_mut().zip(verdicts) {
            text.judge_score = verdict.score;
        }
        for row in &mut self.rows {
            let texts = self.generations.iter().filter(|text| text.subject == row.subject && text.magnitude == row.magnitude);
            let scores: Vec<f64> = texts.filter_map(|text| text.judge_score.map(f64::from)).collect();
            let measure = |estimate| Measure { name: JUDGE.to_owned(), unit: MeasureUnit::Number, estimate };
            row.measures.extend(Estimate::of_mean(&scores).map(measure));
        }
    }

    fn panels(&self, names: &[&str]) -> Vec<Panel> {
        // How often a condition fires does not depend on the magnitude.
        let has_curve = |name: &str| !WITHOUT_CURVE.contains(&name) && !name.ends_with("fired");
        names.iter().filter(|name| has_curve(name)).map(|name| self.panel(name)).collect()
    }

    fn panel(&self, name: &str) -> Panel {
        let unit = self.rows.iter().find_map(|row| row.get(name)).map_or(MeasureUnit::Number, |measure| measure.unit);
        let (factor, suffix) = if unit == MeasureUnit::Share { (100.0, ", %") } else { (1.0, "") };
        let mut panel = Panel::new(format!("{}{suffix}", heading(name)), Vec::new());
        if name == "perplexity_ratio" {
            panel.y_scale = Scale::Log;
        }
        // Where a row has no such measure, as that of the untouched model has none of what moved, the line has a gap.
        let point = |row: &EvalRow| {
            let x = row.magnitude?.into();
            let Some(estimate) = row.get(name).map(|measure| measure.estimate) else {
                return Some(Point::new(x, f64::NAN));
            };
            let point = Point::new(x, factor * estimate.value);
            // The untouched model has moved nothing, without a doubt: the band goes through that point.
            let ends = estimate.interval().or((x == 0.0).then_some((estimate.low, estimate.high)));
            Some(ends.map_or(point, |(low, high)| point.between(factor * low, factor * high)))
        };
        for subject in self.subjects() {
            if let Some(row) = self.rows.iter().find(|row| row.subject == subject && row.magnitude.is_none()) {
                panel.reference = row.get(name).map(|measure| (factor * measure.estimate.value, subject.to_owned()));
                continue;
            }
            // At magnitude 0 all subjects are the model, which has one row.
            let of_subject = self.rows.iter().filter(|row| row.subject == subject || row.magnitude == Some(0.0));
            let mut points: Vec<Point> = of_subject.filter_map(point).collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            panel.series.push(Series::new(subject, Style::Dotted, points));
        }
        panel
    }

    /// Subjects in the order of their rows.
    fn subjects(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.subject.as_str()))
    }

    /// Prompt by prompt in the order of the first texts, a subject after the other.
    fn texts(&self) -> Vec<Generations> {
        let prompts = distinct(self.generations.iter().map(|text| text.prompt.as_str()));
        let subjects = self.subjects();
        let of = |prompt: &str, subject: &str| {
            let texts = self.generations.iter().filter(|text| text.prompt == prompt && text.subject == subject);
            let answers = texts.map(|text| ShownAnswer {
                magnitude: text.magnitude.map(f64::from),
                text: text.text.clone(),
                note: text.judge_score.map_or_else(String::new, |score| format!("judge: {score} of 4")),
            });
            let shown = if subjects.len() > 1 { subject } else { "" };
            Generations { prompt: prompt.to_owned(), subject: shown.to_owned(), answers: answers.collect() }
        };
        let all = prompts.iter().flat_map(|prompt| subjects.iter().map(|subject| of(prompt, subject)));
        all.filter(|texts| !texts.answers.is_empty()).collect()
    }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
