//! What a magnitude of a vector costs, for the search of the largest one within a budget.

use std::collections::BTreeMap;

use super::bootstrap::{Estimate, mean, quantile};
use super::budget::{Budget, Limit, found, search};
use super::damage::{Reading, TextIds, score_text};
use super::divergence::answer_divergences;
use super::material::{EvalMaterial, Subject, Treatment};
use super::preference::score;
use super::run::Settings;
use super::table::bound;
use super::{EvalRow, Measure, MeasureUnit};
use crate::generate::GenerateOptions;
use crate::model::Model;
use crate::steering::Steering;
use crate::steering::magnitudes::signed;
use crate::text::tokens::EncodedPrompt;
use crate::train::activations::Activations;
use crate::train::collective::Collective;
use crate::train::objective::margin;
use crate::{Error, Result};

/// What a [`Budget`] is measured on.
#[derive(Debug, Clone, Copy)]
pub enum Gauge<'a> {
    /// Answers that are generated under steering, for [`Budget::Kl`].
    Answers {
        /// What is answered; at least one prompt.
        prompts: &'a [EncodedPrompt],
        /// How, and where the vector is added.
        options: &'a GenerateOptions,
        /// Texts that are generated at once.
        streams: usize,
    },
    /// A neutral text, every token of which is steered, for [`Budget::Perplexity`].
    Text(TextIds<'a>),
    /// Pairs whose margin is measured, for [`Budget::Margin`].
    Pairs {
        /// Residuals of the pairs at the vector's lowest layer, at its positions.
        pairs: &'a Activations,
        /// Factor of the margin.
        beta: f64,
    },
}

/// The share of generated tokens at which the divergence is at most what is counted.
const PERCENTILE: f64 = 0.95;

/// Finds the largest magnitudes of a vector within a budget: that in the negative direction, and that in the positive one. `vectors`
/// maps a layer to what is added to its output, `(H)`. Ranks measure their shares of prompts, pairs or windows of the text. `on_pass`
/// is called after each pass of the model.
///
/// # Errors
/// Nothing can be measured without the vector, a tensor operation or `on_pass` fails. Numbers that are not finite at a magnitude
/// are no error: it is beyond every budget.
pub fn calibrate(
    model: &Model,
    vectors: &BTreeMap<usize, Vec<f32>>,
    budget: Budget,
    gauge: Gauge,
    collective: &Collective,
    on_pass: &mut dyn FnMut() -> Result<()>,
) -> Result<[Limit; 2]> {
    let steering = Steering::new(vectors, model.device())?;
    match gauge {
        Gauge::Answers { prompts, options, streams } => search(budget, |magnitudes| {
            let used = (vectors, &steering, magnitudes);
            let found = answer_divergences(model, prompts, used, (options, streams), collective, on_pass)?;
            Ok(found.into_iter().map(|of_prompts| percentile(of_prompts.concat())).collect())
        }),
        Gauge::Text(text) => {
            let mut nll = |steering: &Steering| -> Result<f64> {
                let scores = score_text(model, text, &[Reading::Steered(steering)], collective, |_, _| on_pass())?;
                scores.first().map_or(Ok(f64::NAN), |score| score.check_finite().map(|()| mean(&score.nll)))
            };
            let plain = nll(&steering.with_factor(0.0))?;
            let mut cost = |magnitude: &f32| finite(nll(&steering.with_factor(*magnitude)).map(|nll| nll - plain));
            search(budget, |magnitudes| magnitudes.iter().map(&mut cost).collect())
        }
        Gauge::Pairs { pairs, beta } => {
            let reference = score(model, pairs, &steering, (0.0, None), on_pass)?;
            let mut cost = |magnitude: &f32| {
                finite(score(model, pairs, &steering, (*magnitude, None), on_pass).map(|policy| {
                    let margins = policy.iter().zip(&reference).map(|(policy, reference)| margin(beta, *policy, *reference));
                    f64::from(magnitude.signum()) * mean(&margins.collect::<Vec<_>>())
                }))
            };
            search(budget, |magnitudes| magnitudes.iter().map(&mut cost).collect())
        }
    }
}

/// Tokens that are generated to find the magnitudes of an evaluation's vectors.
pub const CALIBRATION_TOKENS: usize = 20;

/// What a vector of an evaluation costs at a magnitude that was found for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReachedCost {
    /// Name of the subject.
    pub subject: String,
    /// Magnitude with its sign.
    pub magnitude: f32,
    /// What it costs, in the unit of [`Budget::target`].
    pub cost: f64,
}

