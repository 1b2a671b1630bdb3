//! Keys and values of what was decoded so far, owned by the caller: for each block one matrix of rows. Which rows are whose
//! is the caller's business.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::config::Config;
use crate::Result;
use crate::ops::attention::{Segments, copy_rows};

/// Keys and values of every block.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<LayerCache>,
}

/// Keys and values of one block. `(rows, K·D)` each.
#[derive(Debug)]
pub struct LayerCache {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl KvCache {
    /// Room for `rows` tokens of any sequences, each block's on the device of that block.
    ///
    /// # Errors
    /// A device has no memory for them.
    pub(super) fn new<'d>(
        config: &Config,
        rows: usize,
        dtype: DType,
        devices: impl Iterator<Item = &'d Device>,
    ) -> Result<Self> {
        let shape = (rows, config.sizes().kv_width);
        let layer = |device: &Device| -> Result<LayerCache> {
            Ok(LayerCache { k: Tensor::zeros(shape, dtype, device)?, v: Tensor::zeros(shape, dtype, device)? })
        };
        Ok(Self { blocks: devices.map(layer).collect::<Result<_>>()? })
    }

    /// Returns the part of the cache that belongs to one block.
    pub(crate) fn block(&mut self, index: usize) -> &mut LayerCache {
        &mut self.blocks[index]
    }

    /// Copies some rows to those from `to` on, in some of the blocks.
    pub(crate) fn copy_rows(&mut self, blocks: Range<usize>, from: Range<usize>, to: usize) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let (blocks, copy) = (&self.blocks[blocks], |block: &LayerCache| copy_rows([&block.k, &block.v], from.clone(), to));
        match blocks.iter().all(|block| block.k.device().is_cpu()) {
            true => blocks.par_iter().try_for_each(copy),
            false => blocks.iter().try_for_each(copy),
        }
    }
}

impl LayerCache {
    /// Writes the rows of a pass, `k` and `v (T, K·D)`, where its segments have their own rows.
    pub(crate) fn write(&mut self, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<()> {
        segments.write([k, v], [&self.k, &self.v])
    }
}
