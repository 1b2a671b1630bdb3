//! What a model that is divided between devices would take of each, counted from its shape: memory while the activation cache is
//! made, while steps are taken and while texts are generated, and the operations of a step. Nothing is computed, and no device
//! is needed.

use std::ops::Range;

use candle_core::DType;
use serde::Serialize;

use super::BenchOptions;
use crate::hub::presets;
use crate::model::config::Config;
use crate::model::flops::PassShape;
use crate::model::layout::{Branches, Layout};
use crate::ops::attention::Segment;
use crate::session::{Demand, LowerBlocks};

/// What is counted of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageCount {
    /// First of its blocks.
    pub first_block: usize,
    /// Last of its blocks.
    pub last_block: usize,
    /// Bytes of its weights: those of its blocks, embeddings on the first device and the head on the last.
    pub weights_bytes: u64,
    /// Bytes while the activation cache is made, weights included.
    pub cache_bytes: u64,
    /// Bytes while steps are taken, when the blocks up to the steered layer have left.
    pub step_bytes: u64,
    /// The most of both where these blocks stay in their files.
    pub offload_bytes: u64,
    /// Bytes of generating the largest sweep.
    pub sweep_bytes: u64,
    /// Floating-point operations of making the cache of one pair.
    pub cached_pair_flops: u64,
    /// Floating-point operations of one step.
    pub step_flops: u64,
}

/// Counts each device, where so many blocks lie on it. All numbers together are the model's number of blocks.
pub fn count(config: &Config, dtype: DType, split: &[usize], options: &BenchOptions) -> Vec<StageCount> {
    let all = config.num_hidden_layers;
    let training = options.training(all);
    let generation = Demand::generation(options.most_texts(), options.prompt_tokens, options.new_tokens);
    let (pair, batch) = (PairLayout::of(1, options), PairLayout::of(options.batch_size, options));
    let first = presets::default_layer(all) + 1;
    let mut end = 0;
    let stage = |blocks: &usize| {
        end += blocks;
        let range = end - blocks..end;
        let demand = training.on_stage(range.clone());
        let [cache, step] = demand.clone().with_lower(LowerBlocks::Leave).phases(config, dtype);
        let upper = range.start.max(first)..range.end;
        StageCount {
            first_block: range.start,
            last_block: range.end - 1,
            weights_bytes: config.stage_elements(range.clone()) * dtype.size_in_bytes() as u64,
            cache_bytes: cache.total().0,
            step_bytes: step.total().0,
            offload_bytes: demand.with_lower(LowerBlocks::InFile).on_device(config, dtype).total().0,
            sweep_bytes: generation.on_stage(range.clone()).on_device(config, dtype).total().0,
            cached_pair_flops: of_blocks(config, range, |first| pair.shape(config, first).forward(config)),
            step_flops: of_blocks(config, upper, |first| {
                let shape = batch.shape(config, first);
                shape.forward(config) + shape.backward(config)
            }),
        }
    };
    split.iter().map(stage).collect()
}

/// The share of some blocks in what all blocks from one on and the head take. The head is with the last block.
fn of_blocks(config: &Config, blocks: Range<usize>, from: impl Fn(usize) -> u64) -> u64 {
    match blocks.end == config.num_hidden_layers {
        true => from(blocks.start),
        false if blocks.is_empty() => 0,
        false => from(blocks.start) - from(blocks.end),
    }
}

/// The rows of some pairs in one pass.
struct PairLayout {
    layout: Layout,
    selected: Vec<Segment>,
}

impl PairLayout {
    fn of(pairs: usize, options: &BenchOptions) -> Self {
        let own = options.response_tokens - 1;
        let branches = Branches { shared: options.prompt_tokens, first: own, second: own };
        let mut layout = Layout::default();
        let starts = layout.push_all_branches(0, &vec![branches; pairs]);
        // The prompt's last token predicts the first of both responses.
        let predicting = |start: usize| start + branches.shared - 1..start + branches.rows();
        let rows: Vec<usize> = starts.into_iter().flat_map(predicting).collect();
        let (selected, _) = layout.select(&rows);
        Self { layout, selected }
    }

    fn shape(&self, config: &Config, first: usize) -> PassShape<'_> {
        let blocks = config.num_hidden_layers - first;
        PassShape { blocks, rows: self.layout.rows(), segments: &self.layout.segments, selected: &self.selected }
    }
}

#[cfg(test)]
#[path = "counted_tests.rs"]
mod tests;
