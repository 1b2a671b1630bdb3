//! The decoder: a frozen model as numbers on devices. Token ids go in, log-probabilities or logits come out, and gradients
//! of the residual go back. Knows nothing of text, and nothing of steering: that happens between two runs, `run(0..L + 1)`,
//! add, `run(L + 1..)`. The same forward pass serves training, scoring and decoding.
//!
//! Begin with [`Model`] here, then `block`, which reads as its formula, and its sub-layers `attention`, `mlp` and `norm`,
//! each with a forward pass and a vjp. `stages` has the loops over blocks, [`plan`] what they are told of a pass's rows,
//! [`layout`] how sequences lie in rows. [`config`] and [`architecture`] say what a model is built like, [`weights`] reads it.

pub mod architecture;
mod attention;
pub mod block;
pub(crate) mod cache;
pub mod checkpoint;
pub mod config;
mod experts;
pub(crate) mod family;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod flops;
pub(crate) mod gguf;
pub(crate) mod gguf_parts;
pub mod layout;
mod loader;
mod mapped;
mod mlp;
mod names;
mod norm;
pub mod plan;
pub mod random;
pub(crate) mod refused;
pub mod shapes;
mod sizes;
pub mod split;
mod stages;
mod stored_config;
pub mod weights;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::ops::cuda;
use crate::ops::head::{Gradient, Head, LogProbs, Predictions};
use crate::ops::integer_kernel;
use crate::ops::linear::{FEWEST_ROWS_TOGETHER, Products};
use crate::ops::rope::{Rope, RopeScaling};
use crate::ops::weight::Weight;
use block::{Block, Saved};
use cache::KvCache;
use config::Config;
use layout::Layout;
use loader::Loader;
use norm::Norm;
use plan::{FrozenKeys, PassPlan, PassRows, Selection};
use split::{Split, StageBlocks};
use stages::{BlockFile, Stage, Stages};
use weights::{WeightStorage, Weights};

/// A frozen decoder on one device, or with its blocks divided between several.
#[derive(Debug)]
pub struct Model {
    /// Sizes and architecture of the model.
    pub config: Config,
    embed_tokens: Weight, // (V, H)
    stages: Stages,
    norm: Norm, // (H)
    head: Head,
    ropes: Vec<Rope>,
    embedding_multiplier: f64,
    dtype: DType,
    /// Devices of the embeddings and of the head.
    ends: [Device; 2],
    /// Bytes of its matrices in memory, and in mapped files, when it was loaded.
    weight_bytes: (usize, usize),
    /// Whether it is a mixture of experts whose weights are decoded on the CPU whenever they are used.
    is_encoded_mixture: bool,
    /// How exactly generated tokens are computed: exactly, unless this is set.
    pub decoding: Decoding,
}

/// How exactly the products of generated tokens are computed. Prompts, scores and training are not touched by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Decoding {
    /// Activations in f32, whatever the weights are stored as.
    #[default]
    Exact,
    /// Activations rounded to whole numbers of 8 bits, with a factor for each 32 of them, as llama.cpp does, where weights on
    /// the CPU are stored as whole numbers.
    Integer,
}

impl Decoding {
    /// The products of a step that gives each text its next token.
    pub(crate) fn products(self) -> Products {
        match self {
            Self::Exact => Products::BatchInvariant,
            Self::Integer => Products::Integer,
        }
    }
}

impl Model {
    /// Loads every weight in `dtype`: on the CPU dense, elsewhere as tensors of `device`.
    ///
    /// # Errors
    /// As [`Model::load_as`].
    pub fn load(weights: &Weights, config: Config, dtype: DType, device: &Device) -> Result<Self> {
        let storage = if device.is_cpu() { WeightStorage::Dense } else { WeightStorage::Tensors };
        Self::load_as(weights, config, dtype, device, storage)
    }

    /// Loads a model whose matrices are stored as `storage` says. On the CPU activations are f32 but with [`WeightStorage::Tensors`], where
    /// they have `dtype` as everywhere else.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` says.
    pub fn load_as(weights: &Weights, config: Config, dtype: DType, device: &Device, storage: WeightStorage) -> Result<Self> {
        let split = Split::one(device.clone(), &config);
        Self::load_divided(weights, config, dtype, &split, storage)
    }

    /// Loads a model like [`Model::load_as`], with the blocks divided between devices.
    ///
    /// # Errors
    /// As [`Model::load_as`].
    pub fn load_divided(
        weights: &Weights,
        config: Config,
        dtype: DType,
        split: &Split,
        storage: WeightStorage,
    ) -> Result<Self> {
        Self::load_from(weights, config, dtype, split, storage, 0)
    }

