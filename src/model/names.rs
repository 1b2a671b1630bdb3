//! Where a file has the tensors that the decoder asks for. The decoder's names are those of `transformers` for a text model
//! with one tensor for each projection and expert. A [`FileTensor`] is the tensor that a file has instead: under another name, or
//! as some rows of a larger one.

use super::config::Config;
use super::family::Family;
use crate::ops::weight::RowOrder;

/// A tensor of a file that has what the decoder asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileTensor {
    /// Name of the tensor in the file.
    pub name: String,
    /// Shape of the tensor in the file.
    pub shape: Vec<usize>,
    /// First of the rows that are wanted, where all dimensions but the last count rows.
    pub first_row: usize,
    /// Order of the rows that are wanted.
    pub order: RowOrder,
}

/// What a file's tensors are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Names of `transformers`, where the language model may be a part of a larger one.
    HuggingFace {
        /// What stands in front of `embed_tokens.weight`.
        prefix: &'static str,
    },
    /// Names of llama.cpp.
    Gguf,
}

/// What may stand in front of the names of the language model: nothing for the model without its head; the others are of a
/// model that also reads pictures, as older and newer versions of `transformers` save it.
const PREFIXES: [&str; 4] = ["model.", "language_model.model.", "model.language_model.", ""];

impl Naming {
    /// The naming of a safetensors checkpoint that has these tensors.
    pub fn of_safetensors(has: impl Fn(&str) -> bool) -> Self {
        let prefix = PREFIXES.into_iter().find(|prefix| has(&format!("{prefix}embed_tokens.weight")));
        Self::HuggingFace { prefix: prefix.unwrap_or(PREFIXES[0]) }
    }

    /// Whether a tensor of the file belongs to the language model.
    pub fn is_of_language_model(self, name: &str) -> bool {
        match self {
            Self::Gguf => true,
            Self::HuggingFace { prefix } => name.starts_with(prefix) || name.ends_with("lm_head.weight"),
        }
    }

    /// Returns the tensors in which a file may have the tensor `name` of this shape, the likeliest first.
    pub fn candidates(self, name: &str, shape: &[usize], config: &Config) -> Vec<FileTensor> {
        let order = order_of(name, config, self);
        let whole = |name: String| FileTensor { name, shape: shape.to_vec(), first_row: 0, order };
        let mut candidates: Vec<FileTensor> = self.names_of(name).into_iter().map(whole).collect();
        let Some((of_block, module, kind)) = in_block(name) else { return candidates };
        if let Some((fused, first_row, rows)) = fused(module, config) {
            let name = match self {
                Self::HuggingFace { prefix } => format!("{prefix}layers.{of_block}.{}.{kind}", fused.0),
                Self::Gguf => format!("blk.{of_block}.{}.{kind}", fused.1),
            };
            candidates.push(FileTensor { name, shape: [&[rows], &shape[1..]].concat(), first_row, order });
        }
        if let Some((expert, projection)) = expert_of(module) {
            candidates.extend(self.joined_experts(of_block, expert, projection, shape, config));
        }
        candidates
    }

    /// Names of a tensor that a file has by itself.
    fn names_of(self, name: &str) -> Vec<String> {
        match self {
            Self::Gguf => gguf_names(name),
            Self::HuggingFace { prefix } => {
                let Some(rest) = name.strip_prefix("model.") else {
                    return vec![name.to_owned(), format!("language_model.{name}")];
                };
                let mut names = vec![format!("{prefix}{rest}")];
                if let Some((block, module, kind)) = in_block(name) {
                    // Mixtral's own names.
                    let module = module.replace("mlp.", "block_sparse_moe.");
                    let module = module.replace("gate_proj", "w1").replace("up_proj", "w3").replace("down_proj", "w2");
                    names.push(format!("{prefix}layers.{block}.{module}.{kind}"));
                }
                names
            }
        }
    }

