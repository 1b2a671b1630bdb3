//! Preference: how far a vector moves held-out pairs, the right way and the wrong way, and how often the steered model
//! prefers the chosen response. Log-probabilities come from the training path: A_L cached once, one upper-half pass a
//! magnitude, and magnitude 0 is the cached reference.

use super::bootstrap::{Bootstrap, Estimate};
use super::{Measure, MeasureUnit};
use crate::model::Model;
use crate::steering::{Steering, dose};
use crate::train::activations::Activations;
use crate::train::objective::{PairLogProbs, margin};
use crate::{Error, Result};

/// Log-probabilities of all pairs under the model that is steered with `magnitude`, or untouched where a pair has not `fired`, which
/// is said of all pairs. Ranks score their shares of them. `on_pass` is called after each pass.
///
/// # Errors
/// A log-probability is not finite (names the row), a tensor operation or `on_pass` fails.
pub fn score(
    model: &Model,
    pairs: &Activations,
    steering: &Steering,
    (magnitude, fired): (f32, Option<&[bool]>),
    on_pass: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<PairLogProbs>> {
    if magnitude == 0.0 {
        return pairs.gather(pairs.entries.iter().map(|entry| entry.reference).collect());
    }
    let fired = fired.map(|fired| pairs.share().of(fired));
    let scores = pairs.score_each(model, &steering.with_factor(magnitude), fired.as_deref(), on_pass)?;
    // Every rank sees what is wrong with any pair: none may leave the others waiting.
    let scores = pairs.gather(scores)?;
    for (row, log_probs) in pairs.data_rows.iter().zip(&scores) {
        if !log_probs.iter().all(|log_prob| log_prob.is_finite()) {
            return Err(Error::NotFinite(format!("row {row}: the log-probability is not finite")));
        }
    }
    Ok(scores)
}

/// What preference is measured from, pair by pair.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Log-probabilities under the model that is measured.
    pub policy: &'a [PairLogProbs],
    /// Log-probabilities under the model without vector or instruction.
    pub reference: &'a [PairLogProbs],
    /// Number of tokens of the two responses.
    pub tokens: &'a [[usize; 2]],
    /// Sign of the magnitude: the way that the margin should go. At 0 no way is right or wrong.
    pub direction: f64,
}

/// The measures of one row.
pub fn measures(scores: &Scores, beta: f64, bootstrap: &Bootstrap) -> Vec<Measure> {
    let margins: Vec<f64> = scores.policy.iter().zip(scores.reference).map(|(p, r)| margin(beta, *p, *r)).collect();
    let moved = |sign: f64| {
        let share = || Estimate::of_share(margins.iter().map(|margin| sign * scores.direction * margin > 0.0));
        (scores.direction != 0.0).then(share).flatten()
    };
    let per_token = |(p, tokens): (&PairLogProbs, &[usize; 2])| p[0] / tokens[0] as f64 > p[1] / tokens[1] as f64;
    [
        ("margin", MeasureUnit::Signed, bootstrap.mean(&margins)),
        ("moved_right", MeasureUnit::Share, moved(1.0)),
        ("moved_wrong", MeasureUnit::Share, moved(-1.0)),
        ("prefers_chosen", MeasureUnit::Share, Estimate::of_share(scores.policy.iter().map(|p| p[0] > p[1]))),
        (
            "prefers_chosen_per_token",
            MeasureUnit::Share,
            Estimate::of_share(scores.policy.iter().zip(scores.tokens).map(per_token)),
        ),
    ]
    .into_iter()
    .filter_map(|(name, unit, estimate)| Some(Measure { name: name.to_owned(), unit, estimate: estimate? }))
    .collect()
}

/// The mean [`dose`] over pairs, each with the median over its steered tokens in `divisors`.
pub(crate) fn mean_dose(divisors: &[Option<f64>], vector_norm: f64, magnitude: f32, bootstrap: &Bootstrap) -> Option<Measure> {
    let doses: Vec<f64> = divisors.iter().flatten().map(|divisor| dose::dose(magnitude, vector_norm, *divisor)).collect();
    Some(Measure { name: "dose".to_owned(), unit: MeasureUnit::Number, estimate: bootstrap.mean(&doses)? })
}

#[cfg(test)]
#[path = "preference_tests.rs"]
mod tests;
