//! How many floating-point operations a pass needs, counted from its shapes: two a multiplication and addition, matrix
//! products and attention alone, of a mixture of experts those that a token goes through. What is shared counts once, padding does not exist. Nothing here is measured.

use crate::model::config::Config;
use crate::ops::attention::Segment;

/// Rows of one pass through some blocks and the head.
#[derive(Debug, Clone, Copy)]
pub struct PassShape<'a> {
    /// Blocks that run, the last ones of the model.
    pub blocks: usize,
    /// Number of rows that go through these blocks.
    pub rows: usize,
    /// Runs of rows in all blocks but the last.
    pub segments: &'a [Segment],
    /// Runs of rows in the last block, whose queries are the rows that the head reads.
    pub selected: &'a [Segment],
}

impl PassShape<'_> {
    /// Blocks and head, forward.
    pub fn forward(&self, config: &Config) -> u64 {
        self.products(config) + self.attention(config) + self.head(config)
    }

    /// The gradient of what went into the blocks: as many products again, twice the attention's (for the scores and for the
    /// values), and the expected unembedding.
    pub fn backward(&self, config: &Config) -> u64 {
        self.products(config) + 2 * self.attention(config) + self.head(config)
    }

    fn products(&self, config: &Config) -> u64 {
        let all = config.num_hidden_layers;
        let (keys_and_values, rows, queries) = (2 * config.sizes().kv_elements, self.rows as u64, self.queries());
        let of_block = |block: usize| {
            let at_queries = 2 * config.block_elements_of_token(block) - keys_and_values;
            let queries = if block + 1 == all { queries } else { rows };
            rows * keys_and_values + queries * at_queries
        };
        (all.saturating_sub(self.blocks)..all).map(of_block).sum()
    }

    /// Scores and weighted values, of the keys within each block's window.
    fn attention(&self, config: &Config) -> u64 {
        let windows = &config.architecture.windows;
        let of_blocks = &windows[windows.len().saturating_sub(self.blocks)..];
        let Some((last, full)) = of_blocks.split_last() else { return 0 };
        let seen = |segments: &[Segment], window: &Option<usize>| -> u64 {
            let queries = segments.iter().flat_map(|segment| (0..segment.queries.len()).map(move |i| (segment, i)));
            queries.map(|(segment, i)| segment.visible(i, *window).len() as u64).sum()
        };
        let in_full: u64 = full.iter().map(|window| seen(self.segments, window)).sum();
        4 * config.sizes().q_width as u64 * (in_full + seen(self.selected, last))
    }

    fn head(&self, config: &Config) -> u64 {
        2 * self.queries() * (config.hidden_size * config.vocab_size) as u64
    }

    fn queries(&self) -> u64 {
        self.selected.iter().map(|segment| segment.queries.len() as u64).sum()
    }
}

#[cfg(test)]
#[path = "flops_tests.rs"]
mod tests;
