//! AxBench's protocol (arXiv 2501.17148): a judge grades each text from 0 to 2 for a concept, for the instruction and for fluency; the
//! score of a text is the harmonic mean of the three; the factor is chosen on one half of the instructions, and scored on the other.
//! The judge is asked in words of our own, which say what the paper's grades mean.
//!
//! Begin with [`rubrics`], by which [`judge()`](super::judge()) grades the texts three times, and [`summarise`].

use serde::Serialize;

use super::super::bootstrap::Estimate;
use super::{JudgeVerdict, JudgedText, Rubric};
use crate::steering::Operation;
use crate::{Error, Result};

/// Largest grade of a concept, an instruction or fluency.
const BEST: u8 = 2;

/// Returns the rubrics of a concept: of the concept itself, of the instruction, and of fluency.
pub fn rubrics(concept: &str) -> [Rubric; 3] {
    let rubric = |name: &str, text: String| Rubric { name: name.to_owned(), text, scale: 0..=BEST };
    [
        rubric(
            "axbench-concept",
            format!(
                "Grade how clearly this concept is part of the answer: {concept}\nGrade the concept alone: grammar, sense and whether \
                 the question is answered do not count.\n0: the concept is not in the answer.\n1: the concept is in the answer, but \
                 only hinted at, in a small part of it, or out of place.\n2: the concept is clearly and fully part of the answer."
            ),
        ),
        rubric(
            "axbench-instruction",
            "Grade how closely the answer is about what the question asks.\nGrade the relation to the question alone: grammar, \
             style, completeness and other content in the answer do not count.\n0: the answer has nothing to do with the \
             question.\n1: the answer is about the question in part, or loosely.\n2: the answer is clearly about what the question \
             asks."
                .to_owned(),
        ),
        rubric(
            "axbench-fluency",
            "Grade how fluent the language of the answer is.\nGrade the language alone: what the answer says, whether it fits the \
             question, and whether it ends do not count.\n0: not fluent: it cannot be understood, repeats itself, or is very \
             unnatural.\n1: somewhat fluent, with errors or awkward phrases that a reader notices.\n2: fluent and almost without a \
             fault."
                .to_owned(),
        ),
    ]
}

/// Returns the harmonic mean of three grades, which is 0 if one of them is 0.
pub(crate) fn harmonic_mean(grades: [f64; 3]) -> f64 {
    match grades.iter().all(|grade| *grade > 0.0) {
        true => 3.0 / grades.iter().map(|grade| 1.0 / grade).sum::<f64>(),
        false => 0.0,
    }
}

/// A text with its grades.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GradedText {
    /// Text that was graded.
    #[serde(flatten)]
    pub generation: JudgedText,
    /// Grade of the concept as the judge gave it; `None` if grading failed.
    pub concept: Option<u8>,
    /// Grade of the instruction.
    pub instruction: Option<u8>,
    /// Grade of fluency.
    pub fluency: Option<u8>,
    /// Harmonic mean of the three; under suppression, of 2 − concept and the others. `None` if one of them is missing.
    pub score: Option<f64>,
    /// Whether the text's instruction is one of those that the factor is chosen on.
    pub chooses: bool,
}

/// Means at one factor, over all instructions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FactorScore {
    /// Factor on the vector.
    pub magnitude: f32,
    /// What was done with the vector.
    #[serde(skip_serializing_if = "Operation::is_addition")]
    pub operation: Operation,
    /// Mean grade of the concept over the texts that have one; `None` if none has, as for the other means.
    pub concept: Option<f64>,
    /// Mean grade of the instruction.
    pub instruction: Option<f64>,
    /// Mean grade of fluency.
    pub fluency: Option<f64>,
    /// Mean score of the texts with all three grades.
    pub score: Option<f64>,
    /// Number of texts with all three grades.
    pub scored: usize,
    /// Number of texts that lack a grade.
    pub failed: usize,
}

/// The factor that is best on one half of the instructions, and its score on the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChosenFactor {
    /// Factor on the vector.
    pub magnitude: f32,
    /// What was done with the vector.
    #[serde(skip_serializing_if = "Operation::is_addition")]
    pub operation: Operation,
    /// Mean score on the instructions that it is chosen on.
    pub chosen_with: f64,
    /// Number of texts with a score among them.
    pub chosen_on: usize,
    /// Mean score on the other instructions.
    pub score: f64,
    /// 95 % interval of it by Student's t; `None` for fewer than two texts.
    pub interval: Option<[f64; 2]>,
    /// Number of texts with a score among them.
    pub scored_on: usize,
}

/// Result of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AxbenchReport {
    /// Concept that was graded.
    pub concept: String,
    /// Whether the concept is to be suppressed, so that its grade counts as 2 minus itself.
    pub is_suppressed: bool,
    /// Means by factor, in the order in which the factors first occur.
    pub factors: Vec<FactorScore>,
    /// The chosen factor; `None` if no factor but 0 has a score on both halves.
    pub chosen: Option<ChosenFactor>,
    /// Number of texts without a score.
    pub failures: usize,
    /// Every text, in the order in which it was given.
    pub texts: Vec<GradedText>,
}

