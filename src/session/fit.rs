//! What a run takes of a device's memory, counted from shapes before anything is loaded, and which choices fit. Pure
//! arithmetic: what is free comes from `device`, the main memory of a machine is `bytes`'s.

use std::fmt;

use candle_core::DType;

use crate::machine::bytes::Bytes;
use crate::model::config::Config;
use crate::session::cache_place::CachePlace;

/// Handles and work space of the matrix library, compiled kernels, one chunk of logits with its copies, and the temporaries of
/// one block: what no count below holds.
pub const WORKSPACE: Bytes = Bytes(3 << 29);

/// The sizes of a run, in numbers rather than bytes: the dtype is a choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Of all matrices.
    pub weights: u64,
    /// Of the residuals of all pairs, at each layer that is kept.
    pub residuals: u64,
    /// Rows of each pair, in any order.
    pub rows: Vec<u64>,
    /// Saved of a row for its gradient, by all blocks that can be above the steered layer.
    pub saved_a_row: u64,
    /// Of the keys and values of texts that are generated.
    pub keys: u64,
}

/// What a user can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Of weights and activations.
    pub dtype: DType,
    /// Pairs a step.
    pub batch_size: usize,
    /// Where the activation cache lies.
    pub cache: CachePlace,
}

/// Bytes on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Matrices.
    pub weights: Bytes,
    /// Residuals of the pairs; none where they lie in main memory.
    pub cache: Bytes,
    /// What one pass of a step keeps for its gradient, and keys and values of texts.
    pub activations: Bytes,
    /// Everything else.
    pub workspace: Bytes,
}

/// Whether a run fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// With the cache there.
    Fits(CachePlace, Need),
    /// Not as wanted; these would, the nearest first.
    TooMuch(Need, Vec<(Choice, Need)>),
}

impl Run {
    /// Training on pairs of so many rows each; residuals are kept at `layers` layers, and `blocks` blocks can be above the
    /// lowest of them.
    pub fn training(config: &Config, rows: Vec<u64>, layers: usize, blocks: usize) -> Self {
        let residual = (layers * config.hidden_size) as u64;
        Self {
            weights: config.matrix_elements(),
            residuals: rows.iter().sum::<u64>().saturating_mul(residual),
            rows,
            saved_a_row: (blocks * config.saved_numbers_a_row()) as u64,
            keys: 0,
        }
    }

    /// Generating `branches` texts at once, prompts included, of up to `tokens` tokens.
    pub fn generation(config: &Config, branches: usize, tokens: usize) -> Self {
        let row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
        let keys = (row as u64).saturating_mul((branches * tokens) as u64);
        Self { weights: config.matrix_elements(), keys, ..Self::default() }
    }

    /// What it takes with a choice.
    pub fn need(&self, choice: &Choice) -> Need {
        let bytes = |numbers: u64| Bytes(numbers.saturating_mul(choice.dtype.size_in_bytes() as u64));
        let cache = if choice.cache == CachePlace::Host { 0 } else { self.residuals };
        let saved = self.batch_rows(choice.batch_size).saturating_mul(self.saved_a_row);
        // A larger batch goes through in several passes, none of which saves more; a pair goes through whole.
        let longest = self.batch_rows(1).saturating_mul(self.saved_a_row);
        let most = (self.weights / 3).max((32 << 20) / choice.dtype.size_in_bytes() as u64).max(longest);
        let activations = bytes(saved.min(most).saturating_add(self.keys));
        Need { weights: bytes(self.weights), cache: bytes(cache), activations, workspace: WORKSPACE }
    }

    /// Rows of the largest batch.
    fn batch_rows(&self, batch_size: usize) -> u64 {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.iter().take(batch_size).sum()
    }

    /// What of `free` bytes there is room for. The cache goes where it was wanted, or with [`CachePlace::Auto`] to main memory
    /// where the device has no room.
    pub fn fit(&self, wanted: &Choice, free: Bytes) -> Fit {
        let places = match wanted.cache {
            CachePlace::Auto if self.residuals > 0 => [CachePlace::Device, CachePlace::Host],
            CachePlace::Auto => [CachePlace::Device; 2],
            place => [place; 2],
        };
        let fitting = |choice: Choice| Some((choice, self.need(&choice))).filter(|(_, need)| need.total() <= free);
        if let Some((choice, need)) = places.into_iter().find_map(|cache| fitting(Choice { cache, ..*wanted })) {
            return Fit::Fits(choice.cache, need);
        }
        let Choice { dtype, batch_size, .. } = *wanted;
        let cache = if self.residuals > 0 { CachePlace::Host } else { wanted.cache };
        let smaller = || (1..batch_size.min(self.rows.len().max(1))).rev();
        let half = || Some(DType::BF16).filter(|bf16| bf16.size_in_bytes() < dtype.size_in_bytes());
        let choices = [
            fitting(Choice { cache, ..*wanted }),
            smaller().find_map(|batch_size| fitting(Choice { dtype, batch_size, cache })),
            half().and_then(|dtype| fitting(Choice { dtype, ..*wanted })),
            half().and_then(|dtype| fitting(Choice { dtype, batch_size, cache })),
            half().and_then(|dtype| smaller().find_map(|batch_size| fitting(Choice { dtype, batch_size, cache }))),
        ];
        let mut fits: Vec<(Choice, Need)> = Vec::new();
        for choice in choices.into_iter().flatten() {
            // What needs a smaller batch beside another dtype says nothing new where the dtype alone does.
            let covered = fits.iter().any(|(other, _)| other.dtype == choice.0.dtype);
            if !covered && choice.0 != *wanted {
                fits.push(choice);
            }
        }
        Fit::TooMuch(self.need(&Choice { cache: places[1], ..*wanted }), fits)
    }
}

impl Need {
    /// All bytes.
    pub fn total(&self) -> Bytes {
        let parts = [self.weights, self.cache, self.activations, self.workspace];
        Bytes(parts.iter().fold(0, |sum, part| part.0.saturating_add(sum)))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { weights, cache, activations, workspace } = self;
        write!(f, "weights {weights}, ")?;
        if cache.0 > 0 {
            write!(f, "activation cache {cache}, ")?;
        }
        write!(f, "activations {activations}, work space {workspace}")
    }
}

impl Choice {
    /// The flags that lead from `wanted` to this.
    pub fn flags(&self, wanted: &Self) -> String {
        let flags = [
            (self.dtype != wanted.dtype).then(|| format!("--dtype {}", format!("{:?}", self.dtype).to_lowercase())),
            (self.batch_size != wanted.batch_size).then(|| format!("--batch-size {}", self.batch_size)),
            (self.cache == CachePlace::Host && wanted.cache == CachePlace::Device).then(|| "--cache host".to_owned()),
        ];
        flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
