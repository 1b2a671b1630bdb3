//! Log-probabilities of chosen tokens through the unembedding. One pass gives both the log-probability and what its
//! gradient needs, and \[rows × V\] is never held whole.
//!
//! For logits z = W·h, d log p(t)/dh = W\[t\] − Σᵥ p(v)·W\[v\]. With soft-capped logits z′ = cap·tanh(z / cap) it is
//! g(t)·W\[t\] − Σᵥ p(v)·g(v)·W\[v\], where p is the softmax of z′ and g = 1 − (z′ / cap)². The sum does not depend on t or
//! on the gradient from above, so it is taken in the same pass as the log-sum-exp and kept (H numbers a row).

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Tensor};

use super::cuda::{Launcher, PredictionTables};
use super::linear::{Products, product};
pub use super::prediction::{Gradient, LogProbs, Prediction};
use super::softmax::log_softmax;
use super::tiles::tiles;
use super::weight::{Weight, unknown_token};
use super::{cpu, cuda, softcap};
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

/// The unembedding, and what its logits go through.
#[derive(Debug, Clone)]
pub struct Head {
    /// Weight W of the head. `(V, H)`
    pub weight: Weight,
    /// Cap of the logits, if they have one: a logit z becomes cap·tanh(z / cap).
    pub softcap: Option<f64>,
}

impl Head {
    /// Log-probabilities of the predictions. `hidden (R, H)` after the final norm
    ///
    /// # Errors
    /// A target is not in the vocabulary.
    pub fn forward(&self, hidden: &Tensor, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
        let (vocab, _) = self.weight.dims()?;
        if let Some(beyond) = predictions.iter().find(|prediction| prediction.target as usize >= vocab) {
            return Err(unknown_token(beyond.target, vocab));
        }
        match (&self.weight, launcher(predictions, hidden.device())) {
            (Weight::Tensor(weight), Some(launcher)) => {
                cuda::head::forward(launcher, hidden, (weight, self.softcap), predictions.len(), gradient)
            }
            (weight, _) if weight.is_on_host_with(hidden) => {
                weight.with_parts(|parts| cpu::head::forward(hidden, (parts, self.softcap), predictions, gradient))
            }
            _ => self.forward_composed(hidden, predictions, gradient),
        }
    }

    pub(super) fn forward_composed(&self, hidden: &Tensor, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
        let weight = self.weight.tensor()?;
        let (rows, width) = hidden.dims2()?;
        let chunk = (64 << 20) / (4 * weight.dim(0)?).max(1) + 1;
        let (mut log_probs, mut expected, mut slopes) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in tiles(rows, chunk) {
            let h = hidden.narrow(0, chunk.start, chunk.len())?;
            let wide = weight.to_dtype(if h.device().is_cpu() { DType::F32 } else { h.dtype() })?;
            let logits = h.to_dtype(wide.dtype())?.contiguous()?.matmul(&wide.t()?)?.to_dtype(DType::F32)?; // (R, V)
            let logits = self.capped(logits)?;
            let log_p = log_softmax(&logits)?;
            let of_chunk = predictions.of_rows(chunk.clone());
            log_probs.extend(gather(&log_p, chunk.start, of_chunk)?);
            if gradient == Gradient::Wanted {
                let p = match self.softcap {
                    None => log_p.exp()?,
                    Some(cap) => {
                        let slope = softcap::slope(&logits, cap)?;
                        slopes.extend(gather(&slope, chunk.start, of_chunk)?);
                        (log_p.exp()? * slope)?
                    }
                };
                expected.push(p.to_dtype(wide.dtype())?.matmul(&wide)?.to_dtype(DType::F32)?);
            }
        }
        let device = hidden.device();
        let expected = match gradient {
            Gradient::NotWanted => None,
            Gradient::Wanted if expected.is_empty() => Some(Tensor::zeros((0, width), DType::F32, device)?),
            Gradient::Wanted => Some(Tensor::cat(&expected, 0)?),
        };
        let slopes = (self.softcap.is_some() && gradient == Gradient::Wanted).then(|| join(&slopes, device)).transpose()?;
        Ok(LogProbs { log_probs: join(&log_probs, device)?, expected, slopes })
    }

