//! Baselines that learn nothing, from the residual after block L at the chosen response minus that at the rejected one: its mean
//! over the pairs (contrastive activation addition, CAA, arXiv 2312.06681), or the direction in which it is longest (PCA, arXiv
//! 2310.01405). Reads the training's own activation cache.
//!
//! The last token of a response (the end of turn, where nothing was truncated) is no row of that cache and is left out: every
//! response ends in the same one.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use strum::{EnumString, VariantNames};

use super::activations::{Activations, CachedPair};
use crate::{Error, Result};

/// The tokens of a response that the residual is taken at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum CaaPositions {
    /// The mean over all tokens but the last, the end of turn.
    #[default]
    Response,
    /// The last token before the end of turn. CAA's own pairs are multiple-choice answers `(A)`, and its code takes the letter,
    /// the token before the last.
    Last,
}

/// A vector that was not learned.
#[derive(Debug, Clone)]
pub struct MeanDifference {
    /// Mean of chosen minus rejected. `(H)`
    pub v: Vec<f32>,
    /// Pairs that it is the mean of.
    pub pairs: usize,
    /// Data set rows of pairs with a response of one token, which has nothing to be read at: they are left out.
    pub left_out: Vec<usize>,
}

/// The mean difference of the residual at the activations' layer, summed in f64.
///
/// # Errors
/// Every pair is left out, or nothing of a pair's responses is cached, as where no token of it is steered.
pub fn mean_difference(data: &Activations, positions: CaaPositions, device: &Device) -> Result<MeanDifference> {
    let mut sum = Sum::default();
    let left_out = each(data, positions, device, |difference| sum.add(&difference))?;
    let v = sum.mean().into_iter().map(|x| x as f32).collect();
    Ok(MeanDifference { v, pairs: sum.count, left_out })
}

/// Passes over the differences to find their first component: what is left of the others shrinks in each by the square of the
/// ratio of their lengths.
const PASSES: usize = 100;

/// The first principal component of the differences, which are not centred since their mean is what is looked for: the direction u
/// along which the sum of their squares is largest, by power iteration in f64. It points as the mean does, and is as long as the
/// mean is along it.
///
/// # Errors
/// As [`mean_difference`].
pub fn principal_component(data: &Activations, positions: CaaPositions, device: &Device) -> Result<MeanDifference> {
    let mut sum = Sum::default();
    let mut rows = Vec::new();
    let left_out = each(data, positions, device, |difference| {
        sum.add(&difference);
        rows.push(difference);
    })?;
    let mean = sum.mean();
    let u = first_component(&rows, &mean, PASSES);
    let along = dot(&u, &mean);
    let v = u.into_iter().map(|x| (along * x) as f32).collect();
    Ok(MeanDifference { v, pairs: rows.len(), left_out })
}

/// The unit vector along which rows are longest, by so many passes over them, or fewer where nothing changes any more; they begin at
/// `start`. Zeros where all rows or `start` are.
pub(super) fn first_component(rows: &[Vec<f64>], start: &[f64], passes: usize) -> Vec<f64> {
    let unit = |x: Vec<f64>| {
        let length = dot(&x, &x).sqrt();
        x.into_iter().map(|x| if length > 0.0 { x / length } else { 0.0 }).collect::<Vec<f64>>()
    };
    let mut u = unit(start.to_vec());
    for _ in 0..passes {
        let mut next = vec![0.0; u.len()];
        for row in rows {
            let along = dot(row, &u);
            next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
        }
        let last = std::mem::replace(&mut u, unit(next));
        if u == last {
            break;
        }
    }
    u
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A sum of rows in f64, and their number.
#[derive(Debug, Default)]
struct Sum {
    sum: Vec<f64>,
    count: usize,
}

impl Sum {
    fn add(&mut self, row: &[f64]) {
        self.count += 1;
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }

    fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|x| x / self.count as f64).collect()
    }
}

/// Bytes of a difference, for a hidden size as large as that of the largest models.
const RECORD_BYTES: usize = size_of::<f64>() << 14;

/// Hands over the difference of each pair. → the data set rows of pairs that have none
fn each(data: &Activations, positions: CaaPositions, device: &Device, mut take: impl FnMut(Vec<f64>)) -> Result<Vec<usize>> {
    let mut left_out = Vec::new();
    let of_pair = |entry: &CachedPair| Ok(difference(data, entry, positions, device)?.unwrap_or_default());
    data.each(RECORD_BYTES, of_pair, |row, difference: Vec<f64>| match difference.is_empty() {
        false => take(difference),
        true => left_out.push(row),
    })?;
    match left_out.len() == data.pairs() {
        true => Err(Error::Argument("every pair has a response of one token: there is no activation to compare".into())),
        false => Ok(left_out),
    }
}

/// Chosen minus rejected of one pair; none where a response has no row. → `(H)`
fn difference(data: &Activations, entry: &CachedPair, positions: CaaPositions, device: &Device) -> Result<Option<Vec<f64>>> {
    let residual = data.residual(entry, device)?; // (live, H)
    let live: Vec<usize> = entry.rows.live_rows().collect();
    let mean = |side: usize| -> Result<Option<Vec<f64>>> {
        let mut rows: Vec<usize> = entry.rows.response_rows(side).collect();
        if positions == CaaPositions::Last {
            rows = rows.split_off(rows.len().saturating_sub(1));
        }
        let places =
            rows.iter().map(|row| live.binary_search(row).ok().map(|place| place as u32)).collect::<Option<Vec<u32>>>();
        let Some(places) = places else {
            let row = entry.rows.row;
            let problem = "no token of it would be steered, so its activations are not kept: choose other positions or spans";
            return Err(Error::Argument(format!("row {row}: {problem}")));
        };
        if places.is_empty() {
            return Ok(None);
        }
        let rows = residual.index_select(&Tensor::new(places.as_slice(), device)?, 0)?; // (T, H)
        let rows = rows.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let scale = 1.0 / rows.len() as f64;
        let sum_of = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>();
        Ok(Some((0..rows[0].len()).map(|at| scale * sum_of(at)).collect()))
    };
    let (chosen, rejected) = (mean(0)?, mean(1)?);
    Ok(chosen.zip(rejected).map(|(chosen, rejected)| chosen.iter().zip(&rejected).map(|(c, r)| c - r).collect()))
}

#[cfg(test)]
#[path = "caa_tests.rs"]
mod tests;
