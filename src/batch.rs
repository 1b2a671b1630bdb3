//! Some pairs as one pass through the upper blocks: response log-probabilities and their gradient at the residual.
//! Knows neither loss nor optimiser.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::loss::PairLogProbs;
use crate::model::Model;
use crate::model::block::{Plan, Saved, Selection};
use crate::model::layout::{Fork, Layout};
use crate::ops::head::{Gradient, LogProbs, Prediction};
use crate::tokens::EncodedPair;
use crate::vector::Positions;

/// A pair as rows `[shared | chosen | rejected]`. The last token of each response is predicted but predicts nothing, so
/// it has no row.
#[derive(Debug, Clone)]
pub struct PairRows {
    /// 0-based row of the data set.
    pub row: usize,
    /// How many rows are shared, chosen and rejected.
    pub fork: Fork,
    /// Input token of each row. `(T,)`
    pub ids: Vec<u32>,
    /// Response tokens with the rows that predict them: chosen, rejected.
    predictions: [Vec<Prediction>; 2],
    /// Whether each row is one of a response. `(T,)`
    is_response: Vec<bool>,
}

impl PairRows {
    /// Lays out a pair; its prompt is shared where the two token sequences agree and the model allows it.
    pub fn new(pair: &EncodedPair, model: &Model) -> Self {
        let sides = [&pair.chosen, &pair.rejected];
        let longest = sides.iter().map(|side| side.ids.len()).max().unwrap_or(0);
        let agree = pair.chosen.ids.iter().zip(&pair.rejected.ids).take_while(|(a, b)| a == b).count();
        let shared = match model.can_share_prefix(longest) {
            true => sides.iter().map(|side| side.start.min(side.ids.len() - 1)).fold(agree, usize::min),
            false => 0,
        };
        let tails = sides.map(|side| &side.ids[shared..side.ids.len() - 1]);
        let fork = Fork { shared, first: tails[0].len(), second: tails[1].len() };
        let starts = [shared, shared + fork.first];
        let predictions = [0, 1].map(|i| {
            let side = sides[i];
            let row_of = |token: usize| if token < shared { token } else { starts[i] + token - shared };
            let tokens = side.start..side.ids.len();
            tokens.map(|token| Prediction { row: row_of(token - 1), target: side.ids[token] }).collect()
        });
        let mut is_response = vec![false; shared];
        for side in sides {
            is_response.extend((shared..side.ids.len() - 1).map(|token| token >= side.start));
        }
        let ids = [&pair.chosen.ids[..shared], tails[0], tails[1]].concat();
        Self { row: pair.row, fork, ids, predictions, is_response }
    }
}

/// Pairs laid out for one pass.
#[derive(Debug)]
pub struct Batch<'m> {
    model: &'m Model,
    layout: Layout,
    plan: Plan,
    selection: Selection,
    predictions: Vec<Prediction>,
    /// Pair and side of each prediction.
    owners: Vec<(usize, usize)>,
    pairs: usize,
    /// 1 where the vector is added, 0 elsewhere. `(T, 1)` f32
    steered: Tensor,
}

/// A pass through the upper blocks.
#[derive(Debug)]
pub struct Pass {
    /// Summed log-probabilities of each pair's responses.
    pub log_probs: Vec<PairLogProbs>,
    residual: Tensor,
    saved: Vec<Saved>,
    head: LogProbs,
}

impl<'m> Batch<'m> {
    /// Lays out `pairs` one after another; the vector will be added at `positions`.
    pub fn new(model: &'m Model, pairs: &[&PairRows], positions: Positions) -> Result<Self> {
        let mut layout = Layout::default();
        let (mut predictions, mut owners, mut steered) = (Vec::new(), Vec::new(), Vec::new());
        for (index, pair) in pairs.iter().enumerate() {
            let start = layout.rows();
            layout.push_fork(&pair.fork);
            for (side, side_predictions) in pair.predictions.iter().enumerate() {
                predictions.extend(side_predictions.iter().map(|p| Prediction { row: start + p.row, ..*p }));
                owners.extend(std::iter::repeat_n((index, side), side_predictions.len()));
            }
            steered.extend(pair.is_response.iter().map(|response| f32::from(positions.includes(*response))));
        }
        let plan = model.plan(&layout)?;
        let mut wanted: Vec<usize> = predictions.iter().map(|p| p.row).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (selection, rows) = plan.select(&layout, &wanted, model.device())?;
        let mut place = vec![0; layout.rows()];
        for (at, row) in rows.iter().enumerate() {
            place[*row] = at;
        }
        predictions.iter_mut().for_each(|p| p.row = place[p.row]);
        let steered = Tensor::from_vec(steered, (layout.rows(), 1), model.device())?;
        Ok(Self { model, layout, plan, selection, predictions, owners, pairs: pairs.len(), steered })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.layout.rows()
    }

    /// The residual after block `layer`: the embeddings of `ids` through the lower blocks. → `(T, H)`
    pub fn lower(&self, ids: &[u32], layer: usize) -> Result<Tensor> {
        self.model.run(0..layer + 1, &self.model.embed(ids)?, &self.plan)
    }

    /// The residual with `v` added at the steered rows, the sum taken in f32. `residual (T, H)`, `v (H)` f32.
    pub fn steer(&self, residual: &Tensor, v: &Tensor) -> Result<Tensor> {
        let shift = self.steered.matmul(&v.unsqueeze(0)?)?; // (T, H)
        Ok((residual.to_dtype(DType::F32)? + shift)?.to_dtype(residual.dtype())?)
    }

    /// Runs the blocks above `layer` and the head.
    pub fn upper(&self, residual: &Tensor, layer: usize, gradient: Gradient) -> Result<Pass> {
        let (residual, saved) = self.model.run_to_end(layer + 1, residual, &self.plan, &self.selection, gradient)?;
        let head = self.model.log_probs(&residual, &self.predictions, gradient)?;
        let mut log_probs = vec![[0.0; 2]; self.pairs];
        for ((pair, side), log_prob) in self.owners.iter().zip(&head.log_probs) {
            log_probs[*pair][*side] += *log_prob as f64;
        }
        Ok(Pass { log_probs, residual, saved, head })
    }

    /// Gradient of a vector added at the steered rows, given those of the responses' log-probabilities. → `(H)` f32.
    pub fn vjp(&self, pass: Pass, gradients: &[PairLogProbs]) -> Result<Vec<f32>> {
        let by_token: Vec<f32> = self.owners.iter().map(|(pair, side)| gradients[*pair][*side] as f32).collect();
        let dy = self.model.log_probs_vjp(&pass.residual, &pass.head, &self.predictions, &by_token)?;
        let dx = self.model.vjp_to_end(pass.saved, &self.plan, &self.selection, self.rows(), &dy)?;
        let dv = self.steered.t()?.matmul(&dx.to_dtype(DType::F32)?)?; // (1, H)
        Ok(dv.flatten_all()?.to_vec1()?)
    }
}