/// Refuses texts of fewer than two instructions, which have no two halves.
///
/// # Errors
/// There are fewer than two different prompts.
pub fn check(generations: &[JudgedText]) -> Result<()> {
    match instructions(generations).len() {
        0 | 1 => Err(Error::Argument(
            "AxBench's protocol chooses the factor on one half of the prompts and scores it on the other: give texts of two prompts \
             or more"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// The prompts in the order in which they first occur.
fn instructions(generations: &[JudgedText]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for generation in generations {
        if !found.contains(&generation.prompt.as_str()) {
            found.push(&generation.prompt);
        }
    }
    found
}

/// Summarises the verdicts by the three rubrics on the same texts. The factor is chosen on every second instruction, beginning with the
/// first.
pub fn summarise(concept: &str, is_suppressed: bool, verdicts: [&[JudgeVerdict]; 3]) -> AxbenchReport {
    let [of_concept, of_instruction, of_fluency] = verdicts;
    let generations: Vec<JudgedText> = of_concept.iter().map(|verdict| verdict.generation.clone()).collect();
    let instructions = instructions(&generations);
    let text = |(index, generation): (usize, &JudgedText)| {
        let grades =
            [of_concept, of_instruction, of_fluency].map(|verdicts| verdicts.get(index).and_then(|verdict| verdict.score));
        let place = instructions.iter().position(|prompt| *prompt == generation.prompt);
        GradedText {
            generation: generation.clone(),
            concept: grades[0],
            instruction: grades[1],
            fluency: grades[2],
            score: score(grades, is_suppressed),
            chooses: place.is_some_and(|place| place % 2 == 0),
        }
    };
    let texts: Vec<GradedText> = generations.iter().enumerate().map(text).collect();
    let mut groups: Vec<((f32, Operation), Vec<&GradedText>)> = Vec::new();
    for text in &texts {
        let factor = (text.generation.magnitude, text.generation.operation);
        match groups.iter_mut().find(|(known, _)| *known == factor) {
            Some((_, group)) => group.push(text),
            None => groups.push((factor, vec![text])),
        }
    }
    AxbenchReport {
        concept: concept.to_owned(),
        is_suppressed,
        factors: groups.iter().map(|(factor, group)| factor_score(*factor, group)).collect(),
        chosen: chosen(&groups),
        failures: texts.iter().filter(|text| text.score.is_none()).count(),
        texts,
    }
}

fn score(grades: [Option<u8>; 3], is_suppressed: bool) -> Option<f64> {
    let [concept, instruction, fluency] = grades.map(|grade| grade.map(f64::from));
    let concept = concept.map(|concept| if is_suppressed { f64::from(BEST) - concept } else { concept });
    Some(harmonic_mean([concept?, instruction?, fluency?]))
}

fn factor_score((magnitude, operation): (f32, Operation), group: &[&GradedText]) -> FactorScore {
    let whole = group.iter().filter(|text| text.score.is_some()).count();
    let mean = |of: &dyn Fn(&GradedText) -> Option<f64>| mean(group.iter().filter_map(|text| of(text)));
    FactorScore {
        magnitude,
        operation,
        concept: mean(&|text| text.concept.map(f64::from)),
        instruction: mean(&|text| text.instruction.map(f64::from)),
        fluency: mean(&|text| text.fluency.map(f64::from)),
        score: mean(&|text| text.score),
        scored: whole,
        failed: group.len() - whole,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The factor with the best mean score on the instructions that choose; of equal ones, the smallest. Factor 0 is no steering.
fn chosen(groups: &[((f32, Operation), Vec<&GradedText>)]) -> Option<ChosenFactor> {
    let scores = |group: &[&GradedText], chooses: bool| -> Vec<f64> {
        group.iter().filter(|text| text.chooses == chooses).filter_map(|text| text.score).collect()
    };
    let factors = groups.iter().filter(|((magnitude, _), _)| *magnitude != 0.0);
    let candidates = factors.filter_map(|(factor, group)| {
        let (here, there) = (scores(group, true), scores(group, false));
        Some((*factor, mean(here.iter().copied())?, here.len(), Estimate::of_mean(&there)?, there.len()))
    });
    let best =
        candidates.max_by(|(a, a_mean, ..), (b, b_mean, ..)| a_mean.total_cmp(b_mean).then(b.0.abs().total_cmp(&a.0.abs())));
    best.map(|((magnitude, operation), chosen_with, chosen_on, estimate, scored_on)| ChosenFactor {
        magnitude,
        operation,
        chosen_with,
        chosen_on,
        score: estimate.value,
        interval: Some([estimate.low, estimate.high]).filter(|[low, _]| low.is_finite()),
        scored_on,
    })
}

#[cfg(test)]
#[path = "axbench_tests.rs"]
mod tests;