    /// Loads a model like [`Model::load_divided`], with the blocks before `first` left in their files: each is read whenever it
    /// is run, and let go at once.
    ///
    /// # Errors
    /// As [`Model::load_as`].
    pub(crate) fn load_offloaded(
        weights: &Arc<Weights>,
        config: Config,
        dtype: DType,
        split: &Split,
        storage: WeightStorage,
        first: usize,
    ) -> Result<Self> {
        // Matrices as their file has them are in no other place.
        let first = if storage == WeightStorage::Stored { 0 } else { first };
        let mut model = Self::load_from(weights, config, dtype, split, storage, first)?;
        let (config, activations) = (model.config.clone(), model.dtype);
        model.stages.file = Some(BlockFile { weights: weights.clone(), config, matrices: dtype, activations, storage });
        Ok(model)
    }

    /// Loads a model without the blocks before `first`.
    fn load_from(
        weights: &Weights,
        config: Config,
        dtype: DType,
        split: &Split,
        storage: WeightStorage,
        first_block: usize,
    ) -> Result<Self> {
        split.stages().iter().try_for_each(|stage| cuda::prepare(&stage.device))?;
        let activations = if storage == WeightStorage::Tensors { dtype } else { DType::F32 };
        let (first, last) = (split.first(), split.last());
        let prefix = String::new();
        let loader = Loader { weights, config: &config, matrices: dtype, activations, storage, device: first, prefix };
        let (h, vocab) = (config.hidden_size, config.vocab_size);
        let embed_tokens = loader.matrix("model.embed_tokens.weight", [vocab, h])?;
        let unembedding = match config.architecture.tie_word_embeddings {
            true if first.same_device(last) => embed_tokens.clone(),
            true => loader.onto(last).matrix("model.embed_tokens.weight", [vocab, h])?,
            false => loader.onto(last).matrix("lm_head.weight", [vocab, h])?,
        };
        let stage = |StageBlocks { device, blocks }: &StageBlocks| -> Result<Stage> {
            let loader = loader.onto(device);
            let held = blocks.clone().filter(|block| *block >= first_block);
            let held = held.map(|block| Block::load(&loader, &config, block)).collect::<Result<_>>()?;
            Ok(Stage { device: device.clone(), range: blocks.clone(), blocks: held })
        };
        let stages = Stages { all: split.stages().iter().map(stage).collect::<Result<_>>()?, file: None };
        let norm = Norm::load(&loader.onto(last), "model.norm", h)?;
        let ropes = config.ropes.iter().map(|rope| Rope::new(config.head_dim, rope)).collect();
        // transformers rounds Gemma's factor to the dtype of the embeddings. Granite's, which it does not round, are whole numbers.
        let of_embeddings = config.architecture.embedding_multiplier;
        let embedding_multiplier = match dtype {
            DType::BF16 if storage != WeightStorage::Stored => half::bf16::from_f64(of_embeddings).to_f64(),
            DType::F16 if storage != WeightStorage::Stored => half::f16::from_f64(of_embeddings).to_f64(),
            _ => of_embeddings,
        };
        let head = Head { weight: unembedding, softcap: config.architecture.logit_softcap };
        let untied = (!config.architecture.tie_word_embeddings).then_some(&head.weight);
        let held = stages.weights().chain(untied).chain([&embed_tokens]).map(Weight::memory);
        let in_files = (0..first_block).map(|block| config.block_elements(block) as usize * dtype.size_in_bytes()).sum();
        let is_encoded = match storage {
            WeightStorage::Stored => true,
            WeightStorage::Dense => dtype == DType::F16,
            WeightStorage::Tensors => false,
        };
        let is_encoded_mixture = is_encoded && config.architecture.experts.is_some();
        let weight_bytes = held.fold((0, in_files), |sum, weight| (sum.0 + weight.0, sum.1 + weight.1));
        Ok(Self {
            config,
            embed_tokens,
            stages,
            norm,
            head,
            ropes,
            embedding_multiplier,
            dtype: activations,
            ends: [first.clone(), last.clone()],
            weight_bytes,
            is_encoded_mixture,
            decoding: Decoding::default(),
        })
    }

    /// Bytes of its matrices in memory, and in files, as it was loaded: what was let go counts too. Tied embeddings count once.
    pub fn weight_bytes(&self) -> (usize, usize) {
        self.weight_bytes
    }

    /// Lets go of the blocks before `end` and frees their memory: for what runs the others alone from now on.
    pub fn release(&mut self, end: usize) {
        self.stages.release(end);
    }

