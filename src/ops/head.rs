//! Log-probabilities of chosen tokens through the unembedding, a tile of the vocabulary at a time: [rows × V] is never
//! held, and one pass gives both the log-probability and what its gradient needs.
//!
//! For logits z = W·h, d log p(t)/dh = W\[t\] − Σᵥ p(v)·W\[v\]. The sum does not depend on t or on the gradient from above,
//! so it is taken in the same pass as the log-sum-exp and kept (H numbers a row).

use std::ops::{Deref, Range};

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use super::host::{self, HostSlice, Into, Matrix};
use super::kernels::{self, Argument, Call, Element, Launcher, Module};
use super::linear::matmul_wide;
use super::weight::{Weight, for_each_block, unknown_token};
use crate::Result;

/// Vocabulary rows a tile: the tile of logits and that of the weight stay in the cache.
const TILE: usize = 2048;

/// Elements of a tile of the weight: fewer rows where they are long.
const TILE_ELEMENTS: usize = 2 << 20;

/// Bytes of the logits that a GPU holds at a time: rows enough to keep its matrix products busy.
const LOGITS: usize = if cfg!(test) { 16 << 10 } else { 32 << 20 }; // tests go through several

/// Threads of a block of the kernel that passes over a row of logits.
const VOCABULARY_THREADS: usize = 512;

/// A token whose log-probability is wanted, and the row that predicts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// Row of the hidden states.
    pub row: usize,
    /// Token id.
    pub target: u32,
}

/// The predictions of one pass, and on a GPU what its kernels read of them: uploaded once.
#[derive(Debug, Clone)]
pub struct Predictions {
    list: Vec<Prediction>,
    tables: Option<Tables>,
}

/// Predictions as the kernels take them.
#[derive(Debug, Clone)]
struct Tables {
    /// Where each row's begin, and the end. `(R + 1,)` u32
    starts: Tensor,
    /// `(P,)` u32
    targets: Tensor,
}

impl Predictions {
    /// Predictions from `rows` rows, ascending by row.
    ///
    /// # Errors
    /// They are not, or a row is beyond them.
    pub fn new(list: Vec<Prediction>, rows: usize, device: &Device) -> Result<Self> {
        if !list.is_sorted_by_key(|prediction| prediction.row) || list.last().is_some_and(|last| last.row >= rows) {
            return Err(candle_core::Error::msg(format!("predictions must ascend by row, within {rows} rows")).into());
        }
        let tables = kernels::launcher(device).map(|_| Tables::new(&list, rows, device)).transpose()?;
        Ok(Self { list, tables })
    }

    /// Those from some of the rows.
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

impl Tables {
    fn new(predictions: &[Prediction], rows: usize, device: &Device) -> Result<Self> {
        let start = |row: usize| predictions.partition_point(|prediction| prediction.row < row) as u32;
        let targets = predictions.iter().map(|prediction| prediction.target);
        let all = Tensor::from_iter((0..=rows).map(start).chain(targets), device)?;
        Ok(Self { starts: all.narrow(0, 0, rows + 1)?, targets: all.narrow(0, rows + 1, predictions.len())? })
    }
}

/// Whether [`forward`] also prepares [`vjp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// Keep the expected unembedding of every row.
    Wanted,
    /// Log-probabilities alone: half the work.
    NotWanted,
}

/// What [`forward`] gives.
#[derive(Debug, Clone)]
pub struct LogProbs {
    /// log p of each prediction, nats, where it was computed: who reads it waits for a GPU. `(P,)` f32
    pub log_probs: Tensor,
    /// Σᵥ p(v)·W\[v\] of each row, f32, or on a GPU in the model's dtype. `(R, H)`
    expected: Option<Tensor>,
}

/// `hidden (R, H)` after the final norm, `weight (V, H)`.
pub fn forward(hidden: &Tensor, weight: &Weight, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
    match (weight, kernels(predictions, hidden.device())) {
        (Weight::Tensor(weight), Some(kernels)) => forward_kernel(kernels, hidden, weight, predictions, gradient),
        _ if host::is_host_f32(hidden) && weight.is_host() => forward_host(hidden, weight, predictions, gradient),
        (Weight::Tensor(weight), _) => forward_composed(hidden, weight, predictions, gradient),
        (Weight::Host(_), _) => Err(candle_core::Error::msg("weights on the CPU take f32 activations on the CPU").into()),
    }
}

