//! What GGUF files call the tensors that the decoder asks for by their Hugging Face names.

/// Tensors of the whole model.
const OUTSIDE_BLOCKS: [(&str, &str); 4] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("rope_freqs.weight", "rope_freqs.weight"),
];

/// Modules of a block: `model.layers.3.mlp.up_proj.bias` is `blk.3.ffn_up.bias`.
const IN_BLOCKS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The GGUF name of a Hugging Face tensor.
pub(super) fn gguf_name(name: &str) -> Option<String> {
    let stored =
        |table: &[(&str, &'static str)], name: &str| table.iter().find(|(known, _)| *known == name).map(|(_, stored)| *stored);
    if let Some(stored) = stored(&OUTSIDE_BLOCKS, name) {
        return Some(stored.to_owned());
    }
    let (block, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    Some(format!("blk.{block}.{}.{kind}", stored(&IN_BLOCKS, module)?))
}
