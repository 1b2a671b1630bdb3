//! Shapes of models, random models of these shapes on disk, and the number of floating-point operations of a pass. A
//! multiplication with its addition counts as two operations; only matrix products and attention count.

use std::collections::HashMap;

use bipo::Result;
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::weights::Weights;
use candle_core::{DType, Device, Shape, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// The shape of a Llama-family decoder with tied embeddings.
#[derive(Debug, Clone, Copy)]
pub struct ModelShape {
    pub hidden: usize,
    pub inner: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub blocks: usize,
    pub vocab: usize,
}

/// Shape of SmolLM2-135M.
pub const SMOLLM2: ModelShape = ModelShape { hidden: 576, inner: 1536, heads: 9, kv_heads: 3, blocks: 30, vocab: 49152 };

/// Shape of one block of Llama-2-7B, with a tiny vocabulary.
pub const LLAMA_7B_BLOCK: ModelShape = ModelShape { hidden: 4096, inner: 11008, heads: 32, kv_heads: 32, blocks: 1, vocab: 64 };

impl ModelShape {
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Returns the width of keys, which is also that of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    /// Returns the name, inputs and outputs of each projection of a block.
    pub fn projections(&self) -> [(&'static str, usize, usize); 4] {
        let Self { hidden, inner, .. } = *self;
        [
            ("qkv", hidden, hidden + 2 * self.kv_width()),
            ("o", hidden, hidden),
            ("gate_up", hidden, 2 * inner),
            ("down", inner, hidden),
        ]
    }

    /// Counts the operations of a block's products on `rows` rows in the forward pass. The gradient of their input takes as
    /// many again.
    pub fn block_flops(&self, rows: usize) -> usize {
        self.projections().iter().map(|(_, inputs, outputs)| 2 * rows * inputs * outputs).sum()
    }

    /// Counts the operations of scores and weighted values for `seen` pairs of a query and a key in the forward pass. The
    /// gradients take twice as many.
    pub fn attention_flops(&self, seen: usize) -> usize {
        4 * self.hidden * seen
    }

    /// Counts the operations of the last block, whose queries and MLP are computed on only `queries` of the `rows` rows.
    pub fn last_block_flops(&self, rows: usize, queries: usize) -> usize {
        self.block_flops(queries) + 4 * (rows - queries) * self.hidden * self.kv_width()
    }

    /// Returns the bytes that each decoded token reads: all weights in f32.
    pub fn weight_bytes(&self) -> usize {
        4 * (self.blocks * self.block_flops(1) / 2 + self.vocab * self.hidden)
    }

    /// Writes a model of this shape with random weights, and loads it through a memory map.
    pub fn model(&self) -> Result<Model> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (config, weights) = (dir.path().join("config.json"), dir.path().join("model.safetensors"));
        std::fs::write(&config, self.config().to_string()).expect("room in the temporary folder");
        candle_core::safetensors::save(&self.tensors()?, &weights)?;
        let checkpoint = Checkpoint::Safetensors {
            config,
            shards: vec![weights],
            tokenizer: dir.path().join("tokenizer.json"),
            tokenizer_config: None,
            generation_config: None,
            chat_template: None,
        };
        let weights = Weights::open(&checkpoint)?;
        let config = Config::load(&checkpoint, &weights)?;
        // The map stays valid after the temporary folder is removed.
        Model::load(&weights, config, DType::F32, &Device::Cpu)
    }

    fn config(&self) -> serde_json::Value {
        json!({
            "model_type": "llama", "hidden_size": self.hidden, "intermediate_size": self.inner, "vocab_size": self.vocab,
            "num_hidden_layers": self.blocks, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_position_embeddings": 2048, "tie_word_embeddings": true,
        })
    }

    fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let Self { hidden, inner, vocab, .. } = *self;
        let ones = || Tensor::ones(hidden, DType::F32, &Device::Cpu);
        let mut tensors = HashMap::from([
            ("model.embed_tokens.weight".to_owned(), random(0, (vocab, hidden))?),
            ("model.norm.weight".to_owned(), ones()?),
        ]);
        for block in 0..self.blocks {
            let name = |suffix: &str| format!("model.layers.{block}.{suffix}.weight");
            tensors.insert(name("input_layernorm"), ones()?);
            tensors.insert(name("post_attention_layernorm"), ones()?);
            let matrices = [
                ("self_attn.q_proj", hidden, hidden),
                ("self_attn.k_proj", self.kv_width(), hidden),
                ("self_attn.v_proj", self.kv_width(), hidden),
                ("self_attn.o_proj", hidden, hidden),
                ("mlp.gate_proj", inner, hidden),
                ("mlp.up_proj", inner, hidden),
                ("mlp.down_proj", hidden, inner),
            ];
            for (i, (suffix, rows, columns)) in matrices.into_iter().enumerate() {
                tensors.insert(name(suffix), random((1 + 7 * block + i) as u64, (rows, columns))?);
            }
        }
        Ok(tensors)
    }
}

/// Returns a random tensor, uniform in ±0.035, whose standard deviation is that of an untrained model.
pub fn random(seed: u64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let mut bytes = vec![0u8; 4 * shape.elem_count()];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let (words, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| (i32::from_le_bytes(*word) as f32) * (0.035 / 2f32.powi(31))).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
