//! Some pairs as one pass through the upper blocks: response log-probabilities and the gradient of what is added, given
//! that of the log-probabilities. Knows no optimiser.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::objective::{Objective, PairLogProbs, PairReference};
use super::responses::Responses;
use crate::Result;
use crate::model::Model;
use crate::model::block::Saved;
use crate::model::layout::{Branches, Layout};
use crate::model::plan::{FrozenKeys, PassPlan, Selection};
use crate::ops::head::{Gradient, LogProbs, Prediction, Predictions};
use crate::steering::Steering;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};

/// A pair as rows `[shared | chosen | rejected]`. The last token of each response is predicted but predicts nothing, so
/// it has no row.
#[derive(Debug, Clone)]
pub struct PairRows {
    /// 0-based row of the data set.
    pub row: usize,
    /// How many rows are shared, chosen and rejected.
    pub branches: Branches,
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

/// The rows that the two responses of a pair share, of those that their token sequences begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All rows that are alike: the prompt, and more where the responses begin alike.
    All,
    /// The rows before the first that is steered, so that each response can be steered by a factor of its own.
    Unsteered,
}

impl PairRows {
    /// Lays out a pair, whose responses share all that they can.
    pub fn new(pair: &EncodedPair, model: &Model, positions: Positions) -> Self {
        Self::sharing(pair, model, positions, Sharing::All)
    }

    /// Lays out a pair, whose responses share these rows if the model allows it. A vector is added at `positions`, within the
    /// pair's spans.
    pub(crate) fn sharing(pair: &EncodedPair, model: &Model, positions: Positions, sharing: Sharing) -> Self {
        let sides = [&pair.chosen, &pair.rejected];
        let is_steered = |side: &EncodedResponse, token: usize| positions.steers_token(side, token);
        let longest = sides.iter().map(|side| side.ids.len()).max().unwrap_or(0);
        let shared = match model.can_share_prefix(longest) {
            true => sides.iter().map(|side| side.ids.len() - 1).fold(usize::MAX, usize::min),
            false => 0,
        };
        // Where the prompts' last tokens differ, as after a merge across the border, one token can be steered on one side alone.
        let agrees = |token: &usize| {
            let [a, b] = sides.map(|side| (side.ids[*token], is_steered(side, *token)));
            a == b && (sharing == Sharing::All || !a.1)
        };
        let shared = (0..shared).take_while(agrees).count();
        let tails = sides.map(|side| &side.ids[shared..side.ids.len() - 1]);
        let branches = Branches { shared, first: tails[0].len(), second: tails[1].len() };
        let starts = [shared, shared + branches.first];
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
        let frozen = frozen(&branches, &steered);
        Self { row: pair.row, branches, ids, predictions, steered, frozen }
    }

    /// Whether nothing added can change `row`.
    fn is_frozen(&self, row: usize) -> bool {
        runs(&self.branches).iter().zip(self.frozen).any(|(run, frozen)| (run.start..run.start + frozen).contains(&row))
    }

    /// Rows that nothing added can change, ascending; not all of them: one at least is live.
    pub(crate) fn frozen_rows(&self) -> impl Iterator<Item = usize> {
        let runs = runs(&self.branches).into_iter().zip(self.frozen);
        runs.flat_map(|(run, frozen)| run.start..run.start + frozen)
    }

    /// Rows that go through the upper blocks at each step, ascending.
    pub fn live_rows(&self) -> impl Iterator<Item = usize> {
        let runs = runs(&self.branches).into_iter().zip(self.frozen);
        runs.flat_map(|(run, frozen)| run.start + frozen..run.end)
    }

    /// Whether a vector is added at each live row.
    pub(crate) fn steered_live(&self) -> impl Iterator<Item = bool> {
        self.live_rows().map(|row| self.steered[row])
    }

    /// Number of response tokens: chosen, rejected.
    pub(crate) fn response_tokens(&self) -> [usize; 2] {
        self.predictions.each_ref().map(Vec::len)
    }

    /// Rows of a response's own tokens, ascending: 0 is the chosen one, 1 the rejected. Its last token, which predicts
    /// nothing, has none.
    pub(crate) fn response_rows(&self, side: usize) -> impl Iterator<Item = usize> {
        // The first prediction is made from the prompt's last token.
        self.predictions[side].iter().skip(1).map(|prediction| prediction.row)
    }