/// What runs the kernels, and the tables that they read.
fn kernels<'a>(predictions: &'a Predictions, device: &Device) -> Option<(&'static dyn Launcher, &'a Tables)> {
    Some((kernels::launcher(device)?, predictions.tables.as_ref()?))
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
    for start in (0..rows).step_by(chunk) {
        let len = chunk.min(rows - start);
        let h = hidden.narrow(0, start, len)?;
        let wide = weight.to_dtype(if h.device().is_cpu() { DType::F32 } else { h.dtype() })?;
        let logits = h.to_dtype(wide.dtype())?.contiguous()?.matmul(&wide.t()?)?.to_dtype(DType::F32)?; // (R, V)
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        log_probs.extend(gather(&log_p, start, predictions.of_rows(start..start + len))?);
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

fn forward_kernel(
    (launcher, tables): (&dyn Launcher, &Tables),
    hidden: &Tensor,
    weight: &Tensor,
    predictions: &Predictions,
    gradient: Gradient,
) -> Result<LogProbs> {
    let ((rows, width), (vocab, _)) = (hidden.dims2()?, weight.dims2()?);
    check_targets(predictions, vocab)?;
    check_lengths(tables, rows, predictions.len())?;
    // One more: a device has no memory for no predictions.
    let log_probs = Tensor::zeros(predictions.len() + 1, DType::F32, hidden.device())?;
    let chunk = (LOGITS / (vocab * DType::F32.size_in_bytes()).max(1)).max(1);
    let mut expected = Vec::new();
    for start in (0..rows).step_by(chunk) {
        let len = chunk.min(rows - start);
        let logits = kernels::product(launcher, &hidden.narrow(0, start, len)?, weight, None, DType::F32)?; // (len, V)
        // Nothing is written where no gradient is wanted.
        let probabilities = if gradient == Gradient::Wanted { (len, vocab) } else { (1, 1) };
        let arguments = vec![
            Argument::Read(&logits, Element::F32),
            Argument::Read(&tables.starts, Element::U32),
            Argument::Read(&tables.targets, Element::U32),
            Argument::Update(&log_probs, Element::F32),
            Argument::output(probabilities),
            Argument::size(vocab)?,
            Argument::size(start)?,
            Argument::U32(u32::from(gradient == Gradient::Wanted)),
        ];
        let by_row = Call::by_row(Module::Head, "log_probs", hidden, [len, vocab]).with(arguments);
        let call = Call { threads: VOCABULARY_THREADS, shared_floats: VOCABULARY_THREADS / 32, ..by_row };
        let probabilities = call.launch_for_one(launcher)?;
        if gradient == Gradient::Wanted {
            expected.push(matmul_wide(&probabilities, weight)?); // (len, H)
        }
    }
    let expected = match gradient {
        Gradient::NotWanted => None,
        Gradient::Wanted if rows == 0 => Some(Tensor::zeros((0, width), hidden.dtype(), hidden.device())?),
        Gradient::Wanted => Some(Tensor::cat(&expected, 0)?),
    };
    Ok(LogProbs { log_probs: log_probs.narrow(0, 0, predictions.len())?, expected })
}

/// A kernel would read behind what is too short.
fn check_lengths(tables: &Tables, rows: usize, predictions: usize) -> Result<()> {
    if tables.starts.elem_count() == rows + 1 && tables.targets.elem_count() == predictions {
        return Ok(());
    }
    Err(candle_core::Error::msg(format!("{rows} rows and {predictions} numbers are not those of the predictions")).into())
}

/// A kernel would read behind the vocabulary.
fn check_targets(predictions: &[Prediction], vocab: usize) -> Result<()> {
    match predictions.iter().find(|prediction| prediction.target as usize >= vocab) {
        Some(prediction) => Err(unknown_token(prediction.target, vocab)),
        None => Ok(()),
    }
}

fn vjp_kernel(
    (launcher, tables): (&dyn Launcher, &Tables),
    expected: &Tensor,
    weight: &Tensor,
    gradients: &Tensor,
) -> Result<Tensor> {
    let (rows, width) = expected.dims2()?;
    check_lengths(tables, rows, gradients.elem_count())?;
    let arguments = vec![
        Argument::read(expected),
        Argument::read(weight),
        Argument::Read(&tables.starts, Element::U32),
        Argument::Read(&tables.targets, Element::U32),
        Argument::Read(gradients, Element::F32),
        Argument::output((rows, width)),
        Argument::size(width)?,
    ];
    let by_row = Call::by_row(Module::Head, "log_probs_vjp", expected, [rows, width]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for_one(launcher)
}

/// Gradient of the hidden states, given that of each prediction's log-probability, `gradients (P,)` f32. → `(R, H)` in
/// `dtype`, theirs: Σ g·(W\[target\] − expected\[row\]).
pub fn vjp(saved: &LogProbs, weight: &Weight, predictions: &Predictions, gradients: &Tensor, dtype: DType) -> Result<Tensor> {
    let Some(expected) = &saved.expected else {
        return Err(candle_core::Error::msg("the head's forward pass kept nothing for a gradient").into());
    };
    let (rows, _) = expected.dims2()?;
    let device = expected.device();
    if let (Some(kernels), Weight::Tensor(weight)) = (kernels(predictions, device), weight) {
        return vjp_kernel(kernels, expected, weight, gradients);
    }
    let at_rows = Tensor::from_iter(predictions.iter().map(|p| p.row as u32), device)?;
    let g = gradients.unsqueeze(1)?;
    let by_row = Tensor::zeros((rows, 1), DType::F32, device)?.index_add(&at_rows, &g.neg()?, 0)?;
    let pulled = expected.broadcast_mul(&by_row)?;
    let targets: Vec<u32> = predictions.iter().map(|p| p.target).collect();
    let pushed = weight.rows(&targets, DType::F32, device)?.broadcast_mul(&g)?;
    Ok(pulled.index_add(&at_rows, &pushed, 0)?.to_dtype(dtype)?)
}

/// What is predicted from the rows of `log_p (·, V)`, the first of which is row `first`; none where nothing is.
fn gather(log_p: &Tensor, first: usize, predictions: &[Prediction]) -> Result<Option<Tensor>> {
    if predictions.is_empty() {
        return Ok(None);
    }
    let (_, vocab) = log_p.dims2()?;
    let flat = predictions.iter().map(|p| ((p.row - first) * vocab) as u32 + p.target);
    Ok(Some(log_p.flatten_all()?.index_select(&Tensor::from_iter(flat, log_p.device())?, 0)?))
}

/// One row's running log-sum-exp over the tiles seen so far.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

fn forward_host(hidden: &Tensor, weight: &Weight, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
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
        host::matmul(logits, tile, Into::Overwrite, h, w.t(), host::all_threads());
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
            let p = Matrix::new(logits, rows_of(logits, tile), tile, tile);
            host::matmul(&mut expected, width, Into::Add, p, w, host::all_threads());
        } else {
            logits.par_chunks_mut(tile).zip(&mut running).for_each(|(logits, running)| {
                absorb(logits, running);
            });
        }
    };
    let most = (TILE_ELEMENTS / width.max(1)).min(TILE);
    weight.with_parts(|parts| for_each_block(parts, |_| most, each_tile))?;
    for (row, running) in expected.chunks_exact_mut(width).zip(&running) {
        row.iter_mut().for_each(|x| *x /= running.sum);
    }
    let log_probs = predictions.iter().zip(target_logits).map(|(p, z)| z - running[p.row].max - running[p.row].sum.ln());
    let log_probs = Tensor::from_iter(log_probs, &Device::Cpu)?;
    let expected = (gradient == Gradient::Wanted).then(|| host::tensor(expected, (rows, width))).transpose()?;
    Ok(LogProbs { log_probs, expected })
}

fn rows_of(logits: &[f32], tile: usize) -> usize {
    logits.len() / tile
}

/// Takes a tile into the running sum; turns its logits into exp(z − max). Returns the factor by which what was summed
/// before must shrink.
fn absorb(logits: &mut [f32], running: &mut Running) -> f32 {
    host::vectorised(
        #[inline(always)]
        || {
            let max = running.max.max(host::max(logits));
            let shrink = if running.max == max { 1.0 } else { host::exp(running.max - max) };
            running.sum = running.sum * shrink + host::exp_sum(logits, max);
            running.max = max;
            shrink
        },
    )
}
