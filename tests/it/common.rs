//! What several test modules share: the real small model, the recorded numbers, random tensors.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bipo::generate::GenerateOptions;
use bipo::model::Model;
use bipo::model::config::*;
use bipo::model::weights::Weights;
use bipo::vector::Positions;
use candle_core::{DType, Device};
use serde_json::Value;

/// A recorded file.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden").join(name)
}

pub fn golden_json(name: &str) -> Value {
    let path = golden(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

pub fn greedy(max_new_tokens: usize, eos: &[u32]) -> GenerateOptions {
    GenerateOptions {
        max_new_tokens,
        temperature: 0.0,
        top_p: None,
        top_k: None,
        repeat_penalty: 1.0,
        seed: 0,
        eos: eos.to_vec(),
        positions: Positions::All,
    }
}

static SMOLLM2: LazyLock<Model> = LazyLock::new(|| {
    let w = Weights::tmp("/tmp/smollm2.gguf");
    let c = Config {
        model_type: "llama".into(),
        hidden_size: 576,
        intermediate_size: 1536,
        vocab_size: 49152,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 100000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 8192,
        sliding_window: None,
        sliding_layers: vec![false; 30],
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
    };
    Model::load(&w, c, DType::F32, &Device::Cpu).unwrap()
});

/// SmolLM2-135M-Instruct in f32.
pub fn smollm2() -> &'static Model {
    &SMOLLM2
}
