//! Keys and values of what was decoded so far, owned by the caller: for each block one matrix of rows, `capacity` rows a
//! branch. Knows nothing of sampling.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use crate::Result;
use crate::ops::attention::Segments;

/// Keys and values of every block.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<LayerCache>,
    branches: usize,
    capacity: usize,
}

/// Keys and values of one block. `(branches·capacity, K·D)` each.
#[derive(Debug)]
pub struct LayerCache {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl KvCache {
    /// Room for `branches` sequences of up to `capacity` tokens.
    pub fn new(config: &Config, branches: usize, capacity: usize, dtype: DType, device: &Device) -> Result<Self> {
        let shape = (branches * capacity, config.sizes().kv_width);
        let layer = || -> Result<LayerCache> {
            Ok(LayerCache { k: Tensor::zeros(shape, dtype, device)?, v: Tensor::zeros(shape, dtype, device)? })
        };
        let blocks = (0..config.num_hidden_layers).map(|_| layer()).collect::<Result<_>>()?;
        Ok(Self { blocks, branches, capacity })
    }

    /// First row of a branch.
    pub fn start(&self, branch: usize) -> usize {
        branch * self.capacity
    }

    /// One block's part.
    pub(crate) fn block(&mut self, index: usize) -> &mut LayerCache {
        &mut self.blocks[index]
    }

    /// Copies the first `tokens` rows of branch 0 to every other branch, in some of the blocks.
    pub fn replicate(&mut self, blocks: Range<usize>, tokens: usize) -> Result<()> {
        for block in &mut self.blocks[blocks] {
            // A copy: the source must not be the storage that is written.
            let (k, v) = (block.k.narrow(0, 0, tokens)?.copy()?, block.v.narrow(0, 0, tokens)?.copy()?);
            for branch in 1..self.branches {
                block.k.slice_set(&k, 0, branch * self.capacity)?;
                block.v.slice_set(&v, 0, branch * self.capacity)?;
            }
        }
        Ok(())
    }
}

impl LayerCache {
    /// Writes the rows of a pass, `k` and `v (T, K·D)`, where its segments have their own rows.
    pub(crate) fn write(&mut self, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<()> {
        segments.write([k, v], [&self.k, &self.v])
    }
}
