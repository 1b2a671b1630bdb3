//! The families of models that the decoder implements, a row each: what a file means where it says nothing, as `transformers`
//! and llama.cpp have it, and under which key it says the rest. The readers of `config.json` and of GGUF metadata turn a row
//! and a file into an `Architecture`.

use super::architecture::{Activation, Norms, QkNorm};

/// A family of models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    pub name: &'static str,
    /// `general.architecture` in GGUF metadata.
    pub gguf_name: &'static str,
    /// Longest sequence where the file does not say.
    pub max_position_embeddings: usize,
    /// Number of token ids where the file may leave it out.
    pub vocab_size: Option<usize>,
    /// Query heads where the file may leave them out.
    pub num_attention_heads: Option<usize>,
    /// Key-value heads where the file does not say; with `None` one for each query head.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head where the file does not say; with `None` the query heads share the hidden size.
    pub head_dim: Option<usize>,
    /// See `Config::rms_norm_eps`, where the file does not say.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies where the file does not say.
    pub rope_theta: f64,
    /// See [`Architecture::tie_word_embeddings`](super::architecture::Architecture), where the file does not say.
    pub tie_word_embeddings: bool,
    /// Whether `q_proj`, `k_proj` and `v_proj` have biases.
    pub qkv_bias: Flag,
    /// Whether `o_proj` has a bias.
    pub o_bias: Flag,
    /// Whether the MLP has biases.
    pub mlp_bias: Flag,
    /// Places of the norms.
    pub norms: Norms,
    /// What the norm of queries and keys spans.
    pub qk_norm: QkNorm,
    /// What the MLP applies to its gate where the file does not say.
    pub activation: Activation,
    /// Source of the factor of the attention scores.
    pub attention_scale: AttentionScale,
    /// Softcaps of attention scores and logits where the file does not say; with `None` there is neither, whatever it says.
    pub softcaps: Option<[Option<f64>; 2]>,
    /// Whether embeddings are multiplied by the square root of the hidden size.
    pub scaled_embeddings: bool,
    /// Whether the file has Granite's multipliers.
    pub multipliers: bool,
    /// The blocks that have a sliding window.
    pub sliding: Sliding,
    /// The rotary embedding of each block.
    pub rope: RopeOfBlocks,
    /// Whether a part of a head may be rotated alone.
    pub partial_rotary: bool,
    /// How `config.json` describes experts, where there are some.
    pub experts: Option<ExpertKeys>,
    /// Whether llama.cpp's converter interleaves the rotary pairs of queries and keys.
    pub interleaved: bool,
}

/// Whether the models of a family have something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// No model of the family has it.
    Never,
    /// All models of the family have it.
    Always,
    /// A model has it if its `config.json` says so under this key.
    Key(&'static str),
}

/// Source of the factor of the attention scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionScale {
    /// One over the square root of a head's width.
    HeadWidth,
    /// One over the square root of `query_pre_attn_scalar`. GGUF files do not have that key: llama.cpp takes the head's
    /// width, but the hidden size over the number of heads where a model has this many blocks (the one of 27B parameters).
    QueryPreAttnScalar {
        /// Number of blocks of the model of 27B parameters.
        blocks_of_27b: usize,
    },
    /// `attention_multiplier`.
    Multiplier,
}

/// The blocks of a family's models that have a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sliding {
    /// No block has one, whatever `config.json` says.
    NoBlock,
    /// All blocks have one, unless `config.json` sets the window to null.
    EveryBlock {
        /// The window where it has no such key.
        absent: Option<usize>,
    },
    /// All blocks have one with `use_sliding_window`.
    EveryBlockIfUsed,
    /// With `use_sliding_window` the blocks that `layer_types` or `max_window_layers` names. GGUF metadata does not name them.
    NamedBlocks,
    /// With `use_sliding_window` the blocks that `layer_types` names; without that list those without a rotary embedding.
    WithoutRope,
    /// Blocks that `layer_types` names; without it all but each `pattern`-th.
    Pattern {
        /// The pattern where `sliding_window_pattern` does not say.
        pattern: usize,
        /// The window where GGUF metadata have no such key.
        absent_in_gguf: Option<usize>,
    },
}

