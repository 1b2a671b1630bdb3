//! What a magnitude of a vector costs, for the search of the largest one within a budget.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::bootstrap::{mean, quantile};
use super::budget::{Budget, Limit, found, search};
use super::damage::{Reading, TextIds, Window, divergences, score_text};
use super::material::{EvalMaterial, Subject, Treatment};
use super::preference::score;
use super::run::Settings;
use crate::generate::{FinishReason, GenerateOptions, Generation, Prompt, SweepEvent, generate_each};
use crate::model::Model;
use crate::steering::Steering;
use crate::text::tokens::EncodedPrompt;
use crate::train::activations::Activations;
use crate::train::collective::{Collective, Share};
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

/// Tokens of answers that are read in one pass.
const WINDOW: usize = 1024;

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
        Gauge::Answers { prompts, options, streams } => {
            let share = collective.share();
            let own = share.of(prompts);
            search(budget, |magnitudes| {
                let answers = answers(model, &own, vectors, magnitudes, options, streams, on_pass)?;
                let cost = |(answers, magnitude): (&Option<Vec<Generation>>, &f32)| {
                    let own = match answers {
                        Some(answers) => {
                            let steering = steering.with_factor(*magnitude);
                            divergences_of(model, &own, answers, &steering, options, share)?
                        }
                        None => vec![vec![f64::INFINITY]; own.len()],
                    };
                    Ok(percentile(collective.gather(prompts.len(), own)?.concat()))
                };
                answers.iter().zip(magnitudes).map(cost).collect()
            })
        }
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

/// Gives each vector of an evaluation its own largest magnitudes within a budget of damage, and the first one 0 between them, as the
/// untouched model. → the names of those that reach the budget in neither direction, which have none
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
) -> Result<Vec<String>> {
    let mut unreached = Vec::new();
    let mut is_first = true;
    for Subject { name, treatment, encoded } in subjects.iter_mut() {
        let Treatment::Vector(vector, magnitudes) = treatment else { continue };
        let positions = vector.metadata.positions;
        let options = GenerateOptions { positions, max_new_tokens: CALIBRATION_TOKENS, ..settings.generate.clone() };
        let gauge = match budget {
            Budget::Perplexity(_) => Gauge::Text(TextIds { ids: &encoded.text, bos: material.bos }),
            _ => Gauge::Answers { prompts: &encoded.prompts, options: &options, streams: settings.streams },
        };
        let [minus, plus] = found(&calibrate(model, &vector.layers, budget, gauge, &settings.collective, on_pass)?, budget);
        if minus.is_none() && plus.is_none() {
            unreached.push(name.clone());
            continue;
        }
        *magnitudes = [minus, is_first.then_some(0.0), plus].into_iter().flatten().collect();
        is_first = false;
    }
    Ok(unreached)
}

/// The answers to all prompts at each magnitude; none where logits were not finite.
fn answers(
    model: &Model,
    prompts: &[EncodedPrompt],
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
    streams: usize,
    on_pass: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Option<Vec<Generation>>>> {
    let mut found = vec![Some(Vec::new()); magnitudes.len()];
    let encoded: Vec<Prompt> = prompts.iter().map(Prompt::from).collect();
    generate_each(model, &encoded, vectors, magnitudes, options, streams, &mut |progress| {
        let SweepEvent::Answer { texts, .. } = progress else { return on_pass() };
        for (found, text) in found.iter_mut().zip(texts) {
            match found {
                Some(answers) if text.finish_reason != FinishReason::NotFinite => answers.push(text),
                _ => *found = None,
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// KL(steered ‖ untouched) of each token of each prompt's answer, behind the steered text before it.
fn divergences_of(
    model: &Model,
    prompts: &[EncodedPrompt],
    answers: &[Generation],
    steering: &Steering,
    options: &GenerateOptions,
    share: Share,
) -> Result<Vec<Vec<f64>>> {
    let split = steering.lowest().map_or(model.num_blocks(), |layer| layer + 1);
    let texts: Vec<AnsweredPrompt> =
        prompts.iter().zip(answers).map(|(prompt, answer)| AnsweredPrompt::new(prompt, answer, options)).collect();
    let mut found = Vec::new();
    let mut rest = texts.as_slice();
    while !rest.is_empty() {
        let ends = rest.iter().scan(0, |rows, text| {
            *rows += text.ids.len();
            Some(*rows)
        });
        let (group, others) = rest.split_at(share.items_a_pass(ends.take_while(|rows| *rows <= WINDOW).count().max(1)));
        let ids: Vec<Vec<u32>> = group.iter().map(|text| text.ids.clone()).collect();
        let factors: Vec<f32> = group.iter().flat_map(|text| text.factors.iter().copied()).collect();
        let count = factors.len();
        let window = Window::of(model, &ids, split)?;
        let rows = Tensor::from_vec(factors, (count, 1), window.residual.device())?;
        let predicting = predicting(group);
        let predicting = Tensor::new(predicting.as_slice(), model.device())?;
        let steered = window.all_rows(Some((steering, &rows)))?.index_select(&predicting, 0)?;
        let plain = window.all_rows(None)?.index_select(&predicting, 0)?;
        let mut divergences = divergences(model, &steered, &plain)?.into_iter();
        let of_text = |text: &AnsweredPrompt| divergences.by_ref().take(text.ids.len() + 1 - text.prompt).collect();
        found.extend(group.iter().map(of_text));
        rest = others;
    }
    Ok(found)
}

/// The 95th percentile of the divergences at all tokens.
fn percentile(mut divergence: Vec<f64>) -> f64 {
    // Not a number may be anything, and must not be among the tokens that the percentile leaves out.
    let is_finite = divergence.iter().all(|kl| kl.is_finite());
    divergence.sort_unstable_by(f64::total_cmp);
    if is_finite { quantile(&divergence, PERCENTILE) } else { f64::INFINITY }
}

/// A prompt with its answer, up to the token that predicts the answer's last one.
struct AnsweredPrompt {
    ids: Vec<u32>,
    /// 1 where the vector is added, else 0.
    factors: Vec<f32>,
    /// Tokens of the prompt.
    prompt: usize,
}

impl AnsweredPrompt {
    fn new(prompt: &EncodedPrompt, answer: &Generation, options: &GenerateOptions) -> Self {
        let told = Prompt::from(prompt);
        let answer = &answer.token_ids[..answer.token_ids.len().saturating_sub(1)];
        let steered = told.steered(options.positions);
        let generated = std::iter::repeat_n(told.steers_generated(options.positions), answer.len());
        Self {
            ids: [&prompt.ids, answer].concat(),
            factors: steered.into_iter().chain(generated).map(f32::from).collect(),
            prompt: prompt.ids.len(),
        }
    }
}

/// The rows that predict the tokens of the answers.
fn predicting(texts: &[AnsweredPrompt]) -> Vec<u32> {
    let mut start = 0;
    let mut rows = Vec::new();
    for text in texts {
        rows.extend((start + text.prompt - 1..start + text.ids.len()).map(|row| row as u32));
        start += text.ids.len();
    }
    rows
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
