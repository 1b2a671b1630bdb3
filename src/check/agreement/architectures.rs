//! A tiny configuration of every architecture that the decoder implements. Each differs from the first as its name says.

use crate::model::architecture::Architecture;
use crate::model::config::{Config, RopeScaling};
use crate::model::shapes::Shape;

/// Returns the name and configuration of each architecture. The rotary scalings take 16 tokens for the trained context, so that
/// longer sequences exceed it.
pub fn architectures() -> Vec<(&'static str, Config)> {
    let llama = llama();
    let scaled = |rope_scaling| Config { rope_scaling, ..llama.clone() };
    let trained = 16;
    let llama_3 = RopeScaling::Llama3 {
        factor: 4.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: trained,
    };
    vec![
        ("llama", llama.clone()),
        ("llama, tied embeddings", built("llama", Architecture { tie_word_embeddings: true, ..plain() })),
        ("llama, biases", built("llama", Architecture { qkv_bias: true, o_bias: true, mlp_bias: true, ..plain() })),
        ("mistral, sliding window", built("mistral", Architecture { windows: vec![Some(5); LAYERS], ..plain() })),
        ("qwen2", built("qwen2", Architecture { qkv_bias: true, tie_word_embeddings: true, ..plain() })),
        ("qwen3", Config { head_dim: 32, ..built("qwen3", Architecture { qk_norm: true, ..plain() }) }),
        ("linear rope scaling", scaled(RopeScaling::Linear { factor: 2.0 })),
        ("dynamic rope scaling", scaled(RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: trained })),
        ("llama 3 rope scaling", scaled(llama_3)),
        ("rope factors", scaled(RopeScaling::Factors((0..8).map(|i| 1.0 + 0.25 * i as f32).collect()))),
    ]
}

/// Returns a configuration with heads as wide as those of 7B models, for sequences longer than any kernel's tile.
pub fn wide_heads() -> Config {
    Config { head_dim: 128, ..llama() }
}

const LAYERS: usize = 3;

fn plain() -> Architecture {
    Architecture::llama(LAYERS)
}

fn built(model_type: &str, architecture: Architecture) -> Config {
    Config { model_type: model_type.into(), num_hidden_layers: LAYERS, architecture, ..Shape::Tiny.config() }
}

fn llama() -> Config {
    built("llama", plain())
}
