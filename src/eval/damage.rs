//! Damage: what steering costs where it is not wanted. Perplexity of a neutral text, how far the next-token distributions on
//! it move (KL divergence), and how much of what is generated repeats itself.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::bootstrap::Bootstrap;
use super::{Measure, MeasureUnit};
use crate::model::Model;
use crate::model::layout::Layout;
use crate::model::plan::PassPlan;
use crate::ops::linear::Products;
use crate::steering::Steering;
use crate::train::collective::Collective;
use crate::{Error, Result};

/// A plain text about nothing that a vector is trained for, written for this project.
pub const NEUTRAL_TEXT: &str = include_str!("../../data/neutral.txt");

/// Tokens that are read together: longer texts are cut into windows, each of which begins anew.
const WINDOW: usize = 1024;

/// Logits of both models that are held at a time, bytes each.
const CHUNK_BYTES: usize = 16 << 20;

/// A text as token ids, without template.
#[derive(Debug, Clone, Copy)]
pub struct TextIds<'a> {
    /// Token ids of the text: at least two, or one behind a BOS.
    pub ids: &'a [u32],
    /// What the tokenizer puts in front of a text.
    pub bos: Option<u32>,
}

/// What is done to the model while it reads the text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reading<'a> {
    /// Every token is steered.
    Steered(&'a Steering),
    /// The given tokens stand in front of the text, behind the BOS.
    Prompted(&'a [u32]),
}

/// The text under one reading, token by token.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextScore {
    /// −log p of each predicted token, nats.
    pub nll: Vec<f64>,
    /// −log p of each predicted token under the model without vector and without prompt, nats.
    pub bare_nll: Vec<f64>,
    /// KL(p₀ ‖ p) of each prediction, nats; p₀ is the model without vector and without prompt.
    pub kl: Vec<f64>,
}

impl TextScore {
    /// Refuses a score that means nothing.
    ///
    /// # Errors
    /// A log-probability is not finite.
    pub(crate) fn check_finite(&self) -> Result<()> {
        match self.nll.iter().all(|nll| nll.is_finite()) {
            true => Ok(()),
            false => Err(Error::NotFinite("the neutral text's log-probability is not finite".into())),
        }
    }

    fn numbers(&self) -> Vec<f64> {
        [self.nll.as_slice(), &self.bare_nll, &self.kl].concat()
    }

    /// Adds the [`TextScore::numbers`] of the tokens that follow.
    fn extend(&mut self, numbers: &[f64]) {
        let lists = [&mut self.nll, &mut self.bare_nll, &mut self.kl];
        lists.into_iter().zip(numbers.chunks((numbers.len() / 3).max(1))).for_each(|(list, numbers)| list.extend(numbers));
    }
}

