//! Finding a condition (CAST, arXiv 2409.05907) from the residuals of prompts that need steering and of others: at each layer the
//! first principal component of their differences, then the layer, the threshold and its side by the F1 of telling the two apart.

use super::caa::first_component;
use crate::steering::condition::{Condition, FiringSide, PromptReading, score};
use crate::{Error, Result};

/// Passes over the differences to find their first component.
const PASSES: usize = 1000;

/// A condition that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundCondition {
    /// The block whose output is looked at.
    pub layer: usize,
    /// The direction, of length 1. `(H)`
    pub c: Vec<f32>,
    /// The threshold, and what it was found with.
    pub condition: Condition,
    /// How well it tells these prompts apart.
    pub told: Told,
}

/// How well prompts that need steering are told from others.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Told {
    /// Share of the prompts that fired which need steering; 0 where none fired.
    pub precision: f64,
    /// Share of the prompts that need steering which fired.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Number of prompts that fired, of which `precision` is a share.
    #[serde(skip)]
    pub fired: usize,
    /// Number of prompts that need steering, of which `recall` is a share.
    #[serde(skip)]
    pub need: usize,
}

impl Told {
    /// Counts prompts that need steering, and others, by whether they fired.
    pub fn of(need: &[bool], rest: &[bool]) -> Self {
        let fired = |of: &[bool]| of.iter().filter(|fired| **fired).count();
        Self::counted(fired(need), need.len(), fired(rest))
    }

    fn counted(right: usize, need: usize, wrong: usize) -> Self {
        let share = |of: usize| if of == 0 { 0.0 } else { right as f64 / of as f64 };
        let f1 = 2.0 * right as f64 / (right + wrong + need).max(1) as f64;
        let fired = right + wrong;
        Self { precision: share(fired), recall: share(need), f1, fired, need }
    }
}

/// Finds the layer, direction and threshold that tell prompts apart best. `need` and `rest` hold the residuals of each prompt after
/// each of `layers`, `(H)`, as `reading` says. Prompts are compared two by two in their order, the shorter list from its beginning
/// again and again. Thresholds are the middles between two neighbouring scores; of those with the same F1 the one wins whose gap is
/// widest, as a share of the range of the scores, and of these that of the lowest layer.
///
/// # Errors
/// One of the lists is empty, or no layer tells two prompts apart.
pub fn find(
    need: &[Vec<Vec<f64>>],
    rest: &[Vec<Vec<f64>>],
    layers: &[usize],
    reading: PromptReading,
) -> Result<FoundCondition> {
    if need.is_empty() || rest.is_empty() {
        return Err(Error::Argument("a condition needs prompts of both kinds, but one of the lists is empty".into()));
    }
    let mut best: Option<(f64, f64, FoundCondition)> = None;
    for (at, layer) in layers.iter().enumerate() {
        let c = component(need, rest, at);
        let scores = |prompts: &[Vec<Vec<f64>>]| prompts.iter().map(|layers| score(&layers[at], &c)).collect::<Vec<f64>>();
        let Some(FoundThreshold { comparison, threshold, gap, told }) = split(&scores(need), &scores(rest)) else { continue };
        let f1 = told.f1;
        if best.as_ref().is_none_or(|(best_f1, best_gap, _)| (f1, gap) > (*best_f1, *best_gap)) {
            let condition = Condition { reading, comparison, threshold, f1, need: need.len(), rest: rest.len() };
            best = Some((f1, gap, FoundCondition { layer: *layer, c, condition, told }));
        }
    }
    best.map(|(_, _, found)| found).ok_or_else(|| {
        Error::Argument("all prompts have the same score at every layer: the two lists must differ in what they ask".into())
    })
}

/// The first principal component of the differences of the two lists at one layer. `(H)`, of length 1
fn component(need: &[Vec<Vec<f64>>], rest: &[Vec<Vec<f64>>], at: usize) -> Vec<f32> {
    let couples = need.len().max(rest.len());
    let difference = |i: usize| -> Vec<f64> {
        let (need, rest) = (&need[i % need.len()][at], &rest[i % rest.len()][at]);
        need.iter().zip(rest).map(|(need, rest)| need - rest).collect()
    };
    let differences: Vec<Vec<f64>> = (0..couples).map(difference).collect();
    let mean = |i: usize| differences.iter().map(|row| row[i]).sum::<f64>() / couples as f64;
    let mean: Vec<f64> = (0..differences[0].len()).map(mean).collect();
    // Differences that cancel have no mean to begin at.
    let has_mean = mean.iter().any(|x| *x != 0.0);
    let start = if has_mean { &mean } else { &differences[0] };
    first_component(&differences, start, PASSES).into_iter().map(|x| x as f32).collect()
}

/// A threshold between the scores of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FoundThreshold {
    comparison: FiringSide,
    threshold: f64,
    /// Distance of the scores on its two sides, over the range of all.
    gap: f64,
    told: Told,
}

/// The best threshold between two neighbouring scores; none where all are the same.
fn split(need: &[f64], rest: &[f64]) -> Option<FoundThreshold> {
    let tagged = |scores: &[f64], needs: bool| scores.iter().map(|score| (*score, needs)).collect::<Vec<_>>();
    let mut all = [tagged(need, true), tagged(rest, false)].concat();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let range = all[all.len() - 1].0 - all[0].0;
    let mut below = [0, 0]; // of need, of rest
    let mut best: Option<FoundThreshold> = None;
    for neighbours in all.windows(2) {
        let [(low, needs), (high, _)] = [neighbours[0], neighbours[1]];
        below[usize::from(!needs)] += 1;
        let threshold = low + (high - low) / 2.0;
        if !(low < threshold && threshold < high) {
            continue;
        }
        let above = [need.len() - below[0], rest.len() - below[1]];
        for (comparison, [right, wrong]) in [(FiringSide::Above, above), (FiringSide::Below, below)] {
            let told = Told::counted(right, need.len(), wrong);
            let found = FoundThreshold { comparison, threshold, gap: (high - low) / range, told };
            if best.is_none_or(|best| (told.f1, found.gap) > (best.told.f1, best.gap)) {
                best = Some(found);
            }
        }
    }
    best
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
