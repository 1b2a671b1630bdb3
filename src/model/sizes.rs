//! How many numbers the parts of a model hold, derived from its shape here alone. How many bytes those are depends on a dtype,
//! and is the business of who counts memory.

use std::ops::Range;

use super::architecture::QkNorm;
use super::config::Config;

/// Numbers, not bytes, of what is the same in every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Columns of the queries.
    pub q_width: usize,
    /// Columns of the keys, and of the values.
    pub kv_width: usize,
    /// Elements of `k_proj` and `v_proj`.
    pub kv_elements: u64,
    /// Keys and values of one row.
    pub keys_a_row: usize,
}

impl Config {
    /// Sizes of the parts of a block.
    pub(crate) fn sizes(&self) -> Sizes {
        let [q_width, kv_width] = [self.num_attention_heads, self.num_key_value_heads].map(|heads| heads * self.head_dim);
        Sizes { q_width, kv_width, kv_elements: matrix(2 * kv_width, self.hidden_size), keys_a_row: 2 * kv_width }
    }

    /// Elements of all matrices of a block, each expert's among them.
    pub(crate) fn block_elements(&self, block: usize) -> u64 {
        let experts = self.architecture.experts_of(block).map_or(1, |experts| experts.count);
        self.elements_with(block, experts)
    }

    /// Elements of the matrices of a block that one token goes through.
    pub(crate) fn block_elements_of_token(&self, block: usize) -> u64 {
        let experts = self.architecture.experts_of(block).map_or(1, |experts| experts.per_token);
        self.elements_with(block, experts)
    }

    fn elements_with(&self, block: usize, mlps: usize) -> u64 {
        let (h, sizes) = (self.hidden_size, self.sizes());
        let router = self.architecture.experts_of(block).map_or(0, |experts| matrix(experts.count, h));
        let mlp = matrix(3 * self.mlp_width(block), h).saturating_mul(mlps as u64);
        matrix(2 * sizes.q_width, h).saturating_add(sizes.kv_elements).saturating_add(mlp).saturating_add(router)
    }

    /// Width of a block's MLP, or of one of its experts.
    fn mlp_width(&self, block: usize) -> usize {
        self.architecture.experts_of(block).map_or(self.intermediate_size, |experts| experts.intermediate_size)
    }

    /// Elements of all matrices together.
    pub fn matrix_elements(&self) -> u64 {
        self.stage_elements(0..self.num_hidden_layers)
    }

    /// Elements of the matrices of a device that holds some consecutive blocks: of these, with the embeddings if the first block
    /// is among them, and the unembedding if the last is. Tied ones stand twice where these are on two devices.
    pub(crate) fn stage_elements(&self, blocks: Range<usize>) -> u64 {
        let (is_first, is_last) = (blocks.start == 0, blocks.end == self.num_hidden_layers);
        let is_once = is_first && is_last && self.architecture.tie_word_embeddings;
        let embeddings = usize::from(is_first) + usize::from(is_last) - usize::from(is_once);
        let blocks = blocks.map(|block| self.block_elements(block));
        blocks.fold(matrix(embeddings * self.vocab_size, self.hidden_size), u64::saturating_add)
    }

    /// What some blocks save on the device for their gradient of a pass that computes `computed` of the `seen` rows that it
    /// sees; the others are frozen. The last block, which computes some of its queries alone, saves less.
    pub(crate) fn saved(&self, blocks: Range<usize>, computed: usize, seen: usize) -> usize {
        let (architecture, sizes) = (&self.architecture, self.sizes());
        // The block's input, the residual between its sub-layers, and their outputs where norms follow.
        let residuals = if architecture.norms.after { 4 } else { 2 } * self.hidden_size;
        // Queries, and what queries and keys were before their norms.
        let queries = match architecture.qk_norm {
            QkNorm::Absent => sizes.q_width,
            QkNorm::Head | QkNorm::AllHeads => 2 * sizes.q_width + sizes.kv_width,
        };
        let gate_and_up = |block: usize| {
            let mlps = architecture.experts_of(block).map_or(1, |experts| experts.per_token);
            2 * self.mlp_width(block) * mlps
        };
        blocks.map(|block| computed * (residuals + queries + gate_and_up(block)) + seen * sizes.keys_a_row).sum()
    }
}

fn matrix(rows: usize, columns: usize) -> u64 {
    (rows as u64).saturating_mul(columns as u64)
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
