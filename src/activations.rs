//! What never changes in a run, computed once a pair: the residual after block L, the lowest that is steered, and the
//! reference log-probabilities. The reference pass is the policy's pass with nothing added.

use candle_core::Tensor;

use crate::batch::{Batch, PairRows, Shift};
use crate::loss::PairLogProbs;
use crate::model::Model;
use crate::ops::head::Gradient;
use crate::positions::Positions;
use crate::tokens::EncodedPair;
use crate::{Error, Result};

/// Rows of one pass while the cache is made: enough to keep the matrix products busy.
const ROWS_A_PASS: usize = 768;

/// One pair.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its rows.
    pub rows: PairRows,
    /// Residual after block L, model dtype. `(T, H)`
    pub residual: Tensor,
    /// Log-probabilities of its responses under the unsteered model.
    pub reference: PairLogProbs,
}

/// All pairs of a data set at one layer.
#[derive(Debug, Clone)]
pub struct Activations {
    /// The lowest steered layer L.
    pub layer: usize,
    /// In the order of the pairs.
    pub entries: Vec<Entry>,
}

impl Activations {
    /// Runs every pair once through the whole model; vectors will be added from `layer` on, at `positions`. `on_progress`
    /// gets the number of pairs done and of all.
    ///
    /// # Errors
    /// No row of any pair is steered, a log-probability is not finite (names the row), or `on_progress` fails.
    pub fn compute(
        model: &Model,
        pairs: &[EncodedPair],
        layer: usize,
        positions: Positions,
        mut on_progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Self> {
        let rows: Vec<PairRows> = pairs.iter().map(|pair| PairRows::new(pair, model, positions)).collect();
        if !rows.iter().any(PairRows::is_steered) {
            let problem = "no token of any pair would be steered: choose other --positions or --spans";
            return Err(Error::Argument(problem.into()));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(rows.len());
        on_progress(0, rows.len())?;
        while entries.len() < rows.len() {
            let group = next_group(&rows[entries.len()..]);
            entries.extend(compute_group(model, group, layer)?);
            on_progress(entries.len(), rows.len())?;
        }
        Ok(Self { layer, entries })
    }

    /// Bytes of the residuals.
    pub fn cache_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.residual.elem_count() * entry.residual.dtype().size_in_bytes()).sum()
    }

    /// Log-probabilities of the responses of all entries with the shifts added, a few pairs a pass.
    pub fn score(&self, model: &Model, shifts: &[Shift]) -> Result<Vec<PairLogProbs>> {
        let mut scores = Vec::with_capacity(self.entries.len());
        let mut rest = self.entries.as_slice();
        while !rest.is_empty() {
            let rows: Vec<&PairRows> = rest.iter().map(|entry| &entry.rows).collect();
            let (group, later) = rest.split_at(group_len(rows.iter().map(|rows| rows.fork.rows())));
            let batch = Batch::new(model, &rows[..group.len()])?;
            let residuals: Vec<&Tensor> = group.iter().map(|entry| &entry.residual).collect();
            let residual = Tensor::cat(&residuals, 0)?;
            scores.extend(batch.upper(&residual, self.layer, shifts, Gradient::NotWanted)?.log_probs);
            rest = later;
        }
        Ok(scores)
    }
}

fn next_group(rows: &[PairRows]) -> &[PairRows] {
    &rows[..group_len(rows.iter().map(|pair| pair.fork.rows()))]
}

/// How many of the first pairs fit one pass; at least one.
fn group_len(rows: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fitting = rows.take_while(|rows| {
        sum += rows;
        sum <= ROWS_A_PASS
    });
    fitting.count().max(1)
}

fn compute_group(model: &Model, group: &[PairRows], layer: usize) -> Result<Vec<Entry>> {
    let batch = Batch::new(model, &group.iter().collect::<Vec<_>>())?;
    let ids: Vec<u32> = group.iter().flat_map(|pair| pair.ids.iter().copied()).collect();
    let residual = batch.lower(&ids, layer)?;
    let reference = batch.upper(&residual, layer, &[], Gradient::NotWanted)?.log_probs;
    let mut start = 0;
    group
        .iter()
        .zip(reference)
        .map(|(rows, reference)| {
            if !reference.iter().all(|log_prob| log_prob.is_finite()) {
                let row = rows.row;
                return Err(Error::NotFinite(format!(
                    "row {row}: the unsteered model's log-probability is not finite; try --dtype f32"
                )));
            }
            let len = rows.fork.rows();
            let residual = residual.narrow(0, start, len)?;
            start += len;
            Ok(Entry { rows: rows.clone(), residual, reference })
        })
        .collect()
}
