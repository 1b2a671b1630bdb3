//! What differs between the families of models that the decoder implements, as data. An [`Architecture`] is how one model is
//! built; `FAMILIES` says, a row a family, how to read it from `config.json` or GGUF metadata. Sizes are `Config`'s.

/// How the blocks of a model are built, whatever their sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Whether `q_proj`, `k_proj`, `v_proj` have biases.
    pub qkv_bias: bool,
    /// Whether each head's queries and keys pass an RMSNorm.
    pub qk_norm: bool,
    /// How many tokens back attention sees in each block, the current one included; all of them with `None`.
    pub windows: Vec<Option<usize>>,
    /// Whether `o_proj` has a bias.
    pub o_bias: bool,
    /// Whether `gate_proj`, `up_proj`, `down_proj` have biases.
    pub mlp_bias: bool,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
}

impl Architecture {
    /// Llama's: `layers` blocks without biases, norms of heads or windows, and an unembedding of its own.
    pub fn llama(layers: usize) -> Self {
        Self {
            qkv_bias: false,
            qk_norm: false,
            windows: vec![None; layers],
            o_bias: false,
            mlp_bias: false,
            tie_word_embeddings: false,
        }
    }
}

/// A family of models: what a `config.json` means where it says nothing, as `transformers` has it, and under which key it
/// says the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// `model_type` in `config.json`, `general.architecture` in GGUF metadata.
    pub name: &'static str,
    /// Longest sequence where the file does not say.
    pub max_position_embeddings: usize,
    /// Key-value heads where the file does not say; with `None` one for each query head.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head where the file does not say; with `None` the query heads share the hidden size.
    pub head_dim: Option<usize>,
    /// See [`Architecture::qkv_bias`].
    pub qkv_bias: Flag,
    /// See [`Architecture::o_bias`].
    pub o_bias: Flag,
    /// See [`Architecture::mlp_bias`].
    pub mlp_bias: Flag,
    /// See [`Architecture::qk_norm`].
    pub qk_norm: bool,
    /// Which blocks have a sliding window.
    pub sliding: Sliding,
    /// Whether llama.cpp's converter interleaves the rotary pairs of queries and keys.
    pub interleaved: bool,
}

/// Whether the models of a family have something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// None has.
    Never,
    /// All have.
    Always,
    /// Those have whose `config.json` says so under this key.
    Key(&'static str),
}

/// Which blocks of a family's models have a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sliding {
    /// None has, whatever `config.json` says.
    NoBlock,
    /// All have, unless `config.json` sets the window to null.
    EveryBlock,
    /// With `use_sliding_window` those that `layer_types` or `max_window_layers` names. GGUF metadata does not name them.
    NamedBlocks,
}

/// The families that the decoder implements.
pub(crate) const FAMILIES: [Family; 4] = [
    Family {
        name: "llama",
        max_position_embeddings: 2048,
        num_key_value_heads: None,
        head_dim: None,
        qkv_bias: Flag::Key("attention_bias"),
        o_bias: Flag::Key("attention_bias"),
        mlp_bias: Flag::Key("mlp_bias"),
        qk_norm: false,
        sliding: Sliding::NoBlock,
        interleaved: true,
    },
    Family {
        name: "mistral",
        max_position_embeddings: 131_072,
        num_key_value_heads: Some(8),
        head_dim: None,
        qkv_bias: Flag::Never,
        o_bias: Flag::Never,
        mlp_bias: Flag::Never,
        qk_norm: false,
        sliding: Sliding::EveryBlock,
        interleaved: true,
    },
    Family {
        name: "qwen2",
        max_position_embeddings: 32_768,
        num_key_value_heads: Some(32),
        head_dim: None,
        qkv_bias: Flag::Always,
        o_bias: Flag::Never,
        mlp_bias: Flag::Never,
        qk_norm: false,
        sliding: Sliding::NamedBlocks,
        interleaved: false,
    },
    Family {
        name: "qwen3",
        max_position_embeddings: 32_768,
        num_key_value_heads: Some(32),
        head_dim: Some(128),
        qkv_bias: Flag::Key("attention_bias"),
        o_bias: Flag::Key("attention_bias"),
        mlp_bias: Flag::Never,
        qk_norm: true,
        sliding: Sliding::NamedBlocks,
        interleaved: false,
    },
];

impl Family {
    /// The family of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }
}
