//! Pictures of a report: a curve a measure against magnitude, a series a subject, intervals shaded; and what a page shows of it.

use std::collections::BTreeMap;

use super::judge::Verdict;
use super::table::{JUDGE, heading, parts, signed_magnitude};
use super::{Measure, Report, Row, Unit};
use crate::report::{Answer, Block, Cell, Chart, Estimate, Generations, Panel, Section, Series, Table, curves};

/// Measures that say what another one says: they have no curve.
const WITHOUT_CURVE: [&str; 3] = ["dose", "wrong", "accuracy_per_token"];

impl Report {
    /// Effect and damage against magnitude: a panel a measure, a baseline without magnitude as a line across.
    pub fn chart(&self) -> Chart {
        let names: Vec<&str> = self.groups().into_iter().flat_map(|(_, names)| names).collect();
        curves::dose_response("Effect and damage", self.panels(&names))
    }

    /// A section a group of measures, with curves and table, then one of the generated texts.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        for (title, names) in self.groups() {
            let panels = self.panels(&names);
            let mut blocks = Vec::new();
            if !panels.is_empty() {
                blocks.push(Block::Chart(curves::dose_response("", panels)));
            }
            blocks.push(Block::Table(self.page_table(&names)));
            sections.push(Section::new(title, blocks));
        }
        if !self.generations.is_empty() {
            sections.push(Section::new("Generations", self.texts().into_iter().map(Block::Generations).collect()));
        }
        sections
    }

    /// Takes a judge's scores, one a generated text in their order, and adds the mean of each row to its measures.
    pub fn add_scores(&mut self, verdicts: &[Verdict]) {
        for (text, verdict) in self.generations.iter_mut().zip(verdicts) {
            text.judge_score = verdict.score;
        }
        for row in &mut self.rows {
            let texts = self.generations.iter().filter(|text| text.subject == row.subject && text.magnitude == row.magnitude);
            let scores: Vec<f64> = texts.filter_map(|text| text.judge_score.map(f64::from)).collect();
            let measure = |estimate| Measure { name: JUDGE.to_owned(), unit: Unit::Number, estimate };
            row.measures.extend(super::bootstrap::Estimate::of_mean(&scores).map(measure));
        }
    }

    fn panels(&self, names: &[&str]) -> Vec<Panel> {
        names.iter().filter(|name| !WITHOUT_CURVE.contains(name)).map(|name| self.panel(name)).collect()
    }

    fn panel(&self, name: &str) -> Panel {
        let has = |row: &&Row| row.get(name).is_some();
        let unit = self.rows.iter().find_map(|row| row.get(name)).map_or(Unit::Number, |measure| measure.unit);
        let factor = if unit == Unit::Share { 100.0 } else { 1.0 };
        let label = heading(name);
        let mut panel = Panel::new(if unit == Unit::Share { format!("{label}, %") } else { label.to_owned() });
        if name == "perplexity" {
            panel = panel.log();
        }
        for subject in self.subjects() {
            // At magnitude 0 all subjects are the model, which has one row.
            let of_subject = |row: &&Row| row.subject == subject || row.magnitude == Some(0.0);
            let mut estimates: Vec<Estimate> = Vec::new();
            for row in self.rows.iter().filter(of_subject).filter(has) {
                let (Some(magnitude), Some(measure)) = (row.magnitude, row.get(name)) else { continue };
                let [value, low, high] = [measure.estimate.value, measure.estimate.low, measure.estimate.high];
                let at = Estimate::new(f64::from(magnitude), factor * value);
                estimates.push(at.between(factor * low, factor * high));
            }
            estimates.sort_by(|a, b| a.x.total_cmp(&b.x));
            if self.rows.iter().any(|row| row.subject == subject && row.magnitude.is_some()) {
                panel = panel.series(Series::estimates(subject, &estimates));
            } else if let Some(measure) = self.rows.iter().find(|row| row.subject == subject).and_then(|row| row.get(name)) {
                panel = panel.reference(factor * measure.estimate.value, subject);
            }
        }
        panel
    }

    /// In the order of their rows.
    fn subjects(&self) -> Vec<&str> {
        let mut subjects: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !subjects.contains(&row.subject.as_str()) {
                subjects.push(&row.subject);
            }
        }
        subjects
    }

    fn page_table(&self, names: &[&str]) -> Table {
        let minus = |text: String| text.replace('-', "−");
        let cell = |row: &Row, name: &str| match row.get(name) {
            None => Cell::Number("—".to_owned(), None),
            Some(measure) => {
                let (value, ends) = parts(row, measure);
                Cell::Number(minus(value), ends.map(|(low, high)| (minus(low), minus(high))))
            }
        };
        let row = |row: &Row| {
            let magnitude = row.magnitude.map_or_else(|| "—".to_owned(), |magnitude| minus(signed_magnitude(magnitude)));
            let first = [Cell::text(&row.subject), Cell::Number(magnitude, None)];
            first.into_iter().chain(names.iter().map(|name| cell(row, name))).collect()
        };
        Table {
            caption: "In brackets: 95 % intervals.".to_owned(),
            columns: ["", "magnitude"].into_iter().chain(names.iter().map(|name| heading(name))).map(String::from).collect(),
            rows: self.rows.iter().map(row).collect(),
            best: None,
        }
    }

    /// Prompt by prompt, a subject after the other.
    fn texts(&self) -> Vec<Generations> {
        let mut by_prompt: Vec<(&str, BTreeMap<usize, Generations>)> = Vec::new();
        let subjects = self.subjects();
        for text in &self.generations {
            let at = by_prompt.iter().position(|(prompt, _)| *prompt == text.prompt).unwrap_or_else(|| {
                by_prompt.push((&text.prompt, BTreeMap::new()));
                by_prompt.len() - 1
            });
            let order = subjects.iter().position(|subject| *subject == text.subject).unwrap_or_default();
            let subject = if subjects.len() > 1 { text.subject.clone() } else { String::new() };
            let new = || Generations { prompt: text.prompt.clone(), subject, answers: Vec::new() };
            by_prompt[at].1.entry(order).or_insert_with(new).answers.push(Answer {
                magnitude: text.magnitude.map(f64::from),
                text: text.text.clone(),
                note: text.judge_score.map_or_else(String::new, |score| format!("judge: {score} of 4")),
            });
        }
        by_prompt.into_iter().flat_map(|(_, of_subjects)| of_subjects.into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap;
    use super::super::judge::Generation;
    use super::super::{GeneratedText, Timings};
    use super::*;
    use crate::generate::FinishReason;

    fn report() -> Report {
        let estimate = |value| bootstrap::Estimate { value, low: value - 0.5, high: value + 0.5 };
        let row = |subject: &str, magnitude: Option<f32>, right: f64| Row {
            subject: subject.into(),
            magnitude,
            measures: [("dose", Unit::Number, 0.1), ("right", Unit::Share, right), ("perplexity", Unit::Number, 12.5)]
                .map(|(name, unit, value)| Measure { name: name.into(), unit, estimate: estimate(value) })
                .to_vec(),
        };
        let text = |subject: &str, magnitude, prompt: &str| GeneratedText {
            subject: subject.into(),
            magnitude,
            prompt: prompt.into(),
            text: "x".into(),
            finish_reason: FinishReason::Stop,
            judge_score: None,
        };
        Report {
            schema_version: 1,
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
            timings: Timings::default(),
        }
    }

    #[test]
    fn a_measure_has_a_curve_a_subject_from_the_model_at_0_and_a_line_for_an_instruction() {
        let chart = report().chart();
        let labels: Vec<&str> = chart.panels.iter().map(|panel| panel.y_label.as_str()).collect();
        assert_eq!(labels, ["moved right, %", "perplexity"]);
        let panel = &chart.panels[0];
        let series: Vec<(&str, &[(f64, f64)])> = panel.series.iter().map(|s| (s.name.as_str(), s.points.as_slice())).collect();
        assert_eq!(series, [("vector", &[(0.0, 50.0), (2.0, 75.0)][..]), ("random", &[(0.0, 50.0), (2.0, 25.0)][..])]);
        assert_eq!(panel.series[0].band.as_deref(), Some(&[(0.0, 100.0), (25.0, 125.0)][..]));
        assert_eq!(panel.reference, Some((62.5, "prompt".to_owned())));
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
        let verdict = |score| Verdict {
            generation: Generation { prompt: String::new(), magnitude: 0.0, text: String::new() },
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
}