/// Scores a text under each reading. A score can have numbers that are not finite: see [`TextScore::check_finite`]. Ranks read their
/// shares of its windows. `on_progress` gets the number of tokens read and of all.
///
/// # Errors
/// A tensor operation or `on_progress` fails.
pub(crate) fn score_text(
    model: &Model,
    text: TextIds,
    readings: &[Reading],
    collective: &Collective,
    mut on_progress: impl FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<TextScore>> {
    let window = WINDOW.min(model.config.max_position_embeddings).saturating_sub(usize::from(text.bos.is_some())).max(2);
    let mut done = 0;
    let windows: Vec<&[u32]> = text.ids.chunks(window).collect();
    let mut own: Vec<Vec<f64>> = Vec::new();
    for ids in collective.share().of(&windows) {
        let mut scores = vec![TextScore::default(); readings.len()];
        score_window(model, TextIds { ids, ..text }, readings, &mut scores, &mut || on_progress(done, text.ids.len()))?;
        own.push(scores.iter().flat_map(TextScore::numbers).collect());
        done += ids.len();
        on_progress(done, text.ids.len())?;
    }
    let mut scores = vec![TextScore::default(); readings.len()];
    for window in collective.gather(windows.len(), own)? {
        let len = window.len() / readings.len().max(1);
        window.chunks(len.max(1)).zip(&mut scores).for_each(|(numbers, score)| score.extend(numbers));
    }
    Ok(scores)
}

/// `on_reading` is called after each reading.
fn score_window(
    model: &Model,
    text: TextIds,
    readings: &[Reading],
    scores: &mut [TextScore],
    on_reading: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    // Without a BOS nothing predicts the first token.
    let targets = &text.ids[usize::from(text.bos.is_none())..];
    if targets.is_empty() {
        return Ok(());
    }
    let lowest = |reading: &Reading| match reading {
        Reading::Steered(steering) => steering.lowest().map(|layer| layer + 1),
        Reading::Prompted(_) => None,
    };
    let split = readings.iter().filter_map(lowest).min().unwrap_or(model.num_blocks());
    let plain = Window::new(model, text, &[], split)?;
    let bare = plain.last_rows(None, targets.len())?; // (T, H)
    let read: Vec<Tensor> = readings
        .iter()
        .map(|reading| {
            let rows = match reading {
                Reading::Steered(steering) => plain.last_rows(Some(steering), targets.len())?,
                Reading::Prompted(prefix) => {
                    Window::new(model, text, prefix, model.num_blocks())?.last_rows(None, targets.len())?
                }
            };
            on_reading()?;
            Ok(rows)
        })
        .collect::<Result<_>>()?;
    for (start, count) in chunks(model, targets.len()) {
        let targets = &targets[start..start + count];
        let chunk = |x: &Tensor| Distributions::new(model, &x.narrow(0, start, count)?);
        let bare = chunk(&bare)?;
        for (x, score) in read.iter().zip(scores.iter_mut()) {
            let steered = chunk(x)?;
            score.nll.extend(steered.nll(targets));
            score.bare_nll.extend(bare.nll(targets));
            score.kl.extend(bare.kl(&steered));
        }
    }
    Ok(())
}

/// Texts that are read in one pass, run through the blocks that no vector changes.
pub(super) struct Window<'m> {
    model: &'m Model,
    plan: PassPlan,
    /// First block that a vector can change.
    split: usize,
    /// Residual before that block, one text behind the other. `(R, H)`
    pub residual: Tensor,
}

impl<'m> Window<'m> {
    /// One text behind its BOS and a prefix.
    pub fn new(model: &'m Model, text: TextIds, prefix: &[u32], split: usize) -> Result<Self> {
        Self::of(model, &[text.bos.iter().chain(prefix).chain(text.ids).copied().collect()], split)
    }

    /// Several texts, each as all its tokens.
    pub fn of(model: &'m Model, texts: &[Vec<u32>], split: usize) -> Result<Self> {
        let mut layout = Layout::default();
        texts.iter().for_each(|ids| layout.push_sequence(ids.len()));
        let plan = model.plan(&layout)?;
        let residual = model.run(0..split, &model.embed(&texts.concat())?, &plan)?;
        Ok(Self { model, plan, split, residual })
    }

    /// The residual after the last block at the rows that predict the last `targets` tokens, where every token is steered.
    /// → `(targets, H)`
    pub(crate) fn last_rows(&self, steering: Option<&Steering>, targets: usize) -> Result<Tensor> {
        let (rows, _) = self.residual.dims2()?;
        let every = Tensor::ones((rows, 1), DType::F32, self.residual.device())?;
        let x = self.all_rows(steering.map(|steering| (steering, &every)))?;
        Ok(x.narrow(0, rows - 1 - targets, targets)?.contiguous()?)
    }

    /// The residual after the last block, where each row is steered with its own factor, `(R, 1)` f32. → `(R, H)`
    pub(crate) fn all_rows(&self, steering: Option<(&Steering, &Tensor)>) -> Result<Tensor> {
        let (mut x, mut next) = (self.residual.clone(), self.split);
        if let Some((steering, rows)) = steering {
            let factors = steering.factors(rows)?;
            for (layer, v) in steering.vectors() {
                x = self.model.run(next..layer + 1, &x, &self.plan)?;
                x = steering.apply(&x, v, &factors)?;
                next = layer + 1;
            }
        }
        self.model.run(next..self.model.num_blocks(), &x, &self.plan)
    }
}

/// KL(p ‖ q) of the next-token distributions p and q behind each row, in nats. `p` and `q (R, H)` are residuals after the last
/// block.
pub(super) fn divergences(model: &Model, p: &Tensor, q: &Tensor) -> Result<Vec<f64>> {
    let (rows, _) = p.dims2()?;
    let mut found = Vec::with_capacity(rows);
    for (start, count) in chunks(model, rows) {
        let of = |x: &Tensor| Distributions::new(model, &x.narrow(0, start, count)?);
        found.extend(of(p)?.kl(&of(q)?));
    }
    Ok(found)
}

