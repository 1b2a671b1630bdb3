//! Some pairs as one pass through the upper blocks: response log-probabilities and their gradient at the residual.
//! Knows neither loss nor optimiser.

use std::ops::Range;

use candle_core::{DType, Tensor};

use crate::Result;
use crate::layers::Layers;
use crate::loss::PairLogProbs;
use crate::model::Model;
use crate::model::block::{FrozenKeys, Plan, Saved, Selection};
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
    /// How many rows at the beginning of the shared, chosen and rejected ones come before every steered row that they are
    /// in a sequence with: nothing that is added changes them.
    frozen: [usize; 3],
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
        let frozen = frozen(&fork, &steered);
        Self { row: pair.row, fork, ids, predictions, steered, frozen }
    }

    /// Whether a vector is added at any of its rows.
    pub fn is_steered(&self) -> bool {
        self.steered.contains(&true)
    }

    /// Rows that nothing added can change, ascending; not all of them: one at least is live.
    pub fn frozen_rows(&self) -> impl Iterator<Item = usize> {
        let runs = runs(&self.fork).into_iter().zip(self.frozen);
        runs.flat_map(|(run, frozen)| run.start..run.start + frozen)
    }

    /// The other rows, ascending.
    pub fn live_rows(&self) -> impl Iterator<Item = usize> {
        let runs = runs(&self.fork).into_iter().zip(self.frozen);
        runs.flat_map(|(run, frozen)| run.start + frozen..run.end)
    }

    /// Rows of a response's own tokens, ascending: 0 is the chosen one, 1 the rejected. Its last token, which predicts
    /// nothing, has none.
    pub fn response_rows(&self, side: usize) -> impl Iterator<Item = usize> {
        // The first prediction is made from the prompt's last token.
        self.predictions[side].iter().skip(1).map(|prediction| prediction.row)
    }

    /// Makes every row live.
    pub fn thaw(&mut self) {
        self.frozen = [0; 3];
    }
}

/// The shared, chosen and rejected rows.
fn runs(fork: &Fork) -> [Range<usize>; 3] {
    let (first, second) = (fork.shared, fork.shared + fork.first);
    [0..first, first..second, second..fork.rows()]
}

fn frozen(fork: &Fork, steered: &[bool]) -> [usize; 3] {
    let before_steered = |run: Range<usize>| steered[run].iter().take_while(|steered| !**steered).count();
    let [shared, first, second] = runs(fork);
    let mut frozen = [before_steered(shared.clone()), 0, 0];
    if frozen[0] == shared.len() {
        frozen = [frozen[0], before_steered(first), before_steered(second)];
    }
    // A pass without a row would be a case of its own.
    if frozen.iter().sum::<usize>() == fork.rows() {
        frozen.iter_mut().rev().find(|frozen| **frozen > 0).into_iter().for_each(|frozen| *frozen -= 1);
    }
    frozen
}

/// Pairs laid out for one pass.
#[derive(Debug)]
pub struct Batch<'m> {
    model: &'m Model,
    plan: Plan,
    selection: Selection,
    predictions: Vec<Prediction>,
    /// Pair and side of each prediction.
    owners: Vec<(usize, usize)>,
    /// Whether each prediction is made from a frozen row: those of a whole pass alone are.
    from_frozen: Vec<bool>,
    /// Log-probabilities of what is not predicted in this pass.
    constants: Vec<PairLogProbs>,
    /// Frozen rows, in a whole pass. `(frozen,)`
    frozen_rows: Vec<u32>,
    /// 1 where the vector is added, 0 elsewhere. `(R, 1)` f32
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

/// What the unsteered model gives.
#[derive(Debug)]
pub struct Reference {
    /// Summed log-probabilities of each pair's responses.
    pub log_probs: Vec<PairLogProbs>,
    /// What of them is predicted from frozen rows.
    pub constants: Vec<PairLogProbs>,
    /// Keys and values of the frozen rows in each block above the lowest layer, `(frozen, K·D)` each; empty without such
    /// rows.
    pub keys: Vec<[Tensor; 2]>,
    /// The residual after each layer that was asked for. `(T, H)` each
    pub residuals: Vec<Tensor>,
}

