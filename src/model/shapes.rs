//! Shapes of known models, to measure speed and memory without their weights. Data only.

use strum::{Display, EnumString, VariantNames};

use super::architecture::Architecture;
use super::config::{Config, RopeParameters};

/// A known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
pub enum Shape {
    /// meta-llama/Llama-2-7b-chat-hf.
    #[strum(serialize = "llama-2-7b")]
    Llama2_7b,
    /// mistralai/Mistral-7B-Instruct-v0.2.
    #[strum(serialize = "mistral-7b")]
    Mistral7b,
    /// HuggingFaceTB/SmolLM2-135M-Instruct.
    #[strum(serialize = "smollm2-135m")]
    Smollm2_135m,
    /// No model's: as small as everything can be tried on.
    #[strum(serialize = "tiny")]
    Tiny,
}

impl Shape {
    /// As the model's own `config.json` has it.
    pub fn config(self) -> Config {
        match self {
            Self::Llama2_7b => Config { max_position_embeddings: 4096, ..llama(4096, 11008, 32, [32, 32, 128], 32000) },
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