/// First row and number of rows of each chunk whose logits are held at a time.
fn chunks(model: &Model, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = (CHUNK_BYTES / (4 * model.config.vocab_size)).max(1);
    (0..rows).step_by(most).map(move |start| (start, most.min(rows - start)))
}

/// Next-token distributions of some rows.
struct Distributions {
    /// Logits of each row. `(rows, V)`
    logits: Vec<f32>,
    vocab: usize,
    /// log Σ exp of each row's logits.
    log_sums: Vec<f64>,
}

impl Distributions {
    /// `x (rows, H)` after the last block.
    fn new(model: &Model, x: &Tensor) -> Result<Self> {
        let logits: Vec<f32> = model.logits(x, Products::Fastest)?.flatten_all()?.to_vec1()?;
        let vocab = model.config.vocab_size;
        let log_sums = logits.par_chunks(vocab).map(log_sum_exp).collect();
        Ok(Self { logits, vocab, log_sums })
    }

    fn nll(&self, targets: &[u32]) -> impl Iterator<Item = f64> {
        let rows = self.logits.chunks(self.vocab).zip(&self.log_sums).zip(targets);
        rows.map(|((logits, log_sum), target)| log_sum - f64::from(logits[*target as usize]))
    }

    /// KL(self ‖ other) = Σ p·(z − z′) − log Σ exp z + log Σ exp z′ of each row, in f64. Not a number where a logit is not.
    fn kl(&self, other: &Self) -> Vec<f64> {
        let rows = self.logits.par_chunks(self.vocab).zip(other.logits.par_chunks(self.vocab));
        rows.zip(self.log_sums.par_iter().zip(&other.log_sums))
            .map(|((own, other), (own_sum, other_sum))| {
                let term = |(z, other): (&f32, &f32)| {
                    let z = f64::from(*z);
                    (z - own_sum).exp() * (z - f64::from(*other) - own_sum + other_sum)
                };
                own.iter().zip(other).map(term).sum::<f64>().clamp(0.0, f64::INFINITY)
            })
            .collect()
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|z| (f64::from(*z) - most).exp()).sum::<f64>().ln()
}

/// Perplexity exp(mean −log p), its ratio to that of the model without vector and prompt, and mean KL divergence. Their
/// intervals are over tokens. Those of the ratio are over the changes of each token's −log p: what the tokens of any text differ
/// by, in which the change of the perplexity itself drowns, cancels.
pub(crate) fn text_measures(score: &TextScore, bootstrap: &Bootstrap) -> Vec<Measure> {
    let exp_of_mean = |nll: &[f64]| bootstrap.mean(nll).map(|nll| nll.map(f64::exp));
    let changes: Vec<f64> = score.nll.iter().zip(&score.bare_nll).map(|(nll, bare)| nll - bare).collect();
    let measures = [
        ("perplexity", exp_of_mean(&score.nll)),
        ("perplexity_ratio", exp_of_mean(&changes)),
        ("kl", bootstrap.mean(&score.kl)),
    ];
    let measure = |(name, estimate): (&str, Option<_>)| {
        Some(Measure { name: name.to_owned(), unit: MeasureUnit::Number, estimate: estimate? })
    };
    measures.into_iter().filter_map(measure).collect()
}

/// The n of the repeated n-grams.
const NGRAM: usize = 4;

/// 4-grams of `ids` that occur before in it, and all of them: seq-rep-4 of arXiv 1908.04319 is their ratio.
fn repeated(ids: &[u32]) -> [f64; 2] {
    let mut seen = std::collections::HashSet::new();
    let all = ids.windows(NGRAM);
    let count = all.len();
    let repeated = all.filter(|ngram| !seen.insert(*ngram)).count();
    [repeated as f64, count as f64]
}

/// The share of repeated 4-grams in all texts together. Its interval is over texts.
pub(crate) fn repetition(texts: &[&[u32]], bootstrap: &Bootstrap) -> Option<Measure> {
    let counts: Vec<[f64; 2]> = texts.iter().map(|ids| repeated(ids)).collect();
    Some(Measure { name: "repetition".to_owned(), unit: MeasureUnit::Share, estimate: bootstrap.ratio(&counts)? })
}

#[cfg(test)]
#[path = "damage_tests.rs"]
mod tests;