/// The rotary embedding of each block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RopeOfBlocks {
    /// All blocks have the same one.
    One,
    /// Blocks with a sliding window have their own, not scaled.
    OwnOfSliding {
        /// Base of this rotary embedding where `rope_local_base_freq` does not say; with `None` the base of the other blocks.
        theta: Option<f64>,
    },
    /// Some have none: those that `no_rope_layers` names, or each `no_rope_layer_interval`-th.
    SomeWithout {
        /// The interval where `config.json` does not say.
        interval: usize,
    },
}

/// How `config.json` describes experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertKeys {
    /// Keys of the number of experts: the family's own, and what others call it.
    pub count: [&'static str; 2],
    /// Number of experts, and of those that a token goes through, where the file does not say.
    pub defaults: [usize; 2],
    /// Key of the width of an expert, and the width where the file may leave it out.
    pub intermediate_size: (&'static str, Option<usize>),
    /// Whether the probabilities of a token's experts are divided by their sum.
    pub normalised: Flag,
}

const BEFORE: Norms = Norms { before: true, after: false, one_plus_weight: false };

const LLAMA: Family = Family {
    name: "llama",
    gguf_name: "llama",
    max_position_embeddings: 2048,
    vocab_size: None,
    num_attention_heads: None,
    num_key_value_heads: None,
    head_dim: None,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    tie_word_embeddings: false,
    qkv_bias: Flag::Key("attention_bias"),
    o_bias: Flag::Key("attention_bias"),
    mlp_bias: Flag::Key("mlp_bias"),
    norms: BEFORE,
    qk_norm: QkNorm::Absent,
    activation: Activation::Silu,
    attention_scale: AttentionScale::HeadWidth,
    softcaps: None,
    scaled_embeddings: false,
    multipliers: false,
    sliding: Sliding::NoBlock,
    rope: RopeOfBlocks::One,
    partial_rotary: false,
    experts: None,
    interleaved: true,
};

const MISTRAL: Family = Family {
    name: "mistral",
    gguf_name: "mistral",
    max_position_embeddings: 131_072,
    num_key_value_heads: Some(8),
    qkv_bias: Flag::Never,
    o_bias: Flag::Never,
    mlp_bias: Flag::Never,
    sliding: Sliding::EveryBlock { absent: Some(4096) },
    ..LLAMA
};

const QWEN2: Family = Family {
    name: "qwen2",
    gguf_name: "qwen2",
    max_position_embeddings: 32_768,
    num_key_value_heads: Some(32),
    qkv_bias: Flag::Always,
    o_bias: Flag::Never,
    mlp_bias: Flag::Never,
    sliding: Sliding::NamedBlocks,
    interleaved: false,
    ..LLAMA
};

const QWEN3: Family = Family {
    name: "qwen3",
    gguf_name: "qwen3",
    head_dim: Some(128),
    qkv_bias: Flag::Key("attention_bias"),
    o_bias: Flag::Key("attention_bias"),
    qk_norm: QkNorm::Head,
    ..QWEN2
};

const GEMMA2: Family = Family {
    name: "gemma2",
    gguf_name: "gemma2",
    max_position_embeddings: 8192,
    vocab_size: Some(256_000),
    num_attention_heads: Some(8),
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    tie_word_embeddings: true,
    mlp_bias: Flag::Never,
    norms: Norms { before: true, after: true, one_plus_weight: true },
    activation: Activation::GeluTanh,
    attention_scale: AttentionScale::QueryPreAttnScalar { blocks_of_27b: 46 },
    softcaps: Some([Some(50.0), Some(30.0)]),
    scaled_embeddings: true,
    sliding: Sliding::Pattern { pattern: 2, absent_in_gguf: Some(4096) },
    interleaved: false,
    ..LLAMA
};

const GEMMA3: Family = Family {
    name: "gemma3_text",
    gguf_name: "gemma3",
    max_position_embeddings: 131_072,
    vocab_size: Some(262_208),
    rope_theta: 1_000_000.0,
    qk_norm: QkNorm::Head,
    attention_scale: AttentionScale::QueryPreAttnScalar { blocks_of_27b: 62 },
    softcaps: Some([None, None]),
    sliding: Sliding::Pattern { pattern: 6, absent_in_gguf: None },
    rope: RopeOfBlocks::OwnOfSliding { theta: Some(10_000.0) },
    ..GEMMA2
};

const PHI3: Family = Family {
    name: "phi3",
    gguf_name: "phi3",
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    qkv_bias: Flag::Never,
    o_bias: Flag::Never,
    mlp_bias: Flag::Never,
    sliding: Sliding::EveryBlock { absent: None },
    partial_rotary: true,
    interleaved: false,
    ..LLAMA
};

pub(super) const OLMO2: Family = Family {
    name: "olmo2",
    gguf_name: "olmo2",
    rms_norm_eps: 1e-5,
    mlp_bias: Flag::Never,
    norms: Norms { before: false, after: true, one_plus_weight: false },
    qk_norm: QkNorm::AllHeads,
    interleaved: false,
    ..LLAMA
};

/// OLMo 2 with a sliding window in three of four blocks. llama.cpp calls both by one name.
pub(super) const OLMO3: Family = Family {
    name: "olmo3",
    gguf_name: "olmo3",
    rope_theta: 500_000.0,
    sliding: Sliding::Pattern { pattern: 4, absent_in_gguf: None },
    rope: RopeOfBlocks::OwnOfSliding { theta: None },
    ..OLMO2
};

const GRANITE: Family =
    Family { name: "granite", gguf_name: "granite", attention_scale: AttentionScale::Multiplier, multipliers: true, ..LLAMA };

const SMOLLM3: Family = Family {
    name: "smollm3",
    gguf_name: "smollm3",
    max_position_embeddings: 32_768,
    num_key_value_heads: Some(4),
    rope_theta: 2_000_000.0,
    tie_word_embeddings: true,
    sliding: Sliding::WithoutRope,
    rope: RopeOfBlocks::SomeWithout { interval: 4 },
    ..LLAMA
};

const MIXTRAL: Family = Family {
    name: "mixtral",
    gguf_name: "mixtral",
    rms_norm_eps: 1e-5,
    rope_theta: 1_000_000.0,
    sliding: Sliding::EveryBlock { absent: None },
    experts: Some(ExpertKeys {
        count: ["num_local_experts", "num_experts"],
        defaults: [8, 2],
        intermediate_size: ("intermediate_size", None),
        normalised: Flag::Always,
    }),
    ..MISTRAL
};

const QWEN3_MOE: Family = Family {
    name: "qwen3_moe",
    gguf_name: "qwen3moe",
    num_key_value_heads: Some(4),
    head_dim: None,
    sliding: Sliding::EveryBlockIfUsed,
    experts: Some(ExpertKeys {
        count: ["num_experts", "num_local_experts"],
        defaults: [128, 8],
        intermediate_size: ("moe_intermediate_size", Some(768)),
        normalised: Flag::Key("norm_topk_prob"),
    }),
    ..QWEN3
};

/// The families that the decoder implements.
pub(crate) const FAMILIES: [Family; 13] =
    [LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, PHI3, OLMO2, OLMO3, GRANITE, SMOLLM3, MIXTRAL, QWEN3_MOE];

impl Family {
    /// The family whose `config.json` has this `model_type`.
    pub fn of(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == model_type)
    }

    /// The family of this name in GGUF files, which is their `general.architecture` but for OLMo 3's.
    pub fn of_gguf(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.gguf_name == name)
    }
}

/// Whether two names of families, as `config.json` or GGUF metadata has them, can name the same model. llama.cpp calls
/// Mistral and Mixtral by the name of Llama, and OLMo 3 by that of OLMo 2.
pub(crate) fn is_same_family(a: &str, b: &str) -> bool {
    let name = |text| match Family::of(text).or_else(|| Family::of_gguf(text)).map_or(text, |family| family.gguf_name) {
        "mistral" | "mixtral" => "llama",
        "olmo3" => "olmo2",
        name => name,
    };
    name(a) == name(b)
}
