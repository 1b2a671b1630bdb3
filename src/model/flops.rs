//! How many floating-point operations a pass needs, counted from its shapes: two a multiplication and addition, matrix
//! products and attention alone. What is shared counts once, padding does not exist. Nothing here is measured.

use crate::model::config::Config;
use crate::ops::attention::Segment;

/// Rows of one pass through some blocks and the head.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Blocks that run.
    pub blocks: usize,
    /// Rows of them.
    pub rows: usize,
    /// Runs of rows in all blocks but the last.
    pub segments: &'a [Segment],
    /// Those of the last block, whose queries are the rows that the head reads.
    pub selected: &'a [Segment],
}

impl Pass<'_> {
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
        let Some(full_blocks) = self.blocks.checked_sub(1) else { return 0 };
        let q_width = config.num_attention_heads * config.head_dim;
        let kv_width = config.num_key_value_heads * config.head_dim;
        let h = config.hidden_size as u64;
        let keys_and_values = 2 * h * 2 * kv_width as u64;
        let at_queries = 2 * h * (2 * q_width + 3 * config.intermediate_size) as u64;
        let (rows, queries) = (self.rows as u64, self.queries());
        full_blocks as u64 * rows * (keys_and_values + at_queries) + rows * keys_and_values + queries * at_queries
    }

    /// Scores and weighted values.
    fn attention(&self, config: &Config) -> u64 {
        let Some(full_blocks) = self.blocks.checked_sub(1) else { return 0 };
        let seen = |segments: &[Segment]| -> u64 {
            let queries = segments.iter().flat_map(|segment| (0..segment.queries.len()).map(move |i| (segment, i)));
            queries.map(|(segment, i)| segment.visible(i, None).len() as u64).sum()
        };
        let a_key = 4 * (config.num_attention_heads * config.head_dim) as u64;
        a_key * (full_blocks as u64 * seen(self.segments) + seen(self.selected))
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