/// What was found for the vectors of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CalibratedSubjects {
    /// What each magnitude costs, in the order of the subjects.
    pub reached: Vec<ReachedCost>,
    /// Names of the vectors that reach the budget in neither direction, which have no magnitudes.
    pub unreached: Vec<String>,
}

impl CalibratedSubjects {
    /// Adds to the row of each magnitude what it costs, in the unit in which the budget is said: the measure `reached_kl` or
    /// `reached_ppl`, which has no interval.
    pub fn add_to(&self, rows: &mut [EvalRow], budget: Budget) {
        for row in rows {
            let is_here = |at: &&ReachedCost| at.subject == row.subject && Some(at.magnitude) == row.magnitude;
            let Some(ReachedCost { cost, .. }) = self.reached.iter().find(is_here) else { continue };
            let value = budget.shown(*cost);
            let estimate = Estimate { value, low: value, high: value };
            row.measures.push(Measure { name: format!("reached_{}", budget.name()), unit: MeasureUnit::Number, estimate });
        }
    }

    /// Says at which magnitudes the cost stays below what ends a search, 95 % of the budget; none where all use it up.
    pub fn shortfall(&self, budget: Budget) -> Option<String> {
        let short = self.reached.iter().filter(|reached| !budget.is_used_up(reached.cost));
        let named: Vec<String> = short
            .map(|ReachedCost { subject, magnitude, cost }| {
                let cost = bound(budget.shown(*cost), MeasureUnit::Number);
                format!("{subject} at {} ({cost})", signed(*magnitude))
            })
            .collect();
        (!named.is_empty()).then(|| {
            let least = bound(budget.least(), MeasureUnit::Number);
            format!(
                "{budget} is not used up, which is from {least} on, by {}: the cost jumps there, or twelve magnitudes were not enough; compare \
                 these with care, or choose another budget",
                named.join(", ")
            )
        })
    }
}

/// Gives each vector of an evaluation its own largest magnitudes within a budget of damage, and the first one 0 between them, as the
/// untouched model. → what each costs there, and the names of those that reach the budget in neither direction, which have none
///
/// # Errors
/// A tensor operation or `on_pass` fails.
pub fn calibrate_subjects(
    model: &Model,
    material: &EvalMaterial,
    subjects: &mut [Subject],
    budget: Budget,
    settings: &Settings,
    on_pass: &mut dyn FnMut() -> Result<()>,
) -> Result<CalibratedSubjects> {
    let mut calibrated = CalibratedSubjects::default();
    let mut is_first = true;
    for Subject { name, treatment, encoded } in subjects.iter_mut() {
        let Treatment::Vector(vector, magnitudes) = treatment else { continue };
        let positions = vector.metadata.positions;
        let options = GenerateOptions { positions, max_new_tokens: CALIBRATION_TOKENS, ..settings.generate.clone() };
        let gauge = match budget {
            Budget::Perplexity(_) => Gauge::Text(TextIds { ids: &encoded.text, bos: material.bos }),
            _ => Gauge::Answers { prompts: &encoded.prompts, options: &options, streams: settings.streams },
        };
        let limits = calibrate(model, &vector.layers, budget, gauge, &settings.collective, on_pass)?;
        let [minus, plus] = found(&limits, budget);
        if minus.is_none() && plus.is_none() {
            calibrated.unreached.push(name.clone());
            continue;
        }
        let reached = |(magnitude, limit): (Option<f32>, &Limit)| {
            Some(ReachedCost { subject: name.clone(), magnitude: magnitude?, cost: limit.found(budget)?.cost })
        };
        calibrated.reached.extend([minus, plus].into_iter().zip(&limits).filter_map(reached));
        *magnitudes = [minus, is_first.then_some(0.0), plus].into_iter().flatten().collect();
        is_first = false;
    }
    Ok(calibrated)
}

/// The 95th percentile of the divergences at all tokens.
fn percentile(mut divergence: Vec<f64>) -> f64 {
    // Not a number may be anything, and must not be among the tokens that the percentile leaves out.
    let is_finite = divergence.iter().all(|kl| kl.is_finite());
    divergence.sort_unstable_by(f64::total_cmp);
    if is_finite { quantile(&divergence, PERCENTILE) } else { f64::INFINITY }
}

/// A cost; infinite where it is not a number.
fn finite(cost: Result<f64>) -> Result<f64> {
    match cost {
        Err(Error::NotFinite(_)) => Ok(f64::INFINITY),
        cost => cost,
    }
}

#[cfg(test)]
#[path = "calibrate_tests.rs"]
mod tests;