    /// Gradient of the hidden states, given that of each prediction's log-probability, `gradients (P,)` f32:
    /// Σ gradient·(g\[target\]·W\[target\] − expected\[row\]). → `(R, H)` in `dtype`, that of the hidden states
    ///
    /// # Errors
    /// The forward pass was not told that a gradient is wanted.
    pub fn vjp(&self, saved: &LogProbs, predictions: &Predictions, gradients: &Tensor, dtype: DType) -> Result<Tensor> {
        let Some(expected) = &saved.expected else {
            return Err(candle_core::Error::msg("the head's forward pass kept nothing for a gradient").into());
        };
        match (&self.weight, launcher(predictions, expected.device())) {
            (Weight::Tensor(weight), Some(launcher)) => {
                cuda::head::vjp(launcher, (expected, saved.slopes.as_ref()), weight, gradients)
            }
            _ => self.vjp_composed((expected, saved.slopes.as_ref()), predictions, gradients, dtype),
        }
    }

    fn vjp_composed(
        &self,
        (expected, slopes): (&Tensor, Option<&Tensor>),
        predictions: &Predictions,
        gradients: &Tensor,
        dtype: DType,
    ) -> Result<Tensor> {
        let ((rows, _), device) = (expected.dims2()?, expected.device());
        let at_rows = Tensor::from_iter(predictions.iter().map(|p| p.row as u32), device)?;
        let g = gradients.unsqueeze(1)?;
        let by_row = Tensor::zeros((rows, 1), DType::F32, device)?.index_add(&at_rows, &g.neg()?, 0)?;
        let pulled = expected.broadcast_mul(&by_row)?;
        let of_targets = match slopes {
            None => g,
            Some(slopes) => (g * slopes.unsqueeze(1)?)?,
        };
        let targets: Vec<u32> = predictions.iter().map(|p| p.target).collect();
        let pushed = self.weight.rows(&targets, DType::F32, device)?.broadcast_mul(&of_targets)?;
        Ok(pulled.index_add(&at_rows, &pushed, 0)?.to_dtype(dtype)?)
    }

    /// Logits in f32. `hidden (R, H)` after the final norm → `(R, V)`
    pub(crate) fn logits(&self, hidden: &Tensor, products: Products) -> Result<Tensor> {
        self.capped(product(hidden, &self.weight, products)?.to_dtype(DType::F32)?)
    }

    fn capped(&self, logits: Tensor) -> Result<Tensor> {
        match self.softcap {
            None => Ok(logits),
            Some(cap) => softcap::forward(&logits, cap),
        }
    }
}

/// The launcher of the kernels and the tables that they read, where there are both.
fn launcher<'a>(predictions: &'a Predictions, device: &Device) -> Option<(&'static dyn Launcher, &'a PredictionTables)> {
    Some((cuda::launcher(device)?, predictions.tables.as_ref()?))
}

/// Lists of numbers as one, in f32 where there is none.
fn join(lists: &[Tensor], device: &Device) -> Result<Tensor> {
    match lists.is_empty() {
        true => Ok(Tensor::zeros(0, DType::F32, device)?),
        false => Ok(Tensor::cat(lists, 0)?),
    }
}

/// The elements of `of (·, V)`, the first of which is row `first`, at the predictions; none where there are none.
fn gather(of: &Tensor, first: usize, predictions: &[Prediction]) -> Result<Option<Tensor>> {
    if predictions.is_empty() {
        return Ok(None);
    }
    let (_, vocab) = of.dims2()?;
    let flat = predictions.iter().map(|p| ((p.row - first) * vocab) as u32 + p.target);
    Ok(Some(of.flatten_all()?.index_select(&Tensor::from_iter(flat, of.device())?, 0)?))
}
