//! What a command takes of memory beside the model's weights, in rows and texts rather than bytes: what a row takes comes from
//! the model, the dtype is a choice. [`Need`] is the same in bytes; whether they fit is `fit`'s question.

use std::fmt;
use std::ops::Range;

use candle_core::DType;

use super::cache_place::CachePlace;
use crate::machine::bytes::Bytes;
use crate::model::config::Config;
use crate::text::tokens::EncodedPair;

/// Handles and work space of the matrix library, compiled kernels, one chunk of logits with its copies, and the temporaries of
/// one block: what no other count holds of a device's memory.
pub(crate) const WORKSPACE: Bytes = Bytes(3 << 29);

/// Rows that a block serves which is read from its file while the activation cache is made: their residuals are held until all
/// have gone through the lower blocks. Of a model with hidden size 8192 they take 0.8 GB in bf16.
pub(crate) const ROWS_A_READING: usize = 64 * 768;

/// What a command takes of memory beside the weights. The default is nothing: short passes whose results are small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// Rows of each pair, its prompt once, in any order.
    pub(super) rows: Vec<u64>,
    /// Number of layers whose residuals are kept for each row.
    pub(super) kept_layers: usize,
    /// The lowest layer whose residuals are kept.
    pub(super) lowest: usize,
    /// The blocks above this layer save what their gradient needs; none do where no gradient is taken.
    pub(super) gradient_above: Option<usize>,
    /// Number of pairs in a step.
    pub(super) batch_size: usize,
    /// Place of the residuals.
    pub(super) cache: CachePlace,
    /// The most that residuals take of main memory before they go to a file.
    pub(super) cache_memory: Option<Bytes>,
    /// Texts that are generated at once.
    pub(super) sweep: SweepSize,
    /// Place of the blocks that no step needs, once the residuals are kept.
    pub(super) lower: LowerBlocks,
    /// Blocks of the device that is asked about, where the model lies on several; all where it is none.
    pub(super) stage: Option<Range<usize>>,
}

/// What becomes of the blocks up to the lowest layer, which no training step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LowerBlocks {
    /// The blocks stay where they are.
    #[default]
    Stay,
    /// The blocks are let go once the residuals are kept.
    Leave,
    /// The blocks are in their files, and one at a time is read while the residuals are made.
    InFile,
}

/// Texts that are generated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SweepSize {
    /// Number of texts that are generated at once.
    pub branches: usize,
    /// Tokens of the longest prompt.
    pub prompt_tokens: usize,
    /// Tokens that are generated at most, of each text.
    pub new_tokens: usize,
}

/// Bytes of memory, by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Matrices that are held in memory; mapped files can be read again and count nothing.
    pub weights: Bytes,
    /// Residuals of the pairs, as far as they are kept in this memory.
    pub cache: Bytes,
    /// What one pass of a step keeps for its gradient.
    pub activations: Bytes,
    /// Keys and values of the texts that are generated.
    pub keys: Bytes,
    /// Logits of the texts that are generated.
    pub logits: Bytes,
    /// Everything that the other fields do not count.
    pub workspace: Bytes,
}

impl Demand {
    /// Caching the activations of sets of pairs at each of `layers`, and scoring them with vectors; no gradient is taken.
    pub fn activations(sets: &[&[EncodedPair]], layers: &[usize]) -> Self {
        // A prompt stands once before both responses.
        let rows = |pair: &EncodedPair| (pair.chosen.ids.len() + pair.rejected.ids.len() - pair.rejected.start) as u64;
        let lowest = layers.iter().copied().min().unwrap_or(0);
        Self { lowest, ..Self::of_rows(sets.iter().copied().flatten().map(rows).collect(), layers.len()) }
    }

    /// Caching the activations of sets of pairs, then steps of `batch_size` pairs that learn vectors at `layers`.
    pub fn training(sets: &[&[EncodedPair]], layers: &[usize], batch_size: usize) -> Self {
        Self::activations(sets, layers).with_gradient(layers.iter().copied().min().unwrap_or(0), batch_size)
    }

    /// Counts the prompt of each of these pairs twice, once before each response: for responses that share no steered row.
    pub fn apart(mut self, sets: &[&[EncodedPair]]) -> Self {
        let rows = |pair: &EncodedPair| (pair.chosen.ids.len() + pair.rejected.ids.len()) as u64;
        self.rows = sets.iter().copied().flatten().map(rows).collect();
        self
    }

