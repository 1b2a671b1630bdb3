//! Shapes of known models, to measure speed and memory without their weights. Data only.

use strum::{Display, EnumString, VariantNames};

use super::architecture::{Activation, Architecture, Experts, Norms, QkNorm};
use super::config::{Config, RopeParameters};

/// A known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
pub enum Shape {
    /// meta-llama/Llama-2-7b-chat-hf.
    #[strum(serialize = "llama-2-7b")]
    Llama2_7b,
    /// meta-llama/Llama-2-70b-chat-hf.
    #[strum(serialize = "llama-2-70b")]
    Llama2_70b,
    /// mistralai/Mistral-7B-Instruct-v0.2.
    #[strum(serialize = "mistral-7b")]
    Mistral7b,
    /// HuggingFaceTB/SmolLM2-135M-Instruct.
    #[strum(serialize = "smollm2-135m")]
    Smollm2_135m,
    /// google/gemma-2-2b-it.
    #[strum(serialize = "gemma-2-2b")]
    Gemma2_2b,
    /// google/gemma-2-9b-it.
    #[strum(serialize = "gemma-2-9b")]
    Gemma2_9b,
    /// google/gemma-3-270m.
    #[strum(serialize = "gemma-3-270m")]
    Gemma3_270m,
    /// Qwen/Qwen3-30B-A3B.
    #[strum(serialize = "qwen3-30b-a3b")]
    Qwen3_30bA3b,
    /// No model's: as small as everything can be tried on.
    #[strum(serialize = "tiny")]
    Tiny,
}

impl Shape {
    /// Configuration of the shape, as the model's own `config.json` has it.
    pub fn config(self) -> Config {
        match self {
            Self::Llama2_7b => Config { max_position_embeddings: 4096, ..llama(4096, 11008, 32, [32, 32, 128], 32000) },
            Self::Llama2_70b => Config { max_position_embeddings: 4096, ..llama(8192, 28672, 80, [64, 8, 128], 32000) },
            Self::Mistral7b => Config {
                model_type: "mistral".into(),
                ropes: vec![RopeParameters::plain(1e6, 128)],
                max_position_embeddings: 32768,
                ..llama(4096, 14336, 32, [32, 8, 128], 32000)
            },
            Self::Smollm2_135m => Config {
                ropes: vec![RopeParameters::plain(1e5, 64)],
                max_position_embeddings: 8192,
                architecture: Architecture { tie_word_embeddings: true, ..Architecture::llama(30) },
                ..llama(576, 1536, 30, [9, 3, 64], 49152)
            },
            Self::Gemma2_2b => gemma2(2304, 9216, 26, [8, 4, 256]),
            Self::Gemma2_9b => gemma2(3584, 14336, 42, [16, 8, 256]),
            Self::Gemma3_270m => gemma3_270m(),
            Self::Qwen3_30bA3b => Config {
                model_type: "qwen3_moe".into(),
                ropes: vec![RopeParameters::plain(1e6, 128)],
                rms_norm_eps: 1e-6,
                max_position_embeddings: 40960,
                architecture: Architecture {
                    qk_norm: QkNorm::Head,
                    experts: Some(Experts {
                        count: 128,
                        per_token: 8,
                        intermediate_size: 768,
                        normalised: true,
                        blocks: vec![true; 48],
                    }),
                    ..Architecture::llama(48)
                },
                ..llama(2048, 6144, 48, [32, 4, 128], 151_936)
            },
            Self::Tiny => llama(64, 176, 4, [4, 2, 16], 320),
        }
    }
}

/// `heads` are the query heads, the key-value heads and their width.
fn llama(hidden_size: usize, intermediate_size: usize, layers: usize, heads: [usize; 3], vocab_size: usize) -> Config {
    Config {
        model_type: "llama".into(),
        hidden_size,
        intermediate_size,
        vocab_size,
        num_hidden_layers: layers,
        num_attention_heads: heads[0],
        num_key_value_heads: heads[1],
        head_dim: heads[2],
        rms_norm_eps: 1e-5,
        ropes: vec![RopeParameters::plain(1e4, heads[2])],
        max_position_embeddings: 2048,
        architecture: Architecture::llama(layers),
    }
}

fn gemma2(hidden_size: usize, intermediate_size: usize, layers: usize, heads: [usize; 3]) -> Config {
    Config {
        model_type: "gemma2".into(),
        rms_norm_eps: 1e-6,
        max_position_embeddings: 8192,
        architecture: Architecture {
            norms: Norms { before: true, after: true, one_plus_weight: true },
            attention_scale: Some(1.0 / 16.0),
            attention_softcap: Some(50.0),
            windows: (0..layers).map(|block| block.is_multiple_of(2).then_some(4096)).collect(),
            activation: Activation::GeluTanh,
            embedding_multiplier: (hidden_size as f64).sqrt(),
            logit_softcap: Some(30.0),
            tie_word_embeddings: true,
            ..Architecture::llama(layers)
        },
        ..llama(hidden_size, intermediate_size, layers, heads, 256_000)
    }
}

fn gemma3_270m() -> Config {
    let config = gemma2(640, 2048, 18, [4, 1, 256]);
    let is_full = |block: usize| (block + 1).is_multiple_of(6);
    Config {
        model_type: "gemma3_text".into(),
        vocab_size: 262_144,
        ropes: [1e6, 1e4].map(|theta| RopeParameters::plain(theta, 256)).into(),
        max_position_embeddings: 32768,
        architecture: Architecture {
            qk_norm: QkNorm::Head,
            attention_softcap: None,
            logit_softcap: None,
            windows: (0..18).map(|block| (!is_full(block)).then_some(512)).collect(),
            ropes: (0..18).map(|block| usize::from(!is_full(block))).collect(),
            ..config.architecture
        },
        ..config
    }
}
