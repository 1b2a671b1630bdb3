//! Metadata as llama.cpp's converter writes it, and broken metadata.

use super::*;
use crate::model::architecture::QkNorm;
use Value::{Array, Bool, F32, String as Text, U32};

/// SmolLM2-135M-Instruct's own metadata.
fn smollm2() -> HashMap<String, Value> {
    let text = |value: &str| Text(value.to_owned());
    [
        ("general.architecture", text("llama")),
        ("llama.block_count", U32(30)),
        ("llama.context_length", U32(8192)),
        ("llama.embedding_length", U32(576)),
        ("llama.feed_forward_length", U32(1536)),
        ("llama.attention.head_count", U32(9)),
        ("llama.attention.head_count_kv", U32(3)),
        ("llama.rope.freq_base", F32(100_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", F32(1e-5)),
        ("llama.vocab_size", U32(49152)),
        ("llama.rope.dimension_count", U32(64)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn qwen(arch: &str) -> HashMap<String, Value> {
    let renamed = |(key, value): (String, Value)| (key.replace("llama.", &format!("{arch}.")), value);
    let mut metadata: HashMap<_, _> = smollm2().into_iter().map(renamed).collect();
    metadata.insert("general.architecture".to_owned(), Text(arch.to_owned()));
    metadata.remove(&format!("{arch}.rope.dimension_count"));
    metadata
}

fn parse(metadata: &HashMap<String, Value>, tensors: &[&str]) -> Result<Config> {
    let shape = |name: &str| match name {
        "token_embd.weight" => Some(vec![49152, 576]),
        name => tensors.contains(&name).then(|| vec![1]),
    };
    Config::from_gguf(metadata, shape, Path::new("m.gguf"))
}

fn with(mut metadata: HashMap<String, Value>, key: &str, value: Option<Value>) -> HashMap<String, Value> {
    metadata.remove(key);
    metadata.extend(value.map(|value| (key.to_owned(), value)));
    metadata
}

#[track_caller]
fn refused(metadata: &HashMap<String, Value>, words: &[&str]) {
    let error = parse(metadata, &[]).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in ["m.gguf: "].iter().chain(words) {
        assert!(message.contains(word), "{message} lacks {word}");
    }
}

#[test]
fn smollm2_reads_as_its_config_json_says() {
    let config = parse(&smollm2(), &[]).unwrap();
    let json = r#"{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "max_position_embeddings": 8192,
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05,
        "rope_theta": 100000, "tie_word_embeddings": true, "vocab_size": 49152}"#;
    let mut expected = Config::from_json(json, Path::new("config.json")).unwrap();
    assert!((config.rms_norm_eps - 1e-5).abs() < 1e-12);
    expected.rms_norm_eps = config.rms_norm_eps; // stored as f32
    assert_eq!(config, expected);
}

#[test]
fn tensors_that_are_there_set_biases_norms_and_the_untied_head() {
    let config = parse(&qwen("qwen2"), &["blk.0.attn_q.bias", "output.weight"]).unwrap();
    assert!(
        config.architecture.qkv_bias
            && !config.architecture.o_bias
            && config.architecture.qk_norm == QkNorm::Absent
            && !config.architecture.tie_word_embeddings
    );
    let config = parse(&qwen("qwen3"), &["blk.0.attn_q_norm.weight"]).unwrap();
    assert!(
        config.architecture.qk_norm == QkNorm::Head && !config.architecture.qkv_bias && config.architecture.tie_word_embeddings
    );
    assert_eq!(config.model_type, "qwen3");
    let config = parse(&smollm2(), &["blk.0.attn_output.bias", "blk.0.ffn_down.bias"]).unwrap();
    assert!(config.architecture.o_bias && config.architecture.mlp_bias);
}

#[test]
fn an_explicit_key_length_is_the_head_width() {
    let mut metadata = with(qwen("qwen3"), "qwen3.attention.key_length", Some(U32(128)));
    metadata.insert("qwen3.attention.value_length".to_owned(), U32(128));
    assert_eq!(parse(&metadata, &[]).unwrap().head_dim, 128);
    refused(&with(metadata, "qwen3.attention.value_length", Some(U32(64))), &["qwen3.attention.value_length", "128"]);
}

#[test]
fn a_list_that_repeats_one_number_is_that_number() {
    let key = "llama.attention.head_count_kv";
    let metadata = with(smollm2(), key, Some(Array(vec![U32(3); 30])));
    assert_eq!(parse(&metadata, &[]).unwrap().num_key_value_heads, 3);
    refused(&with(smollm2(), key, Some(Array(vec![U32(3), U32(9)]))), &[key]);
    refused(&with(smollm2(), key, Some(Array(vec![]))), &[key]);
    assert_eq!(parse(&with(smollm2(), key, None), &[]).unwrap().num_key_value_heads, 9);
}

#[test]
fn rope_scaling_is_linear_yarn_none_or_refused_by_name() {
    let kind = |kind: &str| with(smollm2(), "llama.rope.scaling.type", Some(Text(kind.to_owned())));
    let linear = with(kind("linear"), "llama.rope.scaling.factor", Some(F32(4.0)));
    assert_eq!(parse(&linear, &[]).unwrap().ropes[0].scaling, RopeScaling::Linear { factor: 4.0 });
    let legacy = with(smollm2(), "llama.rope.scale_linear", Some(F32(2.0)));
    assert_eq!(parse(&legacy, &[]).unwrap().ropes[0].scaling, RopeScaling::Linear { factor: 2.0 });
    assert_eq!(parse(&kind("none"), &[]).unwrap().ropes[0].scaling, RopeScaling::None);
    let yarn = with(kind("yarn"), "llama.rope.scaling.factor", Some(F32(4.0)));
    let yarn = with(yarn, "llama.rope.scaling.original_context_length", Some(U32(2048)));
    let scaling = parse(&yarn, &[]).unwrap().ropes[0].scaling.clone();
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        original_max_position_embeddings: 2048,
        attention_factor: 0.1 * 4f64.ln() + 1.0,
    };
    assert_eq!(scaling, expected);
    refused(&kind("ntk"), &["ntk", "llama.rope.scaling.type"]);
    refused(&kind("linear"), &["missing key", "llama.rope.scaling.factor"]);
    refused(&with(smollm2(), "llama.rope.dimension_count", Some(U32(32))), &["llama.rope.dimension_count"]);
}

/// A scaling by YaRN with other keys below `rope.scaling`.
fn yarn(factor: f32, more: &[(&str, f32)]) -> HashMap<String, Value> {
    let mut metadata = with(smollm2(), "llama.rope.scaling.type", Some(Text("yarn".to_owned())));
    let keys = [("factor", factor)].into_iter().chain(more.iter().copied());
    metadata.extend(keys.map(|(key, value)| (format!("llama.rope.scaling.{key}"), F32(value))));
    metadata
}

#[test]
fn the_attention_factor_of_yarn_is_what_the_file_says_in_any_of_its_keys() {
    let attention_factor = |more: &[(&str, f32)]| match parse(&yarn(8.0, more), &[]).unwrap().ropes[0].scaling {
        RopeScaling::Yarn { attention_factor, .. } => attention_factor,
        ref other => panic!("{other:?}"),
    };
    let of_factor = 0.1 * 8f64.ln() + 1.0;
    assert_eq!(attention_factor(&[]), of_factor);
    // llama.cpp's converter writes `attention_factor`, which is all of it, as it stands in OLMo 3's config.json.
    let written = attention_factor(&[("yarn_attn_factor", 1.207_944_2)]);
    assert!((written - 1.207_944_154_167_983_6).abs() < 1e-6, "{written}");
    assert_eq!(attention_factor(&[("yarn_attn_factor", 0.5)]), 0.5);
    // 1 stands for none.
    assert_eq!(attention_factor(&[("yarn_attn_factor", 1.0)]), of_factor);
    // OLMo 3's files had all of it under the older key, which multiplies it elsewhere.
    let olmo3 = |more: &[(&str, f32)]| {
        let rename = |(key, value): (String, Value)| (key.replace("llama.", "olmo2."), value);
        let metadata =
            with(yarn(8.0, more).into_iter().map(rename).collect(), "general.architecture", Some(Text("olmo2".to_owned())));
        match parse(&with(metadata, "olmo2.attention.sliding_window", Some(U32(64))), &[]).unwrap().ropes[0].scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            ref other => panic!("{other:?}"),
        }
    };
    for more in [&[("attn_factor", 0.5)][..], &[("yarn_attn_factor", 0.5)], &[("yarn_attn_factor", 0.5), ("attn_factor", 0.5)]]
    {
        assert_eq!(olmo3(more), 0.5, "{more:?}");
    }
    assert_eq!(olmo3(&[]), of_factor);
    assert_eq!(attention_factor(&[("attn_factor", 0.5)]), 0.5 * of_factor);
    assert_eq!(attention_factor(&[("yarn_log_multiplier", 1.0)]), 1.0);
    assert_eq!(attention_factor(&[("yarn_log_multiplier", 0.5)]), of_factor / (0.05 * 8f64.ln() + 1.0));
}

#[test]
fn yarn_extrapolates_wholly_or_is_refused_and_has_the_files_betas() {
    for whole in [1.0, -1.0] {
        assert!(parse(&yarn(8.0, &[("yarn_ext_factor", whole)]), &[]).is_ok());
    }
    refused(&yarn(8.0, &[("yarn_ext_factor", 0.5)]), &["llama.rope.scaling.yarn_ext_factor", "0.5", "expected 1"]);
    let config = parse(&yarn(8.0, &[("yarn_beta_fast", 16.0), ("yarn_beta_slow", 2.0)]), &[]).unwrap();
    assert!(matches!(config.ropes[0].scaling, RopeScaling::Yarn { beta_fast: 16.0, beta_slow: 2.0, .. }));
}

#[test]
fn a_sliding_window_covers_every_block_of_llama_and_mistral() {
    let metadata = with(smollm2(), "llama.attention.sliding_window", Some(U32(4096)));
    let config = parse(&metadata, &[]).unwrap();
    assert_eq!(config.architecture.windows, [Some(4096); 30]);
    refused(&with(qwen("qwen2"), "qwen2.attention.sliding_window", Some(U32(4096))), &["qwen2.attention.sliding_window"]);
}

/// SmolLM2's metadata under another architecture's name.
fn renamed(arch: &str) -> HashMap<String, Value> {
    let rename = |(key, value): (String, Value)| (key.replace("llama.", &format!("{arch}.")), value);
    with(smollm2().into_iter().map(rename).collect(), "general.architecture", Some(Text(arch.to_owned())))
}

#[test]
fn gemma_2_has_its_window_where_the_file_does_not_say_and_gemma_3_has_none() {
    let windows = |metadata: &HashMap<String, Value>| parse(metadata, &[]).unwrap().architecture.windows[..3].to_vec();
    assert_eq!(windows(&renamed("gemma2")), [Some(4096), None, Some(4096)]);
    assert_eq!(windows(&with(renamed("gemma2"), "gemma2.attention.sliding_window", Some(U32(0)))), [None; 3]);
    assert_eq!(windows(&renamed("gemma3")), [None; 3]);
    let with_window = with(renamed("gemma3"), "gemma3.attention.sliding_window", Some(U32(512)));
    assert_eq!(parse(&with_window, &[]).unwrap().architecture.windows[4..7], [Some(512), None, Some(512)]);
}

/// Metadata of this architecture with a window of 128 tokens and such a pattern of blocks.
fn windowed(arch: &str, pattern: Value) -> HashMap<String, Value> {
    let metadata = with(renamed(arch), &format!("{arch}.attention.sliding_window"), Some(U32(128)));
    with(metadata, &format!("{arch}.attention.sliding_window_pattern"), Some(pattern))
}

#[test]
fn a_pattern_of_windows_is_a_number_of_blocks_or_a_list_of_them_in_every_family() {
    let slides: Vec<bool> = (0..30).map(|block| block % 7 != 3).collect();
    let list = Array(slides.iter().map(|slides| Bool(*slides)).collect());
    let expected: Vec<_> = slides.iter().map(|slides| slides.then_some(128)).collect();
    for arch in ["gemma2", "gemma3", "llama", "qwen2", "smollm3", "phi3", "olmo2"] {
        assert_eq!(parse(&windowed(arch, list.clone()), &[]).unwrap().architecture.windows, expected, "{arch}");
        let windows = parse(&windowed(arch, U32(3)), &[]).unwrap().architecture.windows;
        assert_eq!(windows[..4], [Some(128), Some(128), None, Some(128)], "{arch}");
    }
    let key = "gemma3.attention.sliding_window_pattern";
    refused(&windowed("gemma3", Array(vec![Bool(true); 3])), &[key, "3 entries", "30 blocks"]);
    refused(&windowed("gemma3", Array(vec![])), &[key, "0 entries"]);
    refused(&windowed("gemma3", Text("every other".to_owned())), &[key, "a whole number above 0, or a list of flags"]);
    for pattern in [U32(0), Array(vec![U32(1); 30]), Array([vec![Bool(true); 29], vec![U32(1)]].concat())] {
        refused(&windowed("gemma3", pattern), &[key, "a whole number above 0, or a list of flags"]);
    }
}

/// llama.cpp's converter gives OLMo 3 the name of OLMo 2, a window, a list of its blocks, and YaRN for the others.
#[test]
fn olmo_2_with_a_window_is_olmo_3_and_scales_the_rope_of_its_other_blocks_alone() {
    let list = Array((1..=30).map(|block| Bool(block % 4 != 0)).collect());
    for metadata in [windowed("olmo2", list), with(windowed("olmo2", U32(1)), "olmo2.attention.sliding_window_pattern", None)] {
        let metadata = with(metadata, "olmo2.rope.scaling.type", Some(Text("yarn".to_owned())));
        let config = parse(&with(metadata, "olmo2.rope.scaling.factor", Some(F32(8.0))), &[]).unwrap();
        assert_eq!(config.architecture.windows[..5], [Some(128), Some(128), Some(128), None, Some(128)]);
        assert_eq!(config.architecture.ropes[..5], [1, 1, 1, 0, 1]);
        assert!(matches!(config.ropes[0].scaling, RopeScaling::Yarn { factor: 8.0, .. }));
        assert_eq!((&config.ropes[1].scaling, config.ropes[1].theta), (&RopeScaling::None, 100_000.0));
    }
    let olmo_2 = parse(&renamed("olmo2"), &[]).unwrap();
    assert_eq!((olmo_2.architecture.windows, olmo_2.ropes.len()), (vec![None; 30], 1));
}

#[test]
fn another_architecture_is_named_and_the_supported_ones_listed() {
    let of = |arch: &str| with(smollm2(), "general.architecture", Some(Text(arch.to_owned())));
    refused(&of("gpt2"), &["gpt2", "llama, mistral, qwen2"]);
    for (arch, reason) in [
        ("gpt-oss", "sinks"),
        ("qwen3next", "linear attention"),
        ("gemma4", "share keys and values"),
        ("deepseek2", "MLA"),
        ("t5", "an encoder and a decoder"),
        ("clip", "vision tower"),
        ("falcon-h1", "state-space"),
        ("granitehybrid", "state-space"),
        ("mamba", "state-space"),
    ] {
        refused(&of(arch), &["model type `", arch, "` is not supported: ", reason, "near: "]);
    }
    refused(&with(smollm2(), "llama.expert_count", Some(U32(8))), &["missing key `llama.expert_used_count`"]);
    assert!(parse(&with(smollm2(), "llama.expert_count", Some(U32(0))), &[]).is_ok());
}

#[test]
fn a_missing_zero_or_wrong_value_is_refused_with_its_key() {
    for key in ["block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"] {
        let key = format!("llama.{key}");
        refused(&with(smollm2(), &key, None), &["missing key", &key]);
        for value in [U32(0), U32(u32::MAX), F32(1.0), Bool(true), Text("30".to_owned())] {
            refused(&with(smollm2(), &key, Some(value)), &[&key]);
        }
    }
    refused(&with(smollm2(), "general.architecture", None), &["missing key `general.architecture`"]);
    refused(&with(smollm2(), "general.architecture", Some(U32(1))), &["general.architecture", "a string"]);
    refused(&with(smollm2(), "llama.attention.layer_norm_rms_epsilon", None), &["layer_norm_rms_epsilon"]);
    refused(&with(smollm2(), "llama.attention.layer_norm_rms_epsilon", Some(F32(f32::NAN))), &["rms_norm_eps NaN"]);
    refused(&with(smollm2(), "llama.rope.freq_base", Some(F32(f32::INFINITY))), &["rope_theta inf"]);
    refused(&with(smollm2(), "llama.attention.head_count_kv", Some(U32(2))), &["9", "2"]);
}

#[test]
fn a_file_without_an_embedding_is_refused() {
    let error = Config::from_gguf(&smollm2(), |_| None, Path::new("m.gguf")).unwrap_err();
    assert!(error.to_string().contains("token_embd.weight"), "{error}");
}