    /// Whether generated tokens are computed with activations in f32 throughout.
    pub fn decodes_exactly(&self) -> bool {
        let mut matrices = self.stages.weights().chain([&self.head.weight]);
        self.decoding == Decoding::Exact || integer_kernel().is_none() || !matrices.any(Weight::has_codes)
    }

    /// The products of a prompt of so many tokens whose rows must have the same bits beside those of other prompts. Long ones add as
    /// is fastest for many rows, but not in a mixture of experts with encoded weights: an expert meets few rows of one prompt and
    /// more of several, which add in another order.
    pub(crate) fn products_of_prompt(&self, tokens: usize) -> Products {
        match tokens < FEWEST_ROWS_TOGETHER || self.is_encoded_mixture {
            true => Products::BatchInvariant,
            false => Products::Fastest,
        }
    }

    /// Bytes that the blocks from `first` on save for the gradient of a pass that computes `computed` of the `seen` rows that it
    /// sees.
    pub(crate) fn saved_bytes(&self, first: usize, computed: usize, seen: usize) -> usize {
        self.config.saved(first..self.num_blocks(), computed, seen) * self.dtype.size_in_bytes()
    }

    /// Device of the head; of most models the only one.
    pub fn device(&self) -> &Device {
        &self.ends[1]
    }

    /// Device of the residual that enters a block: that of the block, or of the head behind the last one. Whatever a run of
    /// blocks returns lies where the block behind it reads it, and a gradient where its residual does.
    pub(crate) fn device_at(&self, block: usize) -> &Device {
        self.stages.device_at(block)
    }

