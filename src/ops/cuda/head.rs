//! The head's launches, kernels/head.cu, between matrix products: some rows of logits at a time, of which a kernel makes
//! log-probabilities and probabilities.

use candle_core::{DType, Device, Tensor};

use super::call::{Argument, Call, Element, Launcher, Module};
use super::linear::product;
use crate::Result;
use crate::ops::matmul::matmul;
use crate::ops::prediction::{Gradient, LogProbs, Prediction};
use crate::ops::tiles::tiles;

/// Bytes of the logits that a GPU holds at a time: enough rows to keep its matrix products busy.
const LOGITS: usize = if cfg!(test) { 16 << 10 } else { 32 << 20 }; // tests go through several

/// Number of threads of a block of the kernel that passes over a row of logits.
const VOCABULARY_THREADS: usize = 512;

/// Predictions as the kernels read them.
#[derive(Debug, Clone)]
pub struct PredictionTables {
    /// The first prediction of each row, and the number of all. `(R + 1,)` u32
    starts: Tensor,
    /// The target of each prediction. `(P,)` u32
    targets: Tensor,
}

impl PredictionTables {
    /// Tables of predictions from `rows` rows, ascending by row.
    pub fn new(predictions: &[Prediction], rows: usize, device: &Device) -> Result<Self> {
        let start = |row: usize| predictions.partition_point(|prediction| prediction.row < row) as u32;
        let targets = predictions.iter().map(|prediction| prediction.target);
        let all = Tensor::from_iter((0..=rows).map(start).chain(targets), device)?;
        Ok(Self { starts: all.narrow(0, 0, rows + 1)?, targets: all.narrow(0, rows + 1, predictions.len())? })
    }
}

/// Log-probabilities of `count` predictions whose targets are in the vocabulary. `hidden (R, H)`, `weight (V, H)`
pub fn forward(
    (launcher, tables): (&dyn Launcher, &PredictionTables),
    hidden: &Tensor,
    (weight, softcap): (&Tensor, Option<f64>),
    count: usize,
    gradient: Gradient,
) -> Result<LogProbs> {
    let ((rows, width), (vocab, _)) = (hidden.dims2()?, weight.dims2()?);
    check_lengths(tables, rows, count)?;
    // The slopes of a softcap come behind the log-probabilities. One number more, since a device cannot allocate no memory.
    let numbers = if softcap.is_some() { 2 * count } else { count };
    let numbers = Tensor::zeros(numbers + 1, DType::F32, hidden.device())?;
    let chunk = (LOGITS / (vocab * DType::F32.size_in_bytes()).max(1)).max(1);
    let mut expected = Vec::new();
    for chunk in tiles(rows, chunk) {
        let (start, len) = (chunk.start, chunk.len());
        let logits = product(launcher, &hidden.narrow(0, start, len)?, weight, None, DType::F32)?; // (len, V)
        // Nothing is written where no gradient is wanted.
        let probabilities = if gradient == Gradient::Wanted { (len, vocab) } else { (1, 1) };
        let mut arguments = vec![
            Argument::Read(&logits, Element::F32),
            Argument::Read(&tables.starts, Element::U32),
            Argument::Read(&tables.targets, Element::U32),
            Argument::Update(&numbers, Element::F32),
            Argument::output(probabilities),
            Argument::size(vocab)?,
            Argument::size(start)?,
            Argument::U32(u32::from(gradient == Gradient::Wanted)),
        ];
        let name = match softcap {
            None => "log_probs",
            Some(cap) => {
                arguments.extend([Argument::F32(cap as f32), Argument::size(count)?]);
                "log_probs_capped"
            }
        };
        let by_row = Call::by_row(Module::Head, name, hidden, [len, vocab]).with(arguments);
        let call = Call { threads: VOCABULARY_THREADS, shared_floats: VOCABULARY_THREADS / 32, ..by_row };
        let probabilities = call.launch_for_one(launcher)?;
        if gradient == Gradient::Wanted {
            expected.push(matmul(&probabilities, weight)?); // (len, H)
        }
    }
    let expected = match gradient {
        Gradient::NotWanted => None,
        Gradient::Wanted if rows == 0 => Some(Tensor::zeros((0, width), hidden.dtype(), hidden.device())?),
        Gradient::Wanted => Some(Tensor::cat(&expected, 0)?),
    };
    let slopes = softcap.filter(|_| gradient == Gradient::Wanted).map(|_| numbers.narrow(0, count, count));
    Ok(LogProbs { log_probs: numbers.narrow(0, 0, count)?, expected, slopes: slopes.transpose()? })
}

/// Refuses tables of other sizes: a kernel would read past their end.
fn check_lengths(tables: &PredictionTables, rows: usize, predictions: usize) -> Result<()> {
    if tables.starts.elem_count() == rows + 1 && tables.targets.elem_count() == predictions {
        return Ok(());
    }
    Err(candle_core::Error::msg(format!("{rows} rows and {predictions} numbers are not those of the predictions")).into())
}

/// The gradient of the hidden states, given that of each prediction, `gradients (P,)`. `expected (R, H)` → `(R, H)`
pub fn vjp(
    (launcher, tables): (&dyn Launcher, &PredictionTables),
    (expected, slopes): (&Tensor, Option<&Tensor>),
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
        Argument::Read(slopes.unwrap_or(gradients), Element::F32), // not read where there are none
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::U32(u32::from(slopes.is_some())),
    ];
    let by_row = Call::by_row(Module::Head, "log_probs_vjp", expected, [rows, width]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for_one(launcher)
}
