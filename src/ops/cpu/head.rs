//! The head on f32 rows of the CPU, a tile of the vocabulary at a time: \[rows × V\] is never held.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Right, Write, all_threads, matmul};
use super::slices::{self, HostSlice};
use super::softcap;
use super::vector::{LANES, exp, exp_sum, max, vectorised};
use super::weight_rows::{WeightRows, for_each_block};
use crate::Result;
use crate::ops::prediction::{Gradient, LogProbs, Prediction};

/// Vocabulary rows of a tile: the tile of logits and that of the weight stay in the cache.
const TILE: usize = 2048;

/// Elements of a tile of the weight, which has fewer rows where they are long.
const TILE_ELEMENTS: usize = 2 << 20;

/// The log-sum-exp of one row over the tiles seen so far: `max + ln(sum)`.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

/// Log-probabilities of predictions whose targets are in the vocabulary. `hidden (R, H)`, stacked `parts (V, H)`
pub fn forward(
    hidden: &Tensor,
    (parts, softcap): (&[WeightRows], Option<f64>),
    predictions: &[Prediction],
    gradient: Gradient,
) -> Result<LogProbs> {
    let cap = softcap.map(|cap| cap as f32);
    let (rows, width) = hidden.dims2()?;
    let hidden = hidden.contiguous()?;
    let hidden = HostSlice::new(&hidden)?;
    let h = Matrix::new(&hidden, rows, width, width);
    let mut running = vec![Running { max: f32::NEG_INFINITY, sum: 0.0 }; rows];
    let mut target_logits = vec![0f32; predictions.len()];
    let mut expected = vec![0f32; if gradient == Gradient::Wanted { rows * width } else { 0 }];
    let mut logits = Vec::new();
    let each_tile = |start: usize, w: Right| {
        let (tile, _) = w.dims();
        logits.resize(rows * TILE, 0.0);
        let logits = &mut logits[..rows * tile];
        matmul(logits, tile, Write::Overwrite, h, w.t(), all_threads());
        if let Some(cap) = cap {
            logits.par_chunks_mut(tile).for_each(|logits| softcap::in_place(logits, 1.0 / cap, cap));
        }
        for (prediction, logit) in predictions.iter().zip(&mut target_logits) {
            if let Some(column) = (prediction.target as usize).checked_sub(start).filter(|column| *column < tile) {
                *logit = logits[prediction.row * tile + column];
            }
        }
        if gradient == Gradient::Wanted {
            let rows = logits.par_chunks_mut(tile).zip(&mut running).zip(expected.par_chunks_mut(width));
            rows.for_each(|((logits, running), expected)| {
                let shrink = match cap {
                    None => absorb(logits, running),
                    Some(cap) => absorb_capped(logits, running, 1.0 / cap),
                };
                if shrink != 1.0 {
                    expected.iter_mut().for_each(|x| *x *= shrink);
                }
            });
            let p = Matrix::new(logits, h.rows, tile, tile);
            matmul(&mut expected, width, Write::Add, p, w, all_threads());
        } else {
            logits.par_chunks_mut(tile).zip(&mut running).for_each(|(logits, running)| {
                absorb(logits, running);
            });
        }
    };
    let most = (TILE_ELEMENTS / width.max(1)).min(TILE);
    for_each_block(parts, |_| most, each_tile);
    for (row, running) in expected.chunks_exact_mut(width).zip(&running) {
        row.iter_mut().for_each(|x| *x /= running.sum);
    }
    let slopes = cap.filter(|_| gradient == Gradient::Wanted).map(|cap| {
        let slopes = target_logits.iter().map(|z| softcap::slope(*z, 1.0 / cap));
        Tensor::from_iter(slopes, &Device::Cpu)
    });
    let log_probs = predictions.iter().zip(target_logits).map(|(p, z)| z - running[p.row].max - running[p.row].sum.ln());
    let log_probs = Tensor::from_iter(log_probs, &Device::Cpu)?;
    let expected = (gradient == Gradient::Wanted).then(|| slices::tensor(expected, (rows, width))).transpose()?;
    Ok(LogProbs { log_probs, expected, slopes: slopes.transpose()? })
}

/// Takes a row of a tile into the running sum and turns its logits into exp(z − max). Returns the factor by which what was
/// summed before must shrink.
fn absorb(logits: &mut [f32], running: &mut Running) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let highest = running.max.max(max(logits));
            let shrink = if running.max == highest { 1.0 } else { exp(running.max - highest) };
            running.sum = running.sum * shrink + exp_sum(logits, highest);
            running.max = highest;
            shrink
        },
    )
}

/// Absorbs soft-capped logits like [`absorb`]: turns them into exp(z − max)·(1 − (z·inverse)²), where `inverse` is 1 / cap. The
/// running sum is that of the exponentials alone.
fn absorb_capped(logits: &mut [f32], running: &mut Running, inverse: f32) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let highest = running.max.max(max(logits));
            let shrink = if running.max == highest { 1.0 } else { exp(running.max - highest) };
            let mut sums = [0f32; LANES];
            for chunk in logits.chunks_mut(LANES) {
                for (sum, z) in sums.iter_mut().zip(chunk) {
                    let e = exp(*z - highest);
                    *sum += e;
                    *z = e * softcap::slope(*z, inverse);
                }
            }
            running.sum = running.sum * shrink + sums.iter().sum::<f32>();
            running.max = highest;
            shrink
        },
    )
}
