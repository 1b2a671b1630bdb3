//! The blocks of a model, by the device that they lie on, and the two loops over them: forward and back. Everything that runs
//! blocks, for training, scoring or decoding, goes through these.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::block::{Block, Saved};
use super::cache::KvCache;
use super::plan::PassRows;
use crate::Result;
use crate::ops::head::Gradient;
use crate::ops::weight::Weight;

/// Consecutive blocks on one device. Residuals and their gradients cross from stage to stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub device: Device,
    /// At least one.
    pub blocks: Vec<Block>,
}

/// All blocks of a model. A plan has a part for each stage.
#[derive(Debug)]
pub(super) struct Stages(pub Vec<Stage>);

impl Stage {
    /// The indices of its blocks.
    pub fn range(&self) -> Range<usize> {
        self.blocks.first().map_or(0..0, |first| first.index..first.index + self.blocks.len())
    }
}

impl Stages {
    /// Matrices of all blocks.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.0.iter().flat_map(|stage| &stage.blocks).flat_map(Block::weights)
    }

    /// The device of each stage.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.0.iter().map(|stage| &stage.device)
    }

    /// The device of the residual that enters `block`: that of the block, or of the last one where it is behind all.
    pub fn device_at(&self, block: usize) -> &Device {
        &self.0[self.stage_of(block)].device
    }

    fn stage_of(&self, block: usize) -> usize {
        self.0.iter().position(|stage| block < stage.range().end).unwrap_or(self.0.len() - 1)
    }

    /// Runs the blocks of `range`, of which the last yields the queries of `rows` alone. `x (R, H)` → `(Q, H)`, where the block
    /// behind them reads it, and, per block, what [`Stages::vjp`] needs, kept only if a gradient is wanted.
    pub fn forward(
        &self,
        range: Range<usize>,
        x: &Tensor,
        rows: PassRows,
        mut cache: Option<&mut KvCache>,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut x = if range.is_empty() { rows.at(self.stage_of(range.end)).take(x)? } else { x.clone() };
        let mut saved = Vec::new();
        for (stage, block) in self.blocks(range.clone()) {
            let cache = cache.as_deref_mut().map(|cache| cache.block(block.index));
            let queries = if block.index + 1 == range.end { rows.at(stage) } else { rows.all_at(stage) };
            let (y, kept) = block.forward(&x.to_device(&self.0[stage].device)?, queries, cache)?;
            x = y;
            if gradient == Gradient::Wanted {
                saved.push(kept);
            }
        }
        Ok((x.to_device(self.device_at(range.end))?, saved))
    }

    /// Gradient of the input of [`Stages::forward`], given that of its output; `saved` is what the blocks before `end` saved.
    /// `dy (Q, H)` → `(R, H)`, where the input lies. Frees on the way what was saved.
    pub fn vjp(&self, end: usize, saved: Vec<Saved>, rows: PassRows, dy: &Tensor) -> Result<Tensor> {
        let range = end.saturating_sub(saved.len())..end;
        let mut dx = if range.is_empty() { rows.at(self.stage_of(end)).put_back(dy)? } else { dy.clone() };
        for ((stage, block), kept) in self.blocks(range.clone()).rev().zip(saved.into_iter().rev()) {
            let queries = if block.index + 1 == range.end { rows.at(stage) } else { rows.all_at(stage) };
            dx = block.vjp(&kept, queries, &dx.to_device(&self.0[stage].device)?)?;
        }
        Ok(dx)
    }

    /// The blocks of `range`, each with its stage.
    fn blocks(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = (usize, &Block)> {
        let all = self.0.iter().enumerate().flat_map(|(stage, held)| held.blocks.iter().map(move |block| (stage, block)));
        all.filter(move |(_, block)| range.contains(&block.index))
    }
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
