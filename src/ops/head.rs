//! Log-probabilities of chosen tokens through the unembedding. One pass gives both the log-probability and what its
//! gradient needs, and \[rows × V\] is never held whole.
//!
//! For logits z = W·h, d log p(t)/dh = W\[t\] − Σᵥ p(v)·W\[v\]. The sum does not depend on t or on the gradient from above,
//! so it is taken in the same pass as the log-sum-exp and kept (H numbers a row).

use std::ops::{Deref, Range};

use candle_core::{D, DType, Device, Tensor};

use super::cuda::{Launcher, PredictionTables};
pub use super::prediction::{Gradient, LogProbs, Prediction};
use super::tiles::tiles;
use super::weight::{Weight, unknown_token};
use super::{cpu, cuda};
use crate::Result;

/// The predictions of one pass, and on a GPU the tables that its kernels read, uploaded once.
#[derive(Debug, Clone)]
pub struct Predictions {
    list: Vec<Prediction>,
    tables: Option<PredictionTables>,
}

impl Predictions {
    /// Predictions from `rows` rows, ascending by row.
    ///
    /// # Errors
    /// The predictions do not ascend by row, or a row is beyond `rows`.
    pub fn new(list: Vec<Prediction>, rows: usize, device: &Device) -> Result<Self> {
        if !list.is_sorted_by_key(|prediction| prediction.row) || list.last().is_some_and(|last| last.row >= rows) {
            return Err(candle_core::Error::msg(format!("predictions must ascend by row, within {rows} rows")).into());
        }
        let tables = cuda::launcher(device).map(|_| PredictionTables::new(&list, rows, device)).transpose()?;
        Ok(Self { list, tables })
    }

    /// The predictions from some of the rows.
    fn of_rows(&self, rows: Range<usize>) -> &[Prediction] {
        let before = |row: usize| self.partition_point(|prediction| prediction.row < row);
        &self[before(rows.start)..before(rows.end)]
    }
}

impl Deref for Predictions {
    type Target = [Prediction];

    fn deref(&self) -> &[Prediction] {
        &self.list
    }
}

/// Log-probabilities of the predictions. `hidden (R, H)` after the final norm, `weight (V, H)`
///
/// # Errors
/// A target is not in the vocabulary.
pub fn forward(hidden: &Tensor, weight: &Weight, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
    let (vocab, _) = weight.dims()?;
    if let Some(beyond) = predictions.iter().find(|prediction| prediction.target as usize >= vocab) {
        return Err(unknown_token(beyond.target, vocab));
    }
    match (weight, launcher(predictions, hidden.device())) {
        (Weight::Tensor(weight), Some(launcher)) => cuda::head::forward(launcher, hidden, weight, predictions.len(), gradient),
        _ if weight.is_on_host_with(hidden) => {
            weight.with_parts(|parts| cpu::head::forward(hidden, parts, predictions, gradient))
        }
        _ => forward_composed(hidden, weight.tensor()?, predictions, gradient),
    }
}

/// The launcher of the kernels and the tables that they read, where there are both.
fn launcher<'a>(predictions: &'a Predictions, device: &Device) -> Option<(&'static dyn Launcher, &'a PredictionTables)> {
    Some((cuda::launcher(device)?, predictions.tables.as_ref()?))
}

pub(super) fn forward_composed(
    hidden: &Tensor,
    weight: &Tensor,
    predictions: &Predictions,
    gradient: Gradient,
) -> Result<LogProbs> {
    let (rows, width) = hidden.dims2()?;
    let chunk = (64 << 20) / (4 * weight.dim(0)?).max(1) + 1;
    let (mut log_probs, mut expected) = (Vec::new(), Vec::new());
    for chunk in tiles(rows, chunk) {
        let h = hidden.narrow(0, chunk.start, chunk.len())?;
        let wide = weight.to_dtype(if h.device().is_cpu() { DType::F32 } else { h.dtype() })?;
        let logits = h.to_dtype(wide.dtype())?.contiguous()?.matmul(&wide.t()?)?.to_dtype(DType::F32)?; // (R, V)
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        log_probs.extend(gather(&log_p, chunk.start, predictions.of_rows(chunk))?);
        if gradient == Gradient::Wanted {
            expected.push(log_p.exp()?.to_dtype(wide.dtype())?.matmul(&wide)?.to_dtype(DType::F32)?);
        }
    }
    let expected = match gradient {
        Gradient::NotWanted => None,
        Gradient::Wanted if expected.is_empty() => Some(Tensor::zeros((0, width), DType::F32, hidden.device())?),
        Gradient::Wanted => Some(Tensor::cat(&expected, 0)?),
    };
    let log_probs = match log_probs.is_empty() {
        true => Tensor::zeros(0, DType::F32, hidden.device())?,
        false => Tensor::cat(&log_probs, 0)?,
    };
    Ok(LogProbs { log_probs, expected })
}

/// Gradient of the hidden states, given that of each prediction's log-probability, `gradients (P,)` f32:
/// Σ g·(W\[target\] − expected\[row\]). → `(R, H)` in `dtype`, that of the hidden states
pub fn vjp(saved: &LogProbs, weight: &Weight, predictions: &Predictions, gradients: &Tensor, dtype: DType) -> Result<Tensor> {
    let Some(expected) = &saved.expected else {
        return Err(candle_core::Error::msg("the head's forward pass kept nothing for a gradient").into());
    };
    match (weight, launcher(predictions, expected.device())) {
        (Weight::Tensor(weight), Some(launcher)) => cuda::head::vjp(launcher, expected, weight, gradients),
        _ => vjp_composed(expected, weight, predictions, gradients, dtype),
    }
}

fn vjp_composed(
    expected: &Tensor,
    weight: &Weight,
    predictions: &Predictions,
    gradients: &Tensor,
    dtype: DType,
) -> Result<Tensor> {
    let ((rows, _), device) = (expected.dims2()?, expected.device());
    let at_rows = Tensor::from_iter(predictions.iter().map(|p| p.row as u32), device)?;
    let g = gradients.unsqueeze(1)?;
    let by_row = Tensor::zeros((rows, 1), DType::F32, device)?.index_add(&at_rows, &g.neg()?, 0)?;
    let pulled = expected.broadcast_mul(&by_row)?;
    let targets: Vec<u32> = predictions.iter().map(|p| p.target).collect();
    let pushed = weight.rows(&targets, DType::F32, device)?.broadcast_mul(&g)?;
    Ok(pulled.index_add(&at_rows, &pushed, 0)?.to_dtype(dtype)?)
}

/// Log-probabilities of the predictions from the rows of `log_p (·, V)`, the first of which is row `first`; none where
/// there are none.
fn gather(log_p: &Tensor, first: usize, predictions: &[Prediction]) -> Result<Option<Tensor>> {
    if predictions.is_empty() {
        return Ok(None);
    }
    let (_, vocab) = log_p.dims2()?;
    let flat = predictions.iter().map(|p| ((p.row - first) * vocab) as u32 + p.target);
    Ok(Some(log_p.flatten_all()?.index_select(&Tensor::from_iter(flat, log_p.device())?, 0)?))
}
