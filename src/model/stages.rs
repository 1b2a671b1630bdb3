//! The blocks of a model, by the device that they lie on, and the two loops over them: forward and back. Everything that runs
//! blocks, for training, scoring or decoding, goes through these.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::block::{Block, Saved};
use super::cache::KvCache;
use super::config::Config;
use super::loader::Loader;
use super::plan::{PassPlan, PassRows};
use super::weights::{WeightStorage, Weights};
use crate::Result;
use crate::ops::head::Gradient;
use crate::ops::weight::Weight;

/// Consecutive blocks on one device. Residuals and their gradients cross from stage to stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub device: Device,
    /// Indices of the stage's blocks.
    pub range: Range<usize>,
    /// Blocks that are held: the last ones of the stage. The others are in their file.
    pub blocks: Vec<Block>,
}

/// The blocks of a model. A plan has a part for each stage.
#[derive(Debug)]
pub(super) struct Stages {
    pub all: Vec<Stage>,
    /// File from which blocks that are not held are read.
    pub file: Option<BlockFile>,
}

/// Weights of which a block at a time is read, to run once.
pub(super) struct BlockFile {
    pub weights: Arc<Weights>,
    pub config: Config,
    pub matrices: DType,
    pub activations: DType,
    pub storage: WeightStorage,
}

impl BlockFile {
    fn read(&self, index: usize, device: &Device) -> Result<Block> {
        let Self { weights, config, matrices, activations, storage } = self;
        let (matrices, activations, storage, prefix) = (*matrices, *activations, *storage, String::new());
        Block::load(&Loader { weights, config, matrices, activations, storage, device, prefix }, config, index)
    }
}

impl fmt::Debug for BlockFile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("BlockFile").finish_non_exhaustive()
    }
}

impl Stage {
    fn held(&self, block: usize) -> Option<&Block> {
        self.blocks.get(block.checked_sub(self.range.end - self.blocks.len())?)
    }
}

impl Stages {
    /// Matrices of the blocks that are held.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.all.iter().flat_map(|stage| &stage.blocks).flat_map(Block::weights)
    }

    /// The device of each stage.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.all.iter().map(|stage| &stage.device)
    }

    /// The device of the residual that enters `block`: that of the block, or of the last one where it is behind all.
    pub fn device_at(&self, block: usize) -> &Device {
        &self.all[self.stage_of(block)].device
    }

    /// Lets go of the blocks before `end`, and of the stages that had no others; the last stays for the head. They cannot be run
    /// again.
    pub fn release(&mut self, end: usize) {
        let all = self.all.last().map_or(0, |last| last.range.end);
        self.all.retain(|stage| stage.range.end > end || stage.range.end == all);
        for stage in &mut self.all {
            stage.range.start = stage.range.start.max(end);
            let gone = stage.blocks.len().saturating_sub(stage.range.len());
            stage.blocks.drain(..gone);
        }
    }

    /// Whether any block of `range` is in its file.
    pub fn reads_any(&self, range: Range<usize>) -> bool {
        let is_there = |block: usize| self.all[self.stage_of(block)].held(block).is_some();
        !range.into_iter().all(is_there)
    }

    /// Runs the blocks of `range`, of which the last yields the queries of `rows` alone. `x (R, H)` → `(Q, H)`, where the block
    /// behind them reads it, and, per block, what [`Stages::vjp`] needs, kept only if a gradient is wanted.
    ///
    /// # Errors
    /// A block is gone, or cannot be read.
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
        for index in range.clone() {
            let (at, block) = self.block(index)?;
            let queries = if index + 1 == range.end { rows.at(at) } else { rows.all_at(at) };
            let cache = cache.as_deref_mut().map(|cache| cache.block(index));
            let (y, kept) = block.forward(&x.to_device(&self.all[at].device)?, queries, cache)?;
            x = y;
            if gradient == Gradient::Wanted {
                saved.push(kept);
            }
        }
        Ok((x.to_device(self.device_at(range.end))?, saved))
    }

    /// Gradient of the input of [`Stages::forward`], given that of its output; `saved` is what the blocks before `end` saved.
    /// `dy (Q, H)` → `(R, H)`, where the input lies. Frees on the way what was saved.
    ///
    /// # Errors
    /// As [`Stages::forward`].
    pub fn vjp(&self, end: usize, saved: Vec<Saved>, rows: PassRows, dy: &Tensor) -> Result<Tensor> {
        let range = end.saturating_sub(saved.len())..end;
        let mut dx = if range.is_empty() { rows.at(self.stage_of(end)).put_back(dy)? } else { dy.clone() };
        for (index, kept) in range.clone().rev().zip(saved.into_iter().rev()) {
            let (at, block) = self.block(index)?;
            let queries = if index + 1 == range.end { rows.at(at) } else { rows.all_at(at) };
            dx = block.vjp(&kept, queries, &dx.to_device(&self.all[at].device)?)?;
        }
        Ok(dx)
    }

    /// Runs one block on several passes, with all rows of each plan. `(T, H)` each
    ///
    /// # Errors
    /// As [`Stages::forward`].
    pub fn forward_each(&self, block: usize, passes: &mut [Tensor], plans: &[&PassPlan]) -> Result<()> {
        let (at, held) = self.block(block)?;
        for (x, plan) in passes.iter_mut().zip(plans) {
            let (y, _) = held.forward(&x.to_device(&self.all[at].device)?, PassRows::all(plan).at(at), None)?;
            *x = y.to_device(self.device_at(block + 1))?;
        }
        Ok(())
    }

    /// A block with its stage.
    fn block(&self, index: usize) -> Result<(usize, Cow<'_, Block>)> {
        let at = self.stage_of(index);
        let stage = &self.all[at];
        match (stage.held(index), &self.file) {
            (Some(block), _) => Ok((at, Cow::Borrowed(block))),
            (None, Some(file)) if stage.range.contains(&index) => Ok((at, Cow::Owned(file.read(index, &stage.device)?))),
            (None, _) => Err(candle_core::Error::msg(format!("block {index} was let go")).into()),
        }
    }

    fn stage_of(&self, block: usize) -> usize {
        self.all.iter().position(|stage| block < stage.range.end).unwrap_or(self.all.len() - 1)
    }
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
