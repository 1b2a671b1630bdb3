//! Names of published files, and rows within larger tensors.

use super::*;
use crate::model::architecture::{Architecture, Experts};
use crate::model::config::RopeParameters;
use crate::model::shapes::Shape;

const HUGGING_FACE: Naming = Naming::HuggingFace { prefix: "model." };

/// Where a file may have a tensor: name, shape, first row.
fn candidates(naming: Naming, name: &str, shape: &[usize], config: &Config) -> Vec<(String, Vec<usize>, usize)> {
    naming
        .candidates(name, shape, config)
        .into_iter()
        .map(|candidate| (candidate.name, candidate.shape, candidate.first_row))
        .collect()
}

#[test]
fn every_hugging_face_name_has_its_gguf_name() {
    for (name, stored) in [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.12.input_layernorm.weight", "blk.12.attn_norm.weight"),
        ("model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight"),
        ("model.layers.3.self_attn.v_proj.bias", "blk.3.attn_v.bias"),
        ("model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
        ("model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
        ("model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"),
        ("model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight"),
        ("model.layers.0.post_feedforward_layernorm.weight", "blk.0.post_ffw_norm.weight"),
        ("model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"),
        ("model.layers.0.mlp.up_proj.bias", "blk.0.ffn_up.bias"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.0.mlp.gate.weight", "blk.0.ffn_gate_inp.weight"),
    ] {
        assert_eq!(candidates(Naming::Gguf, name, &[4, 4], &Shape::Tiny.config())[0].0, stored);
    }
    // After attention where there is such a norm; else it is the one before the MLP.
    let norms = candidates(Naming::Gguf, "model.layers.0.post_attention_layernorm.weight", &[4], &Shape::Tiny.config());
    assert_eq!(norms.map_names(), ["blk.0.post_attention_norm.weight", "blk.0.ffn_norm.weight"]);
    assert!(candidates(Naming::Gguf, "model.layers.0.mlp.experts.weight", &[4], &Shape::Tiny.config()).is_empty());
}

trait Names {
    fn map_names(&self) -> Vec<&str>;
}

impl Names for Vec<(String, Vec<usize>, usize)> {
    fn map_names(&self) -> Vec<&str> {
        self.iter().map(|(name, ..)| name.as_str()).collect()
    }
}

#[test]
fn projections_may_be_rows_of_a_larger_one() {
    let config = Shape::Tiny.config(); // 4 heads of 16, 2 of keys and values; MLP 176
    for (module, rows, first, fused) in [
        ("self_attn.q_proj", 64, 0, "self_attn.qkv_proj"),
        ("self_attn.k_proj", 32, 64, "self_attn.qkv_proj"),
        ("self_attn.v_proj", 32, 96, "self_attn.qkv_proj"),
        ("mlp.gate_proj", 176, 0, "mlp.gate_up_proj"),
        ("mlp.up_proj", 176, 176, "mlp.gate_up_proj"),
    ] {
        let candidates = candidates(HUGGING_FACE, &format!("model.layers.2.{module}.weight"), &[rows, 64], &config);
        let all = if fused.ends_with("qkv_proj") { 128 } else { 352 };
        assert!(candidates.contains(&(format!("model.layers.2.{fused}.weight"), vec![all, 64], first)), "{candidates:?}");
    }
}

#[test]
fn experts_may_be_joined() {
    let experts = Experts { count: 4, per_token: 2, intermediate_size: 8, normalised: true, blocks: vec![true; 4] };
    let config =
        Config { architecture: Architecture { experts: Some(experts), ..Architecture::llama(4) }, ..Shape::Tiny.config() };
    let name = |projection: &str| format!("model.layers.1.mlp.experts.3.{projection}.weight");
    let up = candidates(HUGGING_FACE, &name("up_proj"), &[8, 64], &config);
    assert!(up.contains(&("model.layers.1.block_sparse_moe.experts.3.w3.weight".to_owned(), vec![8, 64], 0)), "{up:?}");
    assert!(up.contains(&("model.layers.1.mlp.experts.gate_up_proj".to_owned(), vec![4, 16, 64], 3 * 16 + 8)), "{up:?}");
    let down = candidates(Naming::Gguf, &name("down_proj"), &[64, 8], &config);
    assert!(down.contains(&("blk.1.ffn_down_exps.weight".to_owned(), vec![4, 64, 8], 3 * 64)), "{down:?}");
}

#[test]
fn a_language_model_may_be_part_of_a_larger_one() {
    for prefix in PREFIXES {
        let naming = Naming::of_safetensors(|name| name == format!("{prefix}embed_tokens.weight"));
        let name = "model.layers.0.mlp.up_proj.weight";
        let found = naming.candidates(name, &[4, 4], &Shape::Tiny.config());
        assert_eq!(found[0].name, format!("{prefix}layers.0.mlp.up_proj.weight"));
        assert!(!naming.is_of_language_model("vision_tower.patch_embedding.weight") || prefix.is_empty());
    }
}

#[test]
fn rows_of_partly_rotated_heads_pair_up_with_half_the_head_between() {
    let mut config = Shape::Tiny.config();
    config.ropes = vec![RopeParameters { rotary_dim: 4, ..config.ropes[0].clone() }];
    let order = order_of("model.layers.0.self_attn.k_proj.weight", &config, HUGGING_FACE);
    // Two heads of 16, of which dimensions 0 and 2, and 1 and 3 are the rotated pairs.
    let stored: Vec<usize> = (0..32).map(|row| order.stored(row, 32)).collect();
    let head = [0, 1, 4, 5, 6, 7, 8, 9, 2, 3, 10, 11, 12, 13, 14, 15];
    assert_eq!(stored[..16], head);
    assert_eq!(stored[16..], head.map(|row| row + 16));
}