    /// Has every row computed at each step, also those that never change.
    pub(crate) fn recompute_all_rows(&mut self) {
        self.frozen = [0; 3];
    }
}

/// The shared, chosen and rejected rows.
fn runs(branches: &Branches) -> [Range<usize>; 3] {
    let (first, second) = (branches.shared, branches.shared + branches.first);
    [0..first, first..second, second..branches.rows()]
}

fn frozen(branches: &Branches, steered: &[bool]) -> [usize; 3] {
    let before_steered = |run: Range<usize>| steered[run].iter().take_while(|steered| !**steered).count();
    let [shared, first, second] = runs(branches);
    let mut frozen = [before_steered(shared.clone()), 0, 0];
    if frozen[0] == shared.len() {
        frozen = [frozen[0], before_steered(first), before_steered(second)];
    }
    // A pass without a row would be a case of its own.
    if frozen.iter().sum::<usize>() == branches.rows() {
        frozen.iter_mut().rev().find(|frozen| **frozen > 0).into_iter().for_each(|frozen| *frozen -= 1);
    }
    frozen
}

/// Gradients in f16 are this much larger on their way: most would be below 6e-5, where f16 has fewer digits. A power of two, so
/// that nothing is rounded for it.
const F16_GAIN: f32 = 1024.0;

/// Pairs laid out for one pass. What all their sequences begin with, such as a template's header, stands once.
#[derive(Debug)]
pub struct Batch<'m> {
    model: &'m Model,
    rows: BatchRows,
    pub(super) plan: PassPlan,
    selection: Selection,
    predictions: Predictions,
    /// Whose the predictions are.
    responses: Responses,
    /// Whether each prediction is made from a frozen row: those of a whole pass alone are.
    from_frozen: Vec<bool>,
    /// Frozen rows pair by pair, in a whole pass. `(frozen,)`
    frozen_rows: Vec<u32>,
    /// 1 where the vector is added, 0 elsewhere. `(R, 1)` f32
    steered: Tensor,
    /// Pair and side of each row; those that both sides share count as the first's. `(R,)`
    sides: Vec<(usize, usize)>,
}

/// What the unsteered model gives.
#[derive(Debug)]
pub(crate) struct Reference {
    /// Summed log-probabilities of each pair's responses.
    pub log_probs: Vec<PairLogProbs>,
    /// What of them is predicted from frozen rows.
    pub constants: Vec<PairLogProbs>,
    /// Keys and values of the frozen rows in each block above the lowest layer, where that block lies, `(frozen, K·D)` each; empty
    /// without such rows.
    pub keys: Vec<[Tensor; 2]>,
    /// The residual after each layer that was asked for. `(T, H)` each
    pub residuals: Vec<Tensor>,
}

/// The places of the rows of some pairs in a pass, and which of them it computes.
#[derive(Debug)]
struct BatchRows {
    /// Places of all rows.
    layout: Layout,
    /// Rows that every pair begins with; they stand once, in front.
    prefix: usize,
    /// The row at which each pair goes on behind the prefix.
    starts: Vec<usize>,
    /// Rows that are computed, ascending.
    computed: Vec<usize>,
}

impl BatchRows {
    /// A pass that computes every row.
    fn all(pairs: &[&PairRows]) -> Self {
        let prefix = common_prefix(pairs);
        let all_branches: Vec<Branches> = pairs.iter().map(|pair| pair.branches).collect();
        let mut layout = Layout::default();
        let starts = layout.push_all_branches(prefix, &all_branches);
        Self { prefix, starts, computed: (0..layout.rows()).collect(), layout }
    }

    /// The live rows. Pairs with frozen ones stand one behind the other: what they share is frozen, but for a few rows.
    fn live(pairs: &[&PairRows]) -> Self {
        if pairs.iter().all(|pair| pair.frozen == [0; 3]) {
            return Self::all(pairs);
        }
        let mut rows = Self { layout: Layout::default(), prefix: 0, starts: Vec::new(), computed: Vec::new() };
        for pair in pairs {
            let start = rows.layout.rows();
            rows.layout.push_branches(&pair.branches);
            rows.starts.push(start);
            rows.computed.extend(pair.live_rows().map(|row| start + row));
        }
        rows
    }