    /// Generating `branches` texts at once, of up to `new_tokens` tokens behind prompts of up to `prompt_tokens`.
    pub fn generation(branches: usize, prompt_tokens: usize, new_tokens: usize) -> Self {
        Self::default().and_generation(branches, prompt_tokens, new_tokens)
    }

    /// Adds texts that the same command generates.
    pub fn and_generation(mut self, branches: usize, prompt_tokens: usize, new_tokens: usize) -> Self {
        self.sweep = SweepSize { branches, prompt_tokens, new_tokens };
        self
    }

    /// The residuals lie in this place, of main memory they take at most `memory`.
    pub fn cached(mut self, place: CachePlace, memory: Bytes) -> Self {
        (self.cache, self.cache_memory) = (place, Some(memory));
        self
    }

    /// Pairs of so many rows each, whose residuals are kept at so many layers.
    pub(crate) fn of_rows(rows: Vec<u64>, kept_layers: usize) -> Self {
        Self { rows, kept_layers, ..Self::default() }
    }

    /// Steps of `batch_size` pairs take the gradient down to the output of block `layer`.
    pub(crate) fn with_gradient(mut self, layer: usize, batch_size: usize) -> Self {
        (self.lowest, self.gradient_above, self.batch_size) = (layer, Some(layer), batch_size);
        self
    }

    /// What becomes of the blocks that no step needs.
    pub fn with_lower(mut self, lower: LowerBlocks) -> Self {
        self.lower = lower;
        self
    }

    /// Number of first blocks that stay in their files.
    pub(super) fn in_file(&self) -> usize {
        let first = self.gradient_above.filter(|_| self.lower == LowerBlocks::InFile);
        first.map_or(0, |layer| layer + 1)
    }

    /// What of all converted `weights` is held in main memory.
    pub(super) fn held(&self, config: &Config, weights: Bytes) -> Bytes {
        let sizes = || (0..self.in_file()).map(|block| config.block_elements(block));
        let (gone, all) = (sizes().sum::<u64>() - sizes().max().unwrap_or(0), config.matrix_elements().max(1));
        Bytes((u128::from(weights.0) * u128::from(all - gone) / u128::from(all)) as u64)
    }

    /// Returns the part of this demand that falls on the device which holds these blocks.
    pub(crate) fn on_stage(&self, blocks: Range<usize>) -> Self {
        Self { stage: Some(blocks), ..self.clone() }
    }

    /// Bytes on a device with its own memory, weights included: while the residuals are made or while steps are taken, whichever
    /// is more.
    pub fn on_device(&self, config: &Config, dtype: DType) -> Need {
        let [cache, steps] = self.phases(config, dtype);
        if cache.total() > steps.total() { cache } else { steps }
    }

    /// What the device takes while the residuals are made, and what it takes from then on.
    pub(crate) fn phases(&self, config: &Config, dtype: DType) -> [Need; 2] {
        let (blocks, all) = (self.blocks(config), config.num_hidden_layers);
        let weights = bytes(config.stage_elements(blocks.clone()), dtype);
        let is_here = blocks.contains(&(self.lowest + 1).min(all.saturating_sub(1)));
        // Those of several layers lie each where its next block does.
        let may_be_here = is_here || self.kept_layers > 1 && blocks.start > self.lowest;
        let cache = if may_be_here && self.cache != CachePlace::Host { self.residuals(config) } else { 0 };
        let whole = Need { weights, cache: bytes(cache, dtype), workspace: WORKSPACE, ..self.beside(config, dtype) };
        let lower = blocks.start..blocks.end.min(self.gradient_above.map_or(0, |layer| layer + 1));
        let sizes = || lower.clone().map(|block| config.block_elements(block));
        let passing = if lower.is_empty() && !is_here { 0 } else { self.passing(config) };
        let (gone, at_once, passing) = match self.lower {
            LowerBlocks::Stay => (0, 0, 0),
            LowerBlocks::Leave => (sizes().sum(), sizes().sum(), 0),
            LowerBlocks::InFile => (sizes().sum(), sizes().max().unwrap_or(0), passing),
        };
        let without = weights.0.saturating_sub(bytes(gone, dtype).0);
        let while_made = Bytes(without.saturating_add(bytes(at_once, dtype).0));
        [Need { weights: while_made, activations: bytes(passing, dtype), ..whole }, Need { weights: Bytes(without), ..whole }]
    }

    /// The blocks that are asked about.
    fn blocks(&self, config: &Config) -> Range<usize> {
        self.stage.clone().unwrap_or(0..config.num_hidden_layers)
    }

