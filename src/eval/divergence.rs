//! How far the next-token distributions of steered answers are from those of the untouched model behind the same text.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::damage::{Window, divergences};
use crate::Result;
use crate::generate::{FinishReason, GenerateOptions, Generation, Prompt, SweepEvent, generate_each};
use crate::model::Model;
use crate::steering::Steering;
use crate::text::tokens::EncodedPrompt;
use crate::train::collective::{Collective, Share};

/// Tokens of answers that are read in one pass.
const WINDOW: usize = 1024;

/// KL(steered ‖ untouched) of each token of each prompt's greedy answer at each magnitude, in nats; one that is infinite where numbers are
/// not finite. `(M, prompts, tokens)`. At most `streams` texts are generated at once, and ranks measure their shares of the prompts.
///
/// # Errors
/// A tensor operation or `on_pass` fails.
pub fn answer_divergences(
    model: &Model,
    prompts: &[EncodedPrompt],
    (vectors, steering, magnitudes): (&BTreeMap<usize, Vec<f32>>, &Steering, &[f32]),
    (options, streams): (&GenerateOptions, usize),
    collective: &Collective,
    on_pass: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let share = collective.share();
    let own = share.of(prompts);
    let answers = answers(model, &own, vectors, magnitudes, options, streams, on_pass)?;
    let of_magnitude = |(answers, magnitude): (&Option<Vec<Generation>>, &f32)| {
        let of_own = match answers {
            Some(answers) => divergences_of(model, &own, answers, &steering.with_factor(*magnitude), options, share)?,
            None => vec![vec![f64::INFINITY]; own.len()],
        };
        collective.gather(prompts.len(), of_own)
    };
    answers.iter().zip(magnitudes).map(of_magnitude).collect()
}

/// The answers to all prompts at each magnitude; none where logits were not finite.
///
/// # Errors
/// A tensor operation or `on_pass` fails.
pub fn answers(
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

/// KL(steered ‖ untouched) of each token of each prompt's answer, behind the steered text before it, in nats.
///
/// # Errors
/// A tensor operation fails.
pub fn divergences_of(
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
