//! How many numbers the parts of a model hold, derived from its shape here alone. How many bytes those are depends on a dtype,
//! and is the business of who counts memory.

use super::config::Config;

/// Numbers, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Columns of the queries.
    pub q_width: usize,
    /// Columns of the keys, and of the values.
    pub kv_width: usize,
    /// Elements of `k_proj` and `v_proj` of one block.
    pub kv_elements: u64,
    /// Elements of all matrices of one block.
    pub block_elements: u64,
    /// Elements of all matrices of the model.
    pub matrix_elements: u64,
    /// Keys and values of one row in one block.
    pub keys_a_row: usize,
    /// What one block saves for its gradient of each row that it computes, beside keys and values.
    pub saved_a_computed_row: usize,
}

impl Sizes {
    /// What one block saves for its gradient of a pass that computes `computed` of the `seen` rows that it sees; the others
    /// are frozen. The last block, which computes some of its queries alone, saves less.
    pub fn saved(&self, computed: usize, seen: usize) -> usize {
        computed * self.saved_a_computed_row + seen * self.keys_a_row
    }
}

impl Config {
    /// Sizes of the parts of the model.
    pub fn sizes(&self) -> Sizes {
        let (h, inner) = (self.hidden_size, self.intermediate_size);
        let [q_width, kv_width] = [self.num_attention_heads, self.num_key_value_heads].map(|heads| heads * self.head_dim);
        let matrix = |rows: usize, columns: usize| (rows as u64).saturating_mul(columns as u64);
        let kv_elements = matrix(2 * kv_width, h);
        let block_elements = matrix(2 * q_width, h).saturating_add(kv_elements).saturating_add(matrix(3 * inner, h));
        let embeddings = if self.architecture.tie_word_embeddings { 1 } else { 2 };
        let blocks = block_elements.saturating_mul(self.num_hidden_layers as u64);
        // The block's input, the residual between its sub-layers, queries, gate and up.
        let saved = 2 * h + q_width + 2 * inner;
        // Queries and keys before their norms.
        let saved_for_norms = if self.architecture.qk_norm { q_width + kv_width } else { 0 };
        Sizes {
            q_width,
            kv_width,
            kv_elements,
            block_elements,
            matrix_elements: blocks.saturating_add(matrix(embeddings * self.vocab_size, h)),
            keys_a_row: 2 * kv_width,
            saved_a_computed_row: saved + saved_for_norms,
        }
    }

    /// Elements of all matrices together.
    pub fn matrix_elements(&self) -> u64 {
        self.sizes().matrix_elements
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
