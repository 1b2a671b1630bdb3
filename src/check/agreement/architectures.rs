//! A tiny configuration of every architecture that the decoder implements. Each differs from the first as its name says.

use crate::model::architecture::{Activation, Architecture, Experts, Norms, QkNorm};
use crate::model::config::{Config, RopeParameters, RopeScaling};
use crate::model::shapes::Shape;

/// Returns the name and configuration of each architecture. The rotary scalings take 16 tokens for the trained context, so that
/// longer sequences exceed it.
pub fn architectures() -> Vec<(&'static str, Config)> {
    let llama = llama();
    let scaled = |scaling| Config { ropes: vec![RopeParameters { scaling, ..llama.ropes[0].clone() }], ..llama.clone() };
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
        ("qwen3", Config { head_dim: 32, ..built("qwen3", Architecture { qk_norm: QkNorm::Head, ..plain() }) }),
        ("linear rope scaling", scaled(RopeScaling::Linear { factor: 2.0 })),
        ("dynamic rope scaling", scaled(RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: trained })),
        ("llama 3 rope scaling", scaled(llama_3)),
        ("rope factors", scaled(RopeScaling::Factors((0..8).map(|i| 1.0 + 0.25 * i as f32).collect()))),
        ("yarn rope scaling", scaled(yarn(trained))),
        ("gemma2", gemma2()),
        ("gemma3", gemma3()),
        ("phi3", phi3(trained / 2)),
        ("olmo2", built("olmo2", olmo2())),
        ("olmo3", olmo3(trained)),
        ("granite", built("granite", granite())),
        ("smollm3", smollm3()),
        ("mixtral", built("mixtral", Architecture { experts: Some(experts(true, [true; LAYERS])), ..plain() })),
        ("mixtral, all experts", built("mixtral", all_experts())),
        ("qwen3_moe", built("qwen3_moe", qwen3_moe())),
    ]
}

/// Norms behind each sub-layer, and over all heads.
fn olmo2() -> Architecture {
    let norms = Norms { before: false, after: true, one_plus_weight: false };
    Architecture { norms, qk_norm: QkNorm::AllHeads, ..plain() }
}

/// Windows in two blocks, and YaRN in the other.
fn olmo3(trained: usize) -> Config {
    let config = built("olmo3", Architecture { windows: vec![Some(5), None, Some(5)], ropes: vec![1, 0, 1], ..olmo2() });
    let own = config.ropes[0].clone();
    Config { ropes: vec![RopeParameters { scaling: yarn(trained), ..own.clone() }, own], ..config }
}

/// Norms on both sides of each sub-layer, softcaps, and a window in every other block.
fn gemma2() -> Config {
    let architecture = Architecture {
        norms: Norms { before: true, after: true, one_plus_weight: true },
        attention_scale: Some(0.2),
        attention_softcap: Some(5.0),
        windows: vec![Some(5), None, Some(5)],
        activation: Activation::GeluTanh,
        embedding_multiplier: 8.0,
        logit_softcap: Some(8.0),
        tie_word_embeddings: true,
        ..plain()
    };
    built("gemma2", architecture)
}

/// Norms of heads, and a rotary embedding of their own in blocks with a window.
fn gemma3() -> Config {
    let config = gemma2();
    let [mut full, own] = [1e6, 1e4].map(|theta| RopeParameters::plain(theta, config.head_dim));
    full.scaling = RopeScaling::Linear { factor: 8.0 };
    let architecture = Architecture {
        qk_norm: QkNorm::Head,
        attention_softcap: None,
        logit_softcap: None,
        ropes: vec![1, 0, 1],
        ..config.architecture
    };
    Config { model_type: "gemma3_text".into(), ropes: vec![full, own], architecture, ..config }
}

/// Half of each head rotated, by LongRoPE.
fn phi3(trained: usize) -> Config {
    let rotary_dim = llama().head_dim / 2;
    let scaling = RopeScaling::LongRope {
        short_factor: vec![1.0; rotary_dim / 2],
        long_factor: (0..rotary_dim / 2).map(|i| 1.0 + i as f32).collect(),
        original_max_position_embeddings: trained,
        attention_factor: 1.2,
    };
    Config { ropes: vec![RopeParameters { theta: 1e4, rotary_dim, scaling }], ..built("phi3", plain()) }
}

fn granite() -> Architecture {
    Architecture {
        attention_scale: Some(0.1),
        embedding_multiplier: 6.0,
        residual_multiplier: 0.3,
        logit_multiplier: 0.25,
        ..plain()
    }
}

/// One block without a rotary embedding.
fn smollm3() -> Config {
    let rotated = llama().ropes[0].clone();
    let none = RopeParameters { scaling: RopeScaling::NoRotation, ..rotated.clone() };
    let architecture = Architecture { ropes: vec![0, 0, 1], ..plain() };
    Config { ropes: vec![rotated, none], ..built("smollm3", architecture) }
}

fn all_experts() -> Architecture {
    let experts = experts(true, [true; LAYERS]);
    Architecture { experts: Some(Experts { per_token: experts.count, ..experts }), ..plain() }
}

/// One block without experts.
fn qwen3_moe() -> Architecture {
    Architecture { qk_norm: QkNorm::Head, experts: Some(experts(false, [true, false, true])), ..plain() }
}

fn experts(normalised: bool, blocks: [bool; LAYERS]) -> Experts {
    Experts { count: 4, per_token: 2, intermediate_size: 48, normalised, blocks: blocks.to_vec() }
}

fn yarn(trained: usize) -> RopeScaling {
    RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        original_max_position_embeddings: trained,
        attention_factor: 1.1386,
    }
}

/// Whether a token goes through some experts of several: two that are nearly as likely fall either way where numbers are
/// rounded to 16 bits, and everything after them differs.
pub fn chooses_experts(config: &Config) -> bool {
    config.architecture.experts.as_ref().is_some_and(|experts| experts.per_token < experts.count)
}

/// Returns the name and configuration of architectures for sequences longer than any kernel's tile: one with heads as wide as
/// those of 7B models, and one with those of Gemma 2, where a window ends within a tile.
pub fn wide_heads() -> [(&'static str, Config); 2] {
    let gemma2 = Config { head_dim: 256, ropes: vec![RopeParameters::plain(1e4, 256)], ..gemma2() };
    let windows = vec![Some(70), None, Some(70)];
    // A vector changes little where embeddings are much larger than it, and 16 bits round that change.
    let embedding_multiplier = 1.0;
    let architecture = Architecture { attention_scale: Some(1.0 / 16.0), windows, embedding_multiplier, ..gemma2.architecture };
    [
        ("wide heads, long pairs", Config { head_dim: 128, ..llama() }),
        ("gemma2, wide heads, long pairs", Config { architecture, ..gemma2 }),
    ]
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
