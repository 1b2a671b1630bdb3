//! Some pairs as one pass through the upper blocks: response log-probabilities and their gradient at the residual.
//! Knows neither loss nor optimiser.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::layers::Layers;
use crate::loss::PairLogProbs;
use crate::model::Model;
use crate::model::block::{Plan, Saved, Selection};
use crate::model::layout::{Fork, Layout};
use crate::ops::head::{Gradient, LogProbs, Prediction};
use crate::positions::{Place, Positions};
use crate::tokens::{EncodedPair, EncodedResponse};

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
    /// Whether a vector is added at each row. `(T,)`
    steered: Vec<bool>,
}

impl PairRows {
    /// Lays out a pair; its prompt is shared where the two token sequences agree and the model allows it. A vector is added
    /// at `positions`, within the pair's spans.
    pub fn new(pair: &EncodedPair, model: &Model, positions: Positions) -> Self {
        let sides = [&pair.chosen, &pair.rejected];
        let is_steered = |side: &EncodedResponse, token: usize| {
            let in_spans = side.in_spans.as_ref().is_none_or(|in_spans| in_spans[token]);
            in_spans && positions.includes(Place::of(token, side.start))
        };
        let longest = sides.iter().map(|side| side.ids.len()).max().unwrap_or(0);
        let shared = match model.can_share_prefix(longest) {
            true => sides.iter().map(|side| side.start.min(side.ids.len() - 1)).fold(usize::MAX, usize::min),
            false => 0,
        };
        // Where the prompts' last tokens differ, as after a merge across the border, one token can be steered on one side alone.
        let agrees = |token: &usize| {
            let [a, b] = sides.map(|side| (side.ids[*token], is_steered(side, *token)));
            a == b
        };
        let shared = (0..shared).take_while(agrees).count();
        let tails = sides.map(|side| &side.ids[shared..side.ids.len() - 1]);
        let fork = Fork { shared, first: tails[0].len(), second: tails[1].len() };
        let starts = [shared, shared + fork.first];
        let predictions = [0, 1].map(|i| {
            let side = sides[i];
            let row_of = |token: usize| if token < shared { token } else { starts[i] + token - shared };
            let tokens = side.start..side.ids.len();
            tokens.map(|token| Prediction { row: row_of(token - 1), target: side.ids[token] }).collect()
        });
        let mut steered: Vec<bool> = (0..shared).map(|token| is_steered(sides[0], token)).collect();
        for side in sides {
            steered.extend((shared..side.ids.len() - 1).map(|token| is_steered(side, token)));
        }
        let ids = [&pair.chosen.ids[..shared], tails[0], tails[1]].concat();
        Self { row: pair.row, fork, ids, predictions, steered }
    }

    /// Whether a vector is added at any of its rows.
    pub fn is_steered(&self) -> bool {
        self.steered.contains(&true)
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

/// What is added to the output of one block at the steered rows.
#[derive(Debug, Clone)]
pub struct Shift {
    /// The block.
    pub layer: usize,
    /// A vector times its factor, f32. `(H)`
    pub v: Tensor,
}

impl Shift {
    /// `factor` times the vectors that lie one behind the other in `v (layers·H)`, one for each of `layers`.
    pub fn all(layers: &Layers, v: &[f32], factor: f32, model: &Model) -> Result<Vec<Self>> {
        let vectors = layers.as_slice().iter().zip(v.chunks_exact(model.config.hidden_size));
        let shift = |(layer, v): (&usize, &[f32])| -> Result<Self> {
            Ok(Self { layer: *layer, v: Tensor::from_iter(v.iter().map(|x| factor * x), model.device())? })
        };
        vectors.map(shift).collect()
    }
}

/// A pass through the upper blocks.
#[derive(Debug)]
pub struct Pass {
    /// Summed log-probabilities of each pair's responses.
    pub log_probs: Vec<PairLogProbs>,
    residual: Tensor,
    /// Steered layers, ascending, each with what the blocks between the one before and it saved.
    steered: Vec<(usize, Vec<Saved>)>,
    /// What the blocks above all of them saved.
    saved: Vec<Saved>,
    head: LogProbs,
}

impl<'m> Batch<'m> {
    /// Lays out `pairs` one after another.
    pub fn new(model: &'m Model, pairs: &[&PairRows]) -> Result<Self> {
        let mut layout = Layout::default();
        let (mut predictions, mut owners, mut steered) = (Vec::new(), Vec::new(), Vec::new());
        for (index, pair) in pairs.iter().enumerate() {
            let start = layout.rows();
            layout.push_fork(&pair.fork);
            for (side, side_predictions) in pair.predictions.iter().enumerate() {
                predictions.extend(side_predictions.iter().map(|p| Prediction { row: start + p.row, ..*p }));
                owners.extend(std::iter::repeat_n((index, side), side_predictions.len()));
            }
            steered.extend(pair.steered.iter().map(|steered| f32::from(*steered)));
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

    /// Runs the blocks above `layer` and the head, adding each shift on the way. `residual (T, H)` is the output of block
    /// `layer`; the shifts' layers ascend, none lower.
    pub fn upper(&self, residual: &Tensor, layer: usize, shifts: &[Shift], gradient: Gradient) -> Result<Pass> {
        let mut x = residual.clone(); // (T, H) after block next − 1
        let mut next = layer + 1;
        let mut steered = Vec::with_capacity(shifts.len());
        for shift in shifts {
            let (y, saved) = self.model.run_saving(next..shift.layer + 1, &x, &self.plan, gradient)?;
            x = self.steer(&y, &shift.v)?;
            next = shift.layer + 1;
            steered.push((shift.layer, saved));
        }
        let (residual, saved) = self.model.run_to_end(next, &x, &self.plan, &self.selection, gradient)?;
        let head = self.model.log_probs(&residual, &self.predictions, gradient)?;
        let mut log_probs = vec![[0.0; 2]; self.pairs];
        for ((pair, side), log_prob) in self.owners.iter().zip(&head.log_probs) {
            log_probs[*pair][*side] += *log_prob as f64;
        }
        Ok(Pass { log_probs, residual, steered, saved, head })
    }

    /// Gradients of the vectors added, given those of the responses' log-probabilities, one behind the other.
    /// → `(layers·H)` f32.
    pub fn vjp(&self, pass: Pass, gradients: &[PairLogProbs]) -> Result<Vec<f32>> {
        let by_token: Vec<f32> = self.owners.iter().map(|(pair, side)| gradients[*pair][*side] as f32).collect();
        let dy = self.model.log_probs_vjp(&pass.residual, &pass.head, &self.predictions, &by_token)?;
        let mut dx = self.model.vjp_to_end(pass.saved, &self.plan, &self.selection, self.rows(), &dy)?;
        let mut by_layer = Vec::with_capacity(pass.steered.len());
        for (layer, saved) in pass.steered.into_iter().rev() {
            let dv = self.steered.t()?.matmul(&dx.to_dtype(DType::F32)?)?; // (1, H)
            by_layer.push(dv.flatten_all()?.to_vec1::<f32>()?);
            dx = self.model.vjp(layer + 1, saved, &self.plan, &dx)?;
        }
        by_layer.reverse();
        Ok(by_layer.concat())
    }

    /// The residual with `v` added at the steered rows, the sum taken in f32. `residual (T, H)`, `v (H)` f32.
    fn steer(&self, residual: &Tensor, v: &Tensor) -> Result<Tensor> {
        let shift = self.steered.matmul(&v.unsqueeze(0)?)?; // (T, H)
        Ok((residual.to_dtype(DType::F32)? + shift)?.to_dtype(residual.dtype())?)
    }
}
