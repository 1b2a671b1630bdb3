//! The head on f32 rows of the CPU, a tile of the vocabulary at a time: \[rows × V\] is never held.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Write, all_threads, matmul};
use super::slices::{self, HostSlice};
use super::vector::{exp, exp_sum, max, vectorised};
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
pub fn forward(hidden: &Tensor, parts: &[WeightRows], predictions: &[Prediction], gradient: Gradient) -> Result<LogProbs> {
    let (rows, width) = hidden.dims2()?;
    let hidden = hidden.contiguous()?;
    let hidden = HostSlice::new(&hidden)?;
    let h = Matrix::new(&hidden, rows, width, width);
    let mut running = vec![Running { max: f32::NEG_INFINITY, sum: 0.0 }; rows];
    let mut target_logits = vec![0f32; predictions.len()];
    let mut expected = vec![0f32; if gradient == Gradient::Wanted { rows * width } else { 0 }];
    let mut logits = Vec::new();
    let each_tile = |start: usize, tile_weight: &[f32], tile: usize| {
        let w = Matrix::new(tile_weight, tile, width, width);
        logits.resize(rows * TILE, 0.0);
        let logits = &mut logits[..rows * tile];
        matmul(logits, tile, Write::Overwrite, h, w.t(), all_threads());
        for (prediction, logit) in predictions.iter().zip(&mut target_logits) {
            if let Some(column) = (prediction.target as usize).checked_sub(start).filter(|column| *column < tile) {
                *logit = logits[prediction.row * tile + column];
            }
        }
        if gradient == Gradient::Wanted {
            let rows = logits.par_chunks_mut(tile).zip(&mut running).zip(expected.par_chunks_mut(width));
            rows.for_each(|((logits, running), expected)| {
                let shrink = absorb(logits, running);
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
    let log_probs = predictions.iter().zip(target_logits).map(|(p, z)| z - running[p.row].max - running[p.row].sum.ln());
    let log_probs = Tensor::from_iter(log_probs, &Device::Cpu)?;
    let expected = (gradient == Gradient::Wanted).then(|| slices::tensor(expected, (rows, width))).transpose()?;
    Ok(LogProbs { log_probs, expected })
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