/// Which rows of some pairs a pass computes.
struct Rows {
    /// Where all of them lie.
    layout: Layout,
    /// First row of each pair.
    starts: Vec<usize>,
    /// Those that are computed, ascending.
    rows: Vec<usize>,
}

impl Rows {
    fn of(pairs: &[&PairRows], rows_of: impl Fn(&PairRows) -> Vec<usize>) -> Self {
        let mut all = Self { layout: Layout::default(), starts: Vec::new(), rows: Vec::new() };
        for pair in pairs {
            let start = all.layout.rows();
            all.layout.push_fork(&pair.fork);
            all.starts.push(start);
            all.rows.extend(rows_of(pair).into_iter().map(|row| start + row));
        }
        all
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
    /// Lays out `pairs` one after another, with every row.
    pub fn new(model: &'m Model, pairs: &[&PairRows]) -> Result<Self> {
        let rows = Rows::of(pairs, |pair| (0..pair.fork.rows()).collect());
        let plan = model.plan(&rows.layout)?;
        Self::with_plan(model, pairs, rows, plan, vec![[0.0; 2]; pairs.len()])
    }

    /// Lays out the live rows of `pairs` alone. `constants` are the log-probabilities that the others contribute, `frozen`
    /// their keys and values, pair by pair.
    pub fn live(model: &'m Model, pairs: &[&PairRows], constants: &[PairLogProbs], frozen: FrozenKeys) -> Result<Self> {
        let rows = Rows::of(pairs, |pair| pair.live_rows().collect());
        let plan = match rows.rows.len() == rows.layout.rows() {
            true => model.plan(&rows.layout)?,
            false => model.plan_rows(&rows.layout, &rows.rows, frozen)?,
        };
        Self::with_plan(model, pairs, rows, plan, constants.to_vec())
    }

    fn with_plan(model: &'m Model, pairs: &[&PairRows], rows: Rows, plan: Plan, constants: Vec<PairLogProbs>) -> Result<Self> {
        let (mut predictions, mut owners) = (Vec::new(), Vec::new());
        for (index, (pair, start)) in pairs.iter().zip(&rows.starts).enumerate() {
            for (side, side_predictions) in pair.predictions.iter().enumerate() {
                let moved = side_predictions.iter().map(|p| Prediction { row: start + p.row, ..*p });
                let before = predictions.len();
                predictions.extend(moved.filter(|p| rows.rows.binary_search(&p.row).is_ok()));
                owners.extend(std::iter::repeat_n((index, side), predictions.len() - before));
            }
        }
        let frozen_rows: Vec<usize> =
            pairs.iter().zip(&rows.starts).flat_map(|(pair, start)| pair.frozen_rows().map(move |row| start + row)).collect();
        let from_frozen = predictions.iter().map(|p| frozen_rows.binary_search(&p.row).is_ok()).collect();
        let mut wanted: Vec<usize> = predictions.iter().map(|p| p.row).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (selection, selected) = plan.select(&rows.layout, &wanted, model.device())?;
        let mut place = vec![0; rows.layout.rows()];
        for (at, row) in selected.iter().enumerate() {
            place[*row] = at;
        }
        predictions.iter_mut().for_each(|p| p.row = place[p.row]);
        let all_steered: Vec<bool> = pairs.iter().flat_map(|pair| pair.steered.iter().copied()).collect();
        let steered: Vec<f32> = rows.rows.iter().map(|row| f32::from(all_steered[*row])).collect();
        Ok(Self {
            model,
            plan,
            selection,
            predictions,
            owners,
            from_frozen,
            constants,
            frozen_rows: frozen_rows.into_iter().map(|row| row as u32).collect(),
            steered: Tensor::from_vec(steered, (rows.rows.len(), 1), model.device())?,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.steered.elem_count()
    }

    /// The residual after block `layer`: the embeddings of `ids` through the lower blocks. → `(T, H)`
    pub fn lower(&self, ids: &[u32], layer: usize) -> Result<Tensor> {
        self.model.run(0..layer + 1, &self.model.embed(ids)?, &self.plan)
    }

    /// Runs the blocks above the lowest of `layers` and the head with nothing added, and keeps the residual after each of
    /// them. `residual (T, H)` is the output of that lowest one; the pass must be one of every row.
    pub fn reference(&self, residual: &Tensor, layers: &Layers) -> Result<Reference> {
        let frozen = Tensor::new(self.frozen_rows.as_slice(), residual.device())?;
        let mut keys = Vec::new();
        let mut keep = |saved: Vec<Saved>| -> Result<()> {
            for block in saved.iter().filter(|_| !self.frozen_rows.is_empty()) {
                let [k, v] = block.keys_and_values();
                keys.push([k.index_select(&frozen, 0)?, v.index_select(&frozen, 0)?]);
            }
            Ok(())
        };
        let (layer, last) = (layers.lowest(), self.model.num_blocks() - 1);
        let mut residuals = vec![residual.clone()];
        let mut x = residual.clone();
        for index in layer + 1..last {
            let (y, saved) = self.model.run_saving(index..index + 1, &x, &self.plan, Gradient::Wanted)?;
            keep(saved)?;
            x = y;
            if layers.as_slice().contains(&index) {
                residuals.push(x.clone());
            }
        }
        if layer < last && layers.highest() == last {
            // The head needs some of its rows alone.
            residuals.push(self.model.run(last..last + 1, &x, &self.plan)?);
        }
        let (x, saved) = self.model.run_to_end(last.max(layer + 1), &x, &self.plan, &self.selection, Gradient::Wanted)?;
        keep(saved)?;
        let head = self.model.log_probs(&x, &self.predictions, Gradient::NotWanted)?;
        let (mut log_probs, mut constants) = (self.constants.clone(), self.constants.clone());
        for (((pair, side), log_prob), from_frozen) in self.owners.iter().zip(&head.log_probs).zip(&self.from_frozen) {
            log_probs[*pair][*side] += *log_prob as f64;
            if *from_frozen {
                constants[*pair][*side] += *log_prob as f64;
            }
        }
        Ok(Reference { log_probs, constants, keys, residuals })
    }

    /// Runs the blocks above `layer` and the head, adding each shift on the way. `residual (R, H)` is the output of block
    /// `layer`; the shifts' layers ascend, none lower.
    pub fn upper(&self, residual: &Tensor, layer: usize, shifts: &[Shift], gradient: Gradient) -> Result<Pass> {
        let mut x = residual.clone(); // (R, H) after block next − 1
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
        let mut log_probs = self.constants.clone();
        for ((pair, side), log_prob) in self.owners.iter().zip(&head.log_probs) {
            log_probs[*pair][*side] += *log_prob as f64;
        }
        Ok(Pass { log_probs, residual, steered, saved, head })
    }

    /// Floating-point operations that the blocks above `layer` and the head need, forward and back.
    pub fn flops(&self, layer: usize) -> u64 {
        let pass = crate::flops::Pass {
            blocks: self.model.num_blocks() - layer - 1,
            rows: self.rows(),
            segments: self.plan.segments(),
            selected: self.selection.segments(),
        };
        pass.forward(&self.model.config) + pass.backward(&self.model.config)
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

    /// The residual with `v` added at the steered rows, the sum taken in f32. `residual (R, H)`, `v (H)` f32.
    fn steer(&self, residual: &Tensor, v: &Tensor) -> Result<Tensor> {
        let shift = self.steered.matmul(&v.unsqueeze(0)?)?; // (R, H)
        Ok((residual.to_dtype(DType::F32)? + shift)?.to_dtype(residual.dtype())?)
    }
}