    /// Devices of the model, in the order of their blocks.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.stages.devices()
    }

    /// The blocks from `first` on, in runs that lie on one device each.
    pub(crate) fn runs_from(&self, first: usize) -> impl Iterator<Item = Range<usize>> {
        self.stages.all.iter().map(move |stage| stage.range.start.max(first)..stage.range.end.max(first))
    }

    /// Waits until its devices have done what they were told.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.devices().try_for_each(Device::synchronize)?)
    }

    /// Room for the keys and values of `tokens` tokens.
    ///
    /// # Errors
    /// A device has no memory for them, or blocks were let go.
    pub(crate) fn cache(&self, tokens: usize) -> Result<KvCache> {
        if self.stages.all.first().is_some_and(|stage| stage.range.start > 0) {
            return Err(candle_core::Error::msg("no keys can be kept: the first blocks were let go").into());
        }
        let blocks = self.stages.all.iter().flat_map(|stage| stage.range.clone().map(|_| &stage.device));
        KvCache::new(&self.config, tokens, self.dtype, blocks)
    }

    /// Dtype of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.config.num_hidden_layers
    }

    /// Whether a sequence of `length` tokens can share its beginning's rows with a sequence of another length.
    pub(crate) fn can_share_prefix(&self, length: usize) -> bool {
        !self.ropes.iter().any(|rope| rope.depends_on_length(length))
    }

    /// The length from which on all keys of a sequence are rotated otherwise, those of its first tokens too, where the model has
    /// LongRoPE: cached keys do not serve a sequence that grows past it.
    pub fn keys_change_past(&self) -> Option<usize> {
        self.config.ropes.iter().find_map(|rope| match rope.scaling {
            RopeScaling::LongRope { original_max_position_embeddings: trained, .. } => Some(trained),
            _ => None,
        })
    }

    /// Embeddings of tokens. `(T,)` → `(T, H)`.
    ///
    /// # Errors
    /// The model does not have one of the ids.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let x = self.embed_tokens.rows(ids, self.dtype, &self.ends[0])?;
        scaled(x, self.embedding_multiplier)
    }

    /// A layout's plan on this model's devices.
    pub fn plan(&self, layout: &Layout) -> Result<PassPlan> {
        PassPlan::new(layout, &self.ropes, self.devices())
    }

    /// The plan of some rows of a layout (ascending; of each run those at its end), given the others' keys and values.
    pub(crate) fn plan_rows(&self, layout: &Layout, rows: &[usize], frozen: &FrozenKeys) -> Result<PassPlan> {
        PassPlan::of_rows(layout, rows, frozen, &self.ropes, self.devices())
    }

    /// Runs some blocks. `x (T, H)` → `(T, H)`.
    ///
    /// # Errors
    /// A device fails, or blocks were let go.
    pub fn run(&self, blocks: Range<usize>, x: &Tensor, plan: &PassPlan) -> Result<Tensor> {
        Ok(self.stages.forward(blocks, x, PassRows::all(plan), None, Gradient::NotWanted)?.0)
    }

    /// How many blocks at a time are, on `tokens` tokens, about as much work as all blocks on `rows`; at least one.
    pub(crate) fn blocks_of_rows(&self, rows: usize, tokens: usize) -> usize {
        (rows * self.num_blocks() / tokens.max(1)).max(1)
    }

    /// Whether some of these blocks are read from their file whenever they are run.
    pub(crate) fn reads_any(&self, blocks: Range<usize>) -> bool {
        self.stages.reads_any(blocks)
    }

    /// Runs a block on several passes, each `x (T, H)` by its own plan; if it is in its file, it is read once for all of them.
    /// → `(T, H)` each
    pub(crate) fn run_each(&self, block: usize, mut passes: Vec<Tensor>, plans: &[&PassPlan]) -> Result<Vec<Tensor>> {
        self.stages.forward_each(block, &mut passes, plans)?;
        Ok(passes)
    }

    /// Runs some blocks on new rows of cached sequences. `x (T, H)` → `(T, H)`.
    pub(crate) fn run_cached(&self, blocks: Range<usize>, x: &Tensor, plan: &PassPlan, cache: &mut KvCache) -> Result<Tensor> {
        Ok(self.stages.forward(blocks, x, PassRows::all(plan), Some(cache), Gradient::NotWanted)?.0)
    }

    /// Runs some blocks. `x (T, H)` → `(T, H)` and, per block, what [`Model::vjp`] needs, kept only if asked for.
    pub fn run_saving(
        &self,
        blocks: Range<usize>,
        x: &Tensor,
        plan: &PassPlan,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        self.stages.forward(blocks, x, PassRows::all(plan), None, gradient)
    }

    /// Gradient of the input of [`Model::run_saving`], given that of its output; `end` is the end of its blocks.
    /// `dy (T, H)` → `(T, H)`. Takes what was saved, to free it on the way.
    pub fn vjp(&self, end: usize, saved: Vec<Saved>, plan: &PassPlan, dy: &Tensor) -> Result<Tensor> {
        self.stages.vjp(end, saved, PassRows::all(plan), dy)
    }

    /// Runs the blocks from `first` to the end; the last yields the selected rows alone. `x (T, H)` → `(Q, H)` and, per
    /// block, what [`Model::vjp_to_end`] needs, kept only if asked for.
    pub(crate) fn run_to_end(
        &self,
        first: usize,
        x: &Tensor,
        plan: &PassPlan,
        selection: &Selection,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        self.stages.forward(first..self.num_blocks(), x, PassRows::of(plan, selection), None, gradient)
    }

    /// Gradient of the input of [`Model::run_to_end`]. `dy (Q, H)` → `(T, H)`. Takes what was saved, to free it on the way.
    pub(crate) fn vjp_to_end(&self, saved: Vec<Saved>, plan: &PassPlan, selection: &Selection, dy: &Tensor) -> Result<Tensor> {
        self.stages.vjp(self.num_blocks(), saved, PassRows::of(plan, selection), dy)
    }

    /// Log-probabilities of tokens, from the residual after the last block. `x (Q, H)`.
    ///
    /// # Errors
    /// A device fails.
    pub fn log_probs(&self, x: &Tensor, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
        self.head.forward(&self.hidden(x)?, predictions, gradient)
    }

    /// Gradient of the residual after the last block, given those of the log-probabilities, `(P,)` f32. → `(Q, H)`.
    pub(crate) fn log_probs_vjp(
        &self,
        x: &Tensor,
        saved: &LogProbs,
        predictions: &Predictions,
        gradients: &Tensor,
    ) -> Result<Tensor> {
        let d_normed = self.head.vjp(saved, predictions, gradients, self.dtype)?;
        self.norm.vjp(x, &scaled(d_normed, self.config.architecture.logit_multiplier)?)
    }

    /// Logits of every row, f32. `x (T, H)` after the last block → `(T, V)`.
    ///
    /// # Errors
    /// A device fails.
    pub fn logits(&self, x: &Tensor, products: Products) -> Result<Tensor> {
        self.head.logits(&self.hidden(x)?, products)
    }

    /// What the head takes: the normalised residual, times the factor of the logits, which is the same and less work.
    fn hidden(&self, x: &Tensor) -> Result<Tensor> {
        scaled(self.norm.forward(x)?, self.config.architecture.logit_multiplier)
    }
}

/// `x` times a factor.
fn scaled(x: Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 { Ok(x) } else { Ok((x * factor)?) }
}
