//! The blocks of a model, by the device that they lie on, and the two loops over them: forward and back. Everything that runs
//! blocks, for training, scoring or decoding, goes through these.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::block::{Block, Saved};
use super::cache::KvCache;
use super::plan::Queries;
use crate::Result;
use crate::ops::head::Gradient;
use crate::ops::weight::Weight;

/// Consecutive blocks on one device. Residuals and their gradients cross from stage to stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub device: Device,
    pub blocks: Vec<Block>,
}

/// All blocks of a model. A plan lies on one device, and so do the blocks that it is given to.
#[derive(Debug)]
pub(super) struct Stages(pub Vec<Stage>);

impl Stages {
    /// Matrices of all blocks.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.0.iter().flat_map(|stage| &stage.blocks).flat_map(Block::weights)
    }

    /// Runs the blocks of `range`, of which the last yields the queries of `rows` alone. `x (R, H)` → `(Q, H)` and, per
    /// block, what [`Stages::vjp`] needs, kept only if a gradient is wanted.
    pub fn forward(
        &self,
        range: Range<usize>,
        x: &Tensor,
        rows: Queries,
        mut cache: Option<&mut KvCache>,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut x = if range.is_empty() { rows.take(x)? } else { x.clone() };
        let mut saved = Vec::new();
        for (device, block) in self.blocks(range.clone()) {
            let cache = cache.as_deref_mut().map(|cache| cache.block(block.index));
            let (y, kept) = block.forward(&x.to_device(device)?, rows_of(block, &range, rows), cache)?;
            x = y;
            if gradient == Gradient::Wanted {
                saved.push(kept);
            }
        }
        Ok((x, saved))
    }

    /// Gradient of the input of [`Stages::forward`], given that of its output; `saved` is what the blocks before `end` saved.
    /// `dy (Q, H)` → `(R, H)`. Frees on the way what was saved.
    pub fn vjp(&self, end: usize, saved: Vec<Saved>, rows: Queries, dy: &Tensor) -> Result<Tensor> {
        let range = end.saturating_sub(saved.len())..end;
        let mut dx = if range.is_empty() { rows.put_back(dy)? } else { dy.clone() };
        for ((device, block), kept) in self.blocks(range.clone()).rev().zip(saved.into_iter().rev()) {
            dx = block.vjp(&kept, rows_of(block, &range, rows), &dx.to_device(device)?)?;
        }
        Ok(dx)
    }

    /// The blocks of `range`, each with its device.
    fn blocks(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = (&Device, &Block)> {
        let all = self.0.iter().flat_map(|stage| stage.blocks.iter().map(|block| (&stage.device, block)));
        all.filter(move |(_, block)| range.contains(&block.index))
    }
}

/// The rows whose queries a block computes: before the last of `range` all of them.
fn rows_of<'a>(block: &Block, range: &Range<usize>, rows: Queries<'a>) -> Queries<'a> {
    if block.index + 1 == range.end { rows } else { Queries::all(rows.plan) }
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