    /// The tensors that hold a projection of all experts of a block, one expert above the other.
    fn joined_experts(self, block: &str, expert: usize, projection: &str, shape: &[usize], config: &Config) -> Vec<FileTensor> {
        let (Some(experts), &[rows, columns]) = (&config.architecture.experts, shape) else { return Vec::new() };
        let candidate = |name: String, rows_of_expert: usize, first: usize| FileTensor {
            name,
            shape: vec![experts.count, rows_of_expert, columns],
            first_row: expert * rows_of_expert + first,
            order: RowOrder::Plain,
        };
        match self {
            Self::HuggingFace { prefix } => {
                let name = |joined: &str| format!("{prefix}layers.{block}.mlp.experts.{joined}");
                vec![match projection {
                    "gate_proj" => candidate(name("gate_up_proj"), 2 * rows, 0),
                    "up_proj" => candidate(name("gate_up_proj"), 2 * rows, rows),
                    _ => candidate(name("down_proj"), rows, 0),
                }]
            }
            Self::Gguf => {
                let stored = projection.trim_end_matches("_proj");
                vec![candidate(format!("blk.{block}.ffn_{stored}_exps.weight"), rows, 0)]
            }
        }
    }
}

/// Splits `model.layers.3.mlp.up_proj.bias` into block, module and kind.
fn in_block(name: &str) -> Option<(&str, &str, &str)> {
    let (block, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    Some((block, module, kind))
}

/// Splits `mlp.experts.7.up_proj` into the expert and its projection.
fn expert_of(module: &str) -> Option<(usize, &str)> {
    let (expert, projection) = module.strip_prefix("mlp.experts.")?.split_once('.')?;
    Some((expert.parse().ok()?, projection))
}

/// The larger projection that a file may have a module of a block in: its names in both formats, the module's first row, and
/// the number of all rows.
fn fused(module: &str, config: &Config) -> Option<((&'static str, &'static str), usize, usize)> {
    let sizes = config.sizes();
    let (q, kv, inner) = (sizes.q_width, sizes.kv_width, config.intermediate_size);
    let (qkv, gate_up) = (("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up"));
    match module {
        "self_attn.q_proj" => Some((qkv, 0, q + 2 * kv)),
        "self_attn.k_proj" => Some((qkv, q, q + 2 * kv)),
        "self_attn.v_proj" => Some((qkv, q + kv, q + 2 * kv)),
        "mlp.gate_proj" => Some((gate_up, 0, 2 * inner)),
        "mlp.up_proj" => Some((gate_up, inner, 2 * inner)),
        _ => None,
    }
}

/// The order in which a file has the rows of queries and keys: interleaved where llama.cpp's converter does so, and with the
/// rotated dimensions of a head in front where they are not all of it.
fn order_of(name: &str, config: &Config, naming: Naming) -> RowOrder {
    let heads = match in_block(name) {
        Some((_, "self_attn.q_proj", _)) => config.num_attention_heads,
        Some((_, "self_attn.k_proj", _)) => config.num_key_value_heads,
        _ => return RowOrder::Plain,
    };
    let rotary_dim = config.ropes.first().map_or(config.head_dim, |rope| rope.rotary_dim);
    if rotary_dim < config.head_dim {
        return RowOrder::PartlyRotated { heads, rotary_dim };
    }
    let interleaved = naming == Naming::Gguf && Family::of_gguf(&config.model_type).is_some_and(|family| family.interleaved);
    if interleaved { RowOrder::Interleaved { heads } } else { RowOrder::Plain }
}

/// Tensors of the whole model in GGUF files.
const OUTSIDE_BLOCKS: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// Modules of a block in GGUF files: `model.layers.3.mlp.up_proj.bias` is `blk.3.ffn_up.bias`.
const IN_BLOCKS: [(&str, &str); 15] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    // The norm after attention where there is one, else the one before the MLP.
    ("post_attention_layernorm", "post_attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
];

/// The GGUF names of a tensor.
fn gguf_names(name: &str) -> Vec<String> {
    let outside = OUTSIDE_BLOCKS.iter().filter(|(known, _)| *known == name).map(|(_, stored)| (*stored).to_owned());
    let Some((block, module, kind)) = in_block(name) else { return outside.collect() };
    if let Some((expert, projection)) = expert_of(module) {
        // As llama.cpp's first files with experts have them; newer ones join them.
        return vec![format!("blk.{block}.ffn_{}.{expert}.{kind}", projection.trim_end_matches("_proj"))];
    }
    let inside = IN_BLOCKS.iter().filter(|(known, _)| *known == module);
    inside.map(|(_, stored)| format!("blk.{block}.{stored}.{kind}")).collect()
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