    /// Place of a pair's row in the pass.
    fn place(&self, pair: usize, row: usize) -> usize {
        if row < self.prefix { row } else { self.starts[pair] + row - self.prefix }
    }
}

/// How many rows at their beginning some pairs have in common.
fn common_prefix(pairs: &[&PairRows]) -> usize {
    let Some((first, others)) = pairs.split_first().filter(|(_, others)| !others.is_empty()) else { return 0 };
    let shared = pairs.iter().map(|pair| pair.branches.shared).min().unwrap_or(0);
    let agree =
        |row: &usize| others.iter().all(|pair| (pair.ids[*row], pair.steered[*row]) == (first.ids[*row], first.steered[*row]));
    (0..shared).take_while(agree).count()
}

/// A pass through the upper blocks.
#[derive(Debug)]
pub struct UpperPass {
    residual: Tensor,
    steering: Steering,
    /// The rows' own factors. `(R, 1)` f32
    rows: Tensor,
    /// Steered layers, ascending.
    steered: Vec<SteeredLayer>,
    /// What the blocks above all of them saved.
    saved: Vec<Saved>,
    head: LogProbs,
}

/// What a pass keeps of a steered layer.
#[derive(Debug)]
struct SteeredLayer {
    layer: usize,
    /// What the blocks between the steered layer before and this one saved.
    saved: Vec<Saved>,
    /// The residual before it was steered. `(R, H)`
    residual: Tensor,
}

impl<'m> Batch<'m> {
    /// Lays out `pairs`, with every row.
    pub fn new(model: &'m Model, pairs: &[&PairRows]) -> Result<Self> {
        let rows = BatchRows::all(pairs);
        let plan = model.plan(&rows.layout)?;
        Self::with_plan(model, pairs, rows, plan, vec![[0.0; 2]; pairs.len()])
    }

    /// Lays out the live rows of `pairs` alone. `constants` are the log-probabilities that the others contribute, `frozen`
    /// their keys and values, pair by pair.
    pub(crate) fn live(model: &'m Model, pairs: &[&PairRows], constants: &[PairLogProbs], frozen: &FrozenKeys) -> Result<Self> {
        let rows = BatchRows::live(pairs);
        let plan = match rows.computed.len() == rows.layout.rows() {
            true => model.plan(&rows.layout)?,
            false => model.plan_rows(&rows.layout, &rows.computed, frozen)?,
        };
        Self::with_plan(model, pairs, rows, plan, constants.to_vec())
    }

    fn with_plan(
        model: &'m Model,
        pairs: &[&PairRows],
        rows: BatchRows,
        plan: PassPlan,
        constants: Vec<PairLogProbs>,
    ) -> Result<Self> {
        let mut predicted = Vec::new();
        let (mut frozen_rows, mut steered) = (Vec::new(), vec![0f32; rows.layout.rows()]);
        let mut sides = vec![(0, 0); rows.layout.rows()];
        for (index, pair) in pairs.iter().enumerate() {
            for (side, side_predictions) in pair.predictions.iter().enumerate() {
                for prediction in side_predictions {
                    let row = rows.place(index, prediction.row);
                    if rows.computed.binary_search(&row).is_ok() {
                        let is_from_frozen = pair.is_frozen(prediction.row);
                        predicted.push((Prediction { row, ..*prediction }, (index, side), is_from_frozen));
                    }
                }
            }
            frozen_rows.extend(pair.frozen_rows().map(|row| rows.place(index, row) as u32));
            for (row, is_steered) in pair.steered.iter().enumerate() {
                steered[rows.place(index, row)] = f32::from(*is_steered);
                let side = usize::from(row >= pair.branches.shared + pair.branches.first);
                sides[rows.place(index, row)] = (index, side);
            }
        }
        predicted.sort_by_key(|(prediction, ..)| prediction.row);
        let mut wanted: Vec<usize> = predicted.iter().map(|(prediction, ..)| prediction.row).collect();
        // Where all predictions are constants: a GPU launches nothing for no rows.
        wanted.extend(rows.computed.first().filter(|_| predicted.is_empty()));
        wanted.dedup();
        let (selection, selected) = plan.select(&rows.layout, &wanted)?;
        let mut place = vec![0; rows.layout.rows()];
        for (at, row) in selected.iter().enumerate() {
            place[*row] = at;
        }
        let list = predicted.iter().map(|(prediction, ..)| Prediction { row: place[prediction.row], ..*prediction }).collect();
        let predictions = Predictions::new(list, selected.len(), model.device())?;
        let owners = predicted.iter().map(|(_, owner, _)| *owner).collect();
        let responses = Responses::new(owners, constants, model.device())?;
        let from_frozen = predicted.iter().map(|(.., is_from_frozen)| *is_from_frozen).collect();
        let steered = Tensor::from_iter(rows.computed.iter().map(|row| steered[*row]), model.device())?.unsqueeze(1)?;
        let sides = rows.computed.iter().map(|row| sides[*row]).collect();
        Ok(Self { model, rows, plan, selection, predictions, responses, from_frozen, frozen_rows, steered, sides })
    }

