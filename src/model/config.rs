//! The table of differences between the models of the Llama family, read from `config.json` or GGUF metadata.

/// Scaling of the rotary embedding's frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as trained.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of every position.
        factor: f64,
    },
    /// NTK-aware scaling once a sequence is longer than the trained context.
    Dynamic {
        /// Growth of the context.
        factor: f64,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1's scaling by wavelength.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
    },
    /// A divisor for each frequency, as GGUF's `rope_freqs.weight` has it. `(D/2,)`
    Factors(Vec<f32>),
}

/// Shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `llama`, `mistral`, `qwen2` or `qwen3`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Attention sees this many tokens back, the current one included, in the blocks that `sliding_layers` names.
    pub sliding_window: Option<usize>,
    /// Whether a block uses the sliding window, one entry a block (all false without one).
    pub sliding_layers: Vec<bool>,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether `q_proj`, `k_proj`, `v_proj` have biases.
    pub qkv_bias: bool,
    /// Whether `o_proj` has a bias.
    pub o_bias: bool,
    /// Whether `gate_proj`, `up_proj`, `down_proj` have biases.
    pub mlp_bias: bool,
    /// Whether each head's queries and keys pass an RMSNorm (Qwen3).
    pub qk_norm: bool,
}
