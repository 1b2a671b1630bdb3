//! What differs between the families of models that the decoder implements, as data: an [`Architecture`] is how one model is
//! built, whatever its sizes, which are `Config`'s. How the files of a family say so is the business of `family`.

pub use crate::ops::gated::Activation;

/// How the blocks of a model are built.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Places of the norms of a block's sub-layers, and what they multiply by.
    pub norms: Norms,
    /// Whether `q_proj`, `k_proj`, `v_proj` have biases.
    pub qkv_bias: bool,
    /// What an RMSNorm of queries and keys spans, where there is one.
    pub qk_norm: QkNorm,
    /// Factor of the attention scores; one over the square root of a head's width with `None`.
    pub attention_scale: Option<f64>,
    /// Attention scores s become c·tanh(s/c) before the softmax, where there is such a c.
    pub attention_softcap: Option<f64>,
    /// How many tokens back attention sees in each block, the current one included; all of them with `None`.
    pub windows: Vec<Option<usize>>,
    /// Index of each block's rotary embedding among the configuration's.
    pub ropes: Vec<usize>,
    /// Whether `o_proj` has a bias.
    pub o_bias: bool,
    /// Whether `gate_proj`, `up_proj`, `down_proj` have biases.
    pub mlp_bias: bool,
    /// What the MLP applies to its gate.
    pub activation: Activation,
    /// The mixture of experts that some blocks have in place of one MLP.
    pub experts: Option<Experts>,
    /// Factor of the embeddings.
    pub embedding_multiplier: f64,
    /// Factor of each sub-layer's output before it is added to the residual.
    pub residual_multiplier: f64,
    /// Factor of the logits.
    pub logit_multiplier: f64,
    /// Logits z become c·tanh(z/c), where there is such a c.
    pub logit_softcap: Option<f64>,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
}

/// The norms of a block's two sub-layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norms {
    /// Whether a sub-layer's input is normalised.
    pub before: bool,
    /// Whether a sub-layer's output is normalised, before it is added to the residual.
    pub after: bool,
    /// Whether every norm of the model multiplies by 1 + w in place of w.
    pub one_plus_weight: bool,
}

/// What the norm of queries and keys spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Queries and keys have no norm.
    Absent,
    /// Each head by itself.
    Head,
    /// One norm spans all heads together.
    AllHeads,
}

/// A mixture of experts: each token goes through the few MLPs that a router gives it the largest probabilities for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// Number of experts of a block.
    pub count: usize,
    /// Number of experts that a token goes through.
    pub per_token: usize,
    /// Width of an expert's MLP.
    pub intermediate_size: usize,
    /// Whether the probabilities of a token's experts are divided by their sum.
    pub normalised: bool,
    /// Whether each block has experts; the others have one MLP.
    pub blocks: Vec<bool>,
}

impl Architecture {
    /// Llama's: `layers` blocks without biases, norms of heads or windows, and an unembedding of its own.
    pub(crate) fn llama(layers: usize) -> Self {
        Self {
            norms: Norms { before: true, after: false, one_plus_weight: false },
            qkv_bias: false,
            qk_norm: QkNorm::Absent,
            attention_scale: None,
            attention_softcap: None,
            windows: vec![None; layers],
            ropes: vec![0; layers],
            o_bias: false,
            mlp_bias: false,
            activation: Activation::Silu,
            experts: None,
            embedding_multiplier: 1.0,
            residual_multiplier: 1.0,
            logit_multiplier: 1.0,
            logit_softcap: None,
            tie_word_embeddings: false,
        }
    }

    /// The experts of a block, where it has some.
    pub(crate) fn experts_of(&self, block: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|experts| experts.blocks.get(block) == Some(&true))
    }
}