    /// Input token of each row, of a pass of every row. `(T,)`
    pub fn ids(&self, pairs: &[&PairRows]) -> Vec<u32> {
        let mut ids = vec![0; self.rows.layout.rows()];
        for (index, pair) in pairs.iter().enumerate() {
            pair.ids.iter().enumerate().for_each(|(row, id)| ids[self.rows.place(index, row)] = *id);
        }
        ids
    }

    /// Places of the live rows of pair `index`, in a pass of every row.
    pub(crate) fn places_of_live(&self, index: usize, pair: &PairRows) -> Vec<u32> {
        pair.live_rows().map(|row| self.rows.place(index, row) as u32).collect()
    }

    /// The residual of a pass of the live rows, given that of each pair's. `(live, H)` each → `(R, H)`
    pub(crate) fn join(&self, residuals: &[Tensor]) -> Result<Tensor> {
        let behind_prefix = |(index, residual): (usize, &Tensor)| -> Result<Tensor> {
            let known = if index == 0 { 0 } else { self.rows.prefix };
            Ok(residual.narrow(0, known, residual.dim(0)? - known)?)
        };
        let parts: Vec<Tensor> = residuals.iter().enumerate().map(behind_prefix).collect::<Result<_>>()?;
        Ok(Tensor::cat(&parts, 0)?)
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
    pub(crate) fn reference(&self, residual: &Tensor, layers: &Layers) -> Result<Reference> {
        let any_frozen = !self.frozen_rows.is_empty();
        let frozen = any_frozen.then(|| Tensor::new(self.frozen_rows.as_slice(), residual.device())).transpose()?;
        let mut keys = Vec::new();
        let mut keep = |saved: Vec<Saved>| -> Result<()> {
            let Some(frozen) = &frozen else { return Ok(()) };
            for block in &saved {
                let [k, v] = block.keys_and_values();
                let frozen = frozen.to_device(k.device())?;
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
        let by_token = head.log_probs.to_vec1()?;
        let log_probs = self.responses.sums(&by_token);
        let constants = self.responses.sums_of(&by_token, |token| self.from_frozen[token]);
        Ok(Reference { log_probs, constants, keys, residuals })
    }

    /// The factor of each row, where each pair's responses have these: 0 where it is not steered. A row that several sequences
    /// share must have one factor in all of them, or not be steered. → `(R, 1)` f32
    pub(crate) fn row_factors(&self, by_pair: &[[f32; 2]]) -> Result<Tensor> {
        if by_pair.iter().flatten().all(|factor| *factor == 1.0) {
            return Ok(self.steered.clone());
        }
        let factors = self.sides.iter().map(|(pair, side)| by_pair[*pair][*side]);
        Ok((Tensor::from_iter(factors, self.steered.device())?.unsqueeze(1)? * &self.steered)?)
    }

    /// Runs the blocks above `layer` and the head, and steers the steered rows on the way. `residual (R, H)` is the output of
    /// block `layer`; the steering has no lower layer.
    pub fn upper(&self, residual: &Tensor, layer: usize, steering: &Steering, gradient: Gradient) -> Result<UpperPass> {
        self.upper_by(&self.steered, residual, layer, steering, gradient)
    }

    /// Runs like [`Batch::upper`], with each row steered by its own factor in `rows (R, 1)`, from [`Batch::row_factors`].
    pub(crate) fn upper_by(
        &self,
        rows: &Tensor,
        residual: &Tensor,
        layer: usize,
        steering: &Steering,
        gradient: Gradient,
    ) -> Result<UpperPass> {
        let factors = steering.factors(rows)?; // (R, 1)
        let mut x = residual.clone(); // (R, H) after block next − 1
        let mut next = layer + 1;
        let mut steered = Vec::new();
        for (layer, v) in steering.vectors() {
            let (y, saved) = self.model.run_saving(next..layer + 1, &x, &self.plan, gradient)?;
            x = steering.apply(&y, v, &factors)?;
            next = layer + 1;
            steered.push(SteeredLayer { layer, saved, residual: y });
        }
        let (residual, saved) = self.model.run_to_end(next, &x, &self.plan, &self.selection, gradient)?;
        let head = self.model.log_probs(&residual, &self.predictions, gradient)?;
        Ok(UpperPass { residual, steering: steering.clone(), rows: rows.clone(), steered, saved, head })
    }

    /// Summed log-probabilities of each pair's responses: waits for a GPU.
    pub fn log_probs(&self, pass: &UpperPass) -> Result<Vec<PairLogProbs>> {
        Ok(self.responses.sums(&pass.head.log_probs.to_vec1()?))
    }

    /// Slopes of the objective's mean loss at the pass's log-probabilities, for [`Batch::vjp`]: waits for no GPU that has
    /// kernels. → `(P,)` f32
    pub fn slopes(&self, pass: &UpperPass, objective: Objective, d: f64, references: &[PairReference]) -> Result<Tensor> {
        self.responses.slopes(objective, d, &pass.head.log_probs, references)
    }

    /// Floating-point operations that the blocks above `layer` and the head need, forward and back.
    pub(crate) fn flops(&self, layer: usize) -> u64 {
        let pass = crate::model::flops::PassShape {
            blocks: self.model.num_blocks() - layer - 1,
            rows: self.rows(),
            segments: self.plan.segments(),
            selected: self.selection.segments(),
        };
        pass.forward(&self.model.config) + pass.backward(&self.model.config)
    }

    /// Gradients of the vectors over the steering's factor, given those of the predictions' log-probabilities, `slopes (P,)` f32.
    /// → the responses' log-probabilities, as [`Batch::log_probs`], and the gradients one behind the other, `(layers·H)`: in one
    /// transfer, the only one of a pass.
    pub fn vjp(&self, pass: UpperPass, slopes: &Tensor) -> Result<(Vec<PairLogProbs>, Vec<f32>)> {
        let gain = if self.model.dtype() == DType::F16 { F16_GAIN } else { 1.0 };
        let slopes = if gain == 1.0 { slopes.clone() } else { (slopes * f64::from(gain))? };
        let dy = self.model.log_probs_vjp(&pass.residual, &pass.head, &self.predictions, &slopes)?;
        let mut dx = self.model.vjp_to_end(pass.saved, &self.plan, &self.selection, &dy)?;
        let mut results = Vec::with_capacity(pass.steered.len() + 1);
        for (index, SteeredLayer { layer, saved, residual }) in pass.steered.into_iter().enumerate().rev() {
            let (dv, before) = pass.steering.vjp(index, &pass.rows, &residual, &dx)?;
            results.push(dv.flatten_all()?.to_device(pass.head.log_probs.device())?); // (H,)
            dx = self.model.vjp(layer + 1, saved, &self.plan, &before)?;
        }
        results.push(pass.head.log_probs);
        results.reverse();
        let mut by_token: Vec<f32> = Tensor::cat(&results, 0)?.to_vec1()?;
        let mut by_layer = by_token.split_off(self.predictions.len());
        by_layer.iter_mut().for_each(|g| *g /= gain);
        Ok((self.responses.sums(&by_token), by_layer))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
