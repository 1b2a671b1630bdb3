//! The decoder of the Llama family: embed, run blocks, head. Knows nothing of steering: steering is an argument between
//! two runs, `run(0..=L)`, add, `run(L+1..)`. The same forward serves training, scoring and generation.

pub mod block;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod flops;
pub(crate) mod gguf;
pub mod layout;
mod mapped;
pub mod random;
pub mod shapes;
pub mod weights;

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::ops::head::{self, Gradient, LogProbs, Predictions};
use crate::ops::kernels;
use crate::ops::linear::Linear;
use crate::ops::norm;
use crate::ops::rope::Rope;
use crate::ops::weight::Weight;
use block::{Block, FrozenKeys, LoadOptions, Plan, Saved, Selection};
use cache::KvCache;
use config::Config;
use layout::Layout;
use weights::{WeightStorage, Weights};

/// A frozen decoder on one device.
#[derive(Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    embed_tokens: Weight, // (V, H)
    blocks: Vec<Block>,
    norm: Tensor, // (H)
    lm_head: Linear,
    rope: Rope,
    dtype: DType,
    device: Device,
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
        kernels::prepare(device)?;
        let activations = if storage == WeightStorage::Tensors { dtype } else { DType::F32 };
        let options = LoadOptions { weights: dtype, activations, storage, device: device.clone() };
        let (h, vocab) = (config.hidden_size, config.vocab_size);
        let matrix = |name: &str| weights.matrix(name, [vocab, h], dtype, device, storage);
        let embed_tokens = matrix("model.embed_tokens.weight")?;
        let unembedding = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => matrix("lm_head.weight")?,
        };
        let blocks =
            (0..config.num_hidden_layers).map(|i| Block::load(weights, &config, i, &options)).collect::<Result<_>>()?;
        let norm = weights.load("model.norm.weight", &[h], activations, device)?;
        let rope = Rope::new(config.head_dim, config.rope_theta, &config.rope_scaling);
        let lm_head = Linear { weight: unembedding, bias: None };
        Ok(Self { config, embed_tokens, blocks, norm, lm_head, rope, dtype: activations, device: device.clone() })
    }

    /// Bytes of its matrices in memory, and in mapped files.
    pub fn weight_bytes(&self) -> (usize, usize) {
        let blocks = self.blocks.iter().flat_map(Block::weights);
        let head = (!self.config.tie_word_embeddings).then_some(&self.lm_head.weight);
        let all = blocks.chain(head).chain([&self.embed_tokens]).map(Weight::memory);
        all.fold((0, 0), |sum, weight| (sum.0 + weight.0, sum.1 + weight.1))
    }

    /// Bytes that the blocks from `first` on save of each row for their gradient.
    pub fn saved_bytes_a_row(&self, first: usize) -> usize {
        self.blocks.len().saturating_sub(first) * self.config.saved_numbers_a_row() * self.dtype.size_in_bytes()
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Dtype of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a sequence of `length` tokens can share its beginning's rows with a sequence of another length.
    pub fn can_share_prefix(&self, length: usize) -> bool {
        !self.rope.depends_on_length(length)
    }

    /// Embeddings of tokens. `(T,)` → `(T, H)`.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embed_tokens.rows(ids, self.dtype, &self.device)
    }

    /// A layout's plan on this model's device.
    pub fn plan(&self, layout: &Layout) -> Result<Plan> {
        Plan::new(layout, &self.rope, &self.device)
    }

    /// The plan of some rows of a layout (ascending; of each run those at its end), given the others' keys and values.
    pub fn plan_rows(&self, layout: &Layout, rows: &[usize], frozen: FrozenKeys) -> Result<Plan> {
        Plan::of_rows(layout, rows, frozen, &self.rope, &self.device)
    }

    /// Runs some blocks. `x (T, H)` → `(T, H)`.
    pub fn run(&self, blocks: Range<usize>, x: &Tensor, plan: &Plan) -> Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks[blocks] {
            x = block.forward(&x, plan, None, None)?.0;
        }
        Ok(x)
    }

    /// Runs some blocks on new rows of cached sequences. `x (T, H)` → `(T, H)`.
    pub fn run_cached(&self, blocks: Range<usize>, x: &Tensor, plan: &Plan, cache: &mut KvCache) -> Result<Tensor> {
        let mut x = x.clone();
        for index in blocks {
            x = self.blocks[index].forward(&x, plan, None, Some(cache.block(index)))?.0;
        }
        Ok(x)
    }

    /// Runs some blocks. `x (T, H)` → `(T, H)` and, per block, what [`Model::vjp`] needs, kept only if asked for.
    pub fn run_saving(
        &self,
        blocks: Range<usize>,
        x: &Tensor,
        plan: &Plan,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut saved = Vec::new();
        let mut x = x.clone();
        for block in &self.blocks[blocks] {
            let (y, kept) = block.forward(&x, plan, None, None)?;
            x = y;
            if gradient == Gradient::Wanted {
                saved.push(kept);
            }
        }
        Ok((x, saved))
    }

    /// Gradient of the input of [`Model::run_saving`], given that of its output; `end` is the end of its blocks.
    /// `dy (T, H)` → `(T, H)`. Takes what was saved, to free it on the way.
    pub fn vjp(&self, end: usize, mut saved: Vec<Saved>, plan: &Plan, dy: &Tensor) -> Result<Tensor> {
        let mut dx = dy.clone();
        for block in self.blocks[..end].iter().rev() {
            let Some(kept) = saved.pop() else { break };
            dx = block.vjp(&kept, plan, None, &dx)?;
        }
        Ok(dx)
    }

    /// Runs the blocks from `first` to the end; the last yields the selected rows alone. `x (T, H)` → `(Q, H)` and, per
    /// block, what [`Model::vjp_to_end`] needs, kept only if asked for.
    pub fn run_to_end(
        &self,
        first: usize,
        x: &Tensor,
        plan: &Plan,
        selection: &Selection,
        gradient: Gradient,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut saved = Vec::new();
        let mut x = x.clone();
        let Some(last) = self.blocks.len().checked_sub(1).filter(|last| first <= *last) else {
            return Ok((selection.take(&x)?, saved));
        };
        for index in first..=last {
            let selection = (index == last).then_some(selection);
            let (y, kept) = self.blocks[index].forward(&x, plan, selection, None)?;
            x = y;
            if gradient == Gradient::Wanted {
                saved.push(kept);
            }
        }
        Ok((x, saved))
    }

    /// Gradient of the input of [`Model::run_to_end`]. `dy (Q, H)` → `(T, H)`. Takes what was saved, to free it on the way.
    pub fn vjp_to_end(&self, mut saved: Vec<Saved>, plan: &Plan, selection: &Selection, dy: &Tensor) -> Result<Tensor> {
        if saved.is_empty() {
            return selection.put_back(dy);
        }
        let mut dx = dy.clone();
        for (index, block) in self.blocks.iter().enumerate().rev() {
            let Some(kept) = saved.pop() else { break };
            let selection = (index + 1 == self.blocks.len()).then_some(selection);
            dx = block.vjp(&kept, plan, selection, &dx)?;
        }
        Ok(dx)
    }

    /// Log-probabilities of tokens, from the residual after the last block. `x (Q, H)`.
    pub fn log_probs(&self, x: &Tensor, predictions: &Predictions, gradient: Gradient) -> Result<LogProbs> {
        let normed = norm::forward(x, &self.norm, self.config.rms_norm_eps)?;
        head::forward(&normed, &self.lm_head.weight, predictions, gradient)
    }

    /// Gradient of the residual after the last block, given those of the log-probabilities, `(P,)` f32. → `(Q, H)`.
    pub fn log_probs_vjp(&self, x: &Tensor, saved: &LogProbs, predictions: &Predictions, gradients: &Tensor) -> Result<Tensor> {
        let d_normed = head::vjp(saved, &self.lm_head.weight, predictions, gradients, self.dtype)?;
        norm::vjp(x, &self.norm, self.config.rms_norm_eps, &d_normed)
    }

    /// Logits of every row, f32. `x (T, H)` after the last block → `(T, V)`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let normed = norm::forward(x, &self.norm, self.config.rms_norm_eps)?;
        Ok(self.lm_head.forward(&normed)?.to_dtype(DType::F32)?)
    }
}