    /// Bytes in main memory, where weights take `weights` and activations have `dtype`.
    pub(crate) fn on_host(&self, config: &Config, weights: Bytes, dtype: DType) -> Need {
        let residuals = bytes(self.residuals(config), dtype);
        let most = self.cache_memory.filter(|_| self.cache != CachePlace::Device).unwrap_or(residuals);
        let beside = self.beside(config, dtype);
        let passing = if self.in_file() > 0 { bytes(self.passing(config), dtype) } else { Bytes(0) };
        Need { weights, cache: residuals.min(most), activations: beside.activations.max(passing), ..beside }
    }

    /// Numbers of the residuals that are held while blocks are read from their files one at a time.
    fn passing(&self, config: &Config) -> u64 {
        let most = (ROWS_A_READING as u64).max(self.largest(1));
        self.rows.iter().sum::<u64>().min(most).saturating_mul(config.hidden_size as u64)
    }

    /// What is taken beside weights and cache on either.
    fn beside(&self, config: &Config, dtype: DType) -> Need {
        let tokens = (self.sweep.branches as u64).saturating_mul(self.sweep.tokens(config));
        Need {
            activations: bytes(self.saved(config, dtype), dtype),
            keys: bytes(tokens.saturating_mul(self.keys_a_token(config)), dtype),
            logits: Bytes((self.sweep.branches as u64).saturating_mul(self.logits_a_branch(config))),
            ..Need::default()
        }
    }

    /// Numbers of the keys and values of one token in the blocks that are asked about.
    pub(super) fn keys_a_token(&self, config: &Config) -> u64 {
        (self.blocks(config).len() * config.sizes().keys_a_row) as u64
    }

    /// Bytes of one text's logits, f32, where the head is: those of a token, beside those of the token before it.
    pub(super) fn logits_a_branch(&self, config: &Config) -> u64 {
        if self.blocks(config).end == config.num_hidden_layers { 2 * 4 * config.vocab_size as u64 } else { 0 }
    }

    /// Numbers of all residuals.
    fn residuals(&self, config: &Config) -> u64 {
        self.rows.iter().sum::<u64>().saturating_mul(self.kept_layers as u64).saturating_mul(config.hidden_size as u64)
    }

    /// Numbers that one pass of a step saves.
    fn saved(&self, config: &Config, dtype: DType) -> u64 {
        let Some(layer) = self.gradient_above else { return 0 };
        let a_row = config.saved(layer + 1..config.num_hidden_layers, 1, 1) as u64;
        let saved = |pairs: usize| self.largest(pairs).saturating_mul(a_row);
        // A larger batch goes through in several passes, none of which saves more; a pair goes through whole.
        let most = (config.matrix_elements() / 3).max((32 << 20) / dtype.size_in_bytes() as u64).max(saved(1));
        let all = saved(self.batch_size).min(most);
        let blocks = self.blocks(config);
        let here = config.saved(blocks.start.max(layer + 1)..blocks.end, 1, 1) as u64;
        (u128::from(all) * u128::from(here)).checked_div(u128::from(a_row)).map_or(0, |here| here as u64)
    }

    /// Rows of the largest `pairs` pairs.
    fn largest(&self, pairs: usize) -> u64 {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.iter().take(pairs).sum()
    }
}

impl SweepSize {
    /// Tokens that the cache of a text has room for.
    pub fn tokens(&self, config: &Config) -> u64 {
        self.prompt_tokens.saturating_add(self.new_tokens).min(config.max_position_embeddings) as u64
    }
}

impl Need {
    /// Sum of all parts.
    pub fn total(&self) -> Bytes {
        Bytes(self.parts().iter().fold(0, |sum, (_, part)| part.0.saturating_add(sum)))
    }

    /// Bytes beside the weights and the activation cache.
    pub(crate) fn beside(&self) -> Bytes {
        Self { weights: Bytes(0), cache: Bytes(0), ..*self }.total()
    }

    fn parts(&self) -> [(&'static str, Bytes); 6] {
        let Self { weights, cache, activations, keys, logits, workspace } = *self;
        [
            ("weights", weights),
            ("activation cache", cache),
            ("activations of a step", activations),
            ("keys and values", keys),
            ("logits", logits),
            ("work space", workspace),
        ]
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let parts = self.parts();
        let taken = parts.iter().filter(|(_, bytes)| bytes.0 > 0).map(|(name, bytes)| format!("{name} {bytes}"));
        f.write_str(&taken.collect::<Vec<_>>().join(", "))
    }
}

fn bytes(numbers: u64, dtype: DType) -> Bytes {
    Bytes(numbers.saturating_mul(dtype.size_in_bytes() as u64))
}
