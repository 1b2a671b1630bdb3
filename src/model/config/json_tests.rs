//! `config.json` as published for each family, and broken ones. Expected numbers are the models' own, or the defaults of
//! `transformers`' configuration classes.

use super::*;
use crate::model::architecture::QkNorm;

const LLAMA_2: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
  "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float16", "use_cache": true, "vocab_size": 32000
}"#;

const LLAMA_3_2: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
  "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256
}"#;

const MISTRAL_V01: &str = r#"{
  "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
  "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
  "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
  "tie_word_embeddings": false, "vocab_size": 32000
}"#;

const QWEN_2_5: &str = r#"{
  "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
  "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
  "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "use_sliding_window": false,
  "vocab_size": 151936
}"#;

const QWEN_3: &str = r#"{
  "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "bos_token_id": 151643, "eos_token_id": 151645,
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
  "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
  "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
}"#;

fn parse(text: &str) -> Result<Config> {
    Config::from_json(text, Path::new("m/config.json"))
}

/// The text with some keys set to JSON values, or removed with an empty one.
fn with(text: &str, changes: &[(&str, &str)]) -> String {
    let mut map = parse_object(text, Path::new("")).unwrap();
    for (key, value) in changes {
        map.remove(*key);
        if !value.is_empty() {
            map.insert((*key).to_owned(), serde_json::from_str(value).unwrap());
        }
    }
    serde_json::to_string(&map).unwrap()
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let error = parse(text).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with("m/config.json: ") && !message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "{message} lacks {word}");
    }
}

#[test]
fn llama_2_has_a_head_for_each_key_and_no_scaling() {
    let expected = Config {
        model_type: "llama".to_owned(),
        hidden_size: 4096,
        intermediate_size: 11008,
        vocab_size: 32000,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 128,
        rms_norm_eps: 1e-5,
        ropes: vec![RopeParameters::plain(10_000.0, 128)],
        max_position_embeddings: 4096,
        architecture: Architecture::llama(32),
    };
    assert_eq!(parse(LLAMA_2).unwrap(), expected);
}

#[test]
fn llama_defaults_are_those_of_transformers() {
    let keys = ["num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_scaling"];
    let config = parse(&with(LLAMA_2, &keys.map(|key| (key, "")))).unwrap();
    assert_eq!((config.num_key_value_heads, config.max_position_embeddings, config.rms_norm_eps), (32, 2048, 1e-6));
    assert!(!config.architecture.tie_word_embeddings);
}

#[test]
fn llama_biases_follow_their_two_keys() {
    let config = parse(&with(LLAMA_2, &[("attention_bias", "true")])).unwrap();
    assert!(config.architecture.qkv_bias && config.architecture.o_bias && !config.architecture.mlp_bias);
    let config = parse(&with(LLAMA_2, &[("mlp_bias", "true")])).unwrap();
    assert!(!config.architecture.qkv_bias && !config.architecture.o_bias && config.architecture.mlp_bias);
}

#[test]
fn llama_3_2_scales_by_wavelength() {
    let config = parse(LLAMA_3_2).unwrap();
    let scaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!((config.ropes[0].theta, config.ropes[0].scaling.clone()), (500_000.0, scaling));
    assert_eq!((config.head_dim, config.num_key_value_heads, config.architecture.tie_word_embeddings), (64, 8, true));
}

#[test]
fn the_newer_rope_parameters_mean_the_same_as_the_older_keys() {
    let newer = r#"{"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3", "rope_theta": 500000.0}"#;
    let text = with(LLAMA_3_2, &[("rope_scaling", ""), ("rope_theta", ""), ("rope_parameters", newer)]);
    assert_eq!(parse(&text).unwrap(), parse(LLAMA_3_2).unwrap());
    let plain = r#"{"rope_theta": 1000000.0, "rope_type": "default"}"#;
    let config = parse(&with(MISTRAL_V01, &[("rope_theta", ""), ("rope_parameters", plain)])).unwrap();
    assert_eq!((config.ropes[0].theta, config.ropes[0].scaling.clone()), (1e6, RopeScaling::None));
}

/// Every tiny model whose `config.json` has the older keys.
#[test]
fn what_transformers_5_saves_means_the_same_as_what_older_versions_saved() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut renamed = 0;
    for folder in std::fs::read_dir(fixtures).unwrap() {
        let path = folder.unwrap().path().join("config.json");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let expected = parse(&text).unwrap();
        let mut root = parse_object(&text, &path).unwrap();
        if let Some(dtype) = root.remove("torch_dtype") {
            root.insert("dtype".to_owned(), dtype);
        }
        let keys = match root.contains_key("text_config") {
            true => root.get_mut("text_config").unwrap().as_object_mut().unwrap(),
            false => &mut root,
        };
        if keys.contains_key("rope_parameters") {
            continue;
        }
        rename_as_transformers_5_does(keys, &expected);
        assert_eq!(parse(&Value::Object(root).to_string()).unwrap(), expected, "{}", path.display());
        renamed += 1;
    }
    assert!(renamed > 15, "{renamed}");
}

/// Gives a language model's rotary embeddings and the blocks with a window as transformers 5 does.
fn rename_as_transformers_5_does(keys: &mut Map<String, Value>, config: &Config) {
    let family = Family::of(&config.model_type).unwrap();
    let mut rope = match keys.remove("rope_scaling") {
        Some(Value::Object(scaling)) => scaling,
        _ => Map::new(),
    };
    let kind = rope.remove("type").or_else(|| rope.remove("rope_type"));
    rope.insert("rope_type".to_owned(), kind.unwrap_or_else(|| "default".into()));
    rope.insert("rope_theta".to_owned(), config.ropes[0].theta.into());
    rope.extend(keys.remove("partial_rotary_factor").map(|factor| ("partial_rotary_factor".to_owned(), factor)));
    for older in ["rope_theta", "rope_local_base_freq", "sliding_window_pattern"] {
        keys.remove(older);
    }
    if matches!(family.rope, RopeOfBlocks::OwnOfSliding { .. }) {
        let own = serde_json::json!({"rope_type": "default", "rope_theta": config.ropes[1].theta});
        let both = [("full_attention".to_owned(), Value::Object(rope)), ("sliding_attention".to_owned(), own)];
        rope = both.into_iter().collect();
    }
    keys.insert("rope_parameters".to_owned(), Value::Object(rope));
    if matches!(family.sliding, Sliding::NamedBlocks | Sliding::WithoutRope | Sliding::Pattern { .. }) {
        let kind = |window: &Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
        keys.insert("layer_types".to_owned(), config.architecture.windows.iter().map(kind).collect::<Value>());
    }
}

#[test]
fn linear_and_dynamic_scaling_are_read_under_either_name_of_the_kind() {
    let config = parse(&with(LLAMA_2, &[("rope_scaling", r#"{"type": "linear", "factor": 4.0}"#)])).unwrap();
    assert_eq!(config.ropes[0].scaling, RopeScaling::Linear { factor: 4.0 });
    let config = parse(&with(LLAMA_2, &[("rope_scaling", r#"{"rope_type": "dynamic", "factor": 2}"#)])).unwrap();
    assert_eq!(config.ropes[0].scaling, RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: 4096 });
}

#[test]
fn scaling_of_another_kind_is_refused_by_name() {
    let scaling = r#"{"rope_type": "proportional", "factor": 4.0}"#;
    refused(&with(QWEN_2_5, &[("rope_scaling", scaling)]), &["proportional", "llama3"]);
    refused(&with(LLAMA_2, &[("partial_rotary_factor", "0.5")]), &["partial_rotary_factor 0.5"]);
}

#[test]
fn broken_scaling_names_its_key() {
    refused(&with(LLAMA_2, &[("rope_scaling", r#"{"type": "linear"}"#)]), &["`factor`"]);
    refused(&with(LLAMA_2, &[("rope_scaling", r#"{"type": "linear", "factor": 0}"#)]), &["`factor` 0"]);
    refused(&with(LLAMA_2, &[("rope_scaling", r#"{"type": "linear", "factor": "2"}"#)]), &["`factor`", "a number"]);
    refused(&with(LLAMA_2, &[("rope_scaling", r#"{"rope_type": "llama3", "factor": 8}"#)]), &["low_freq_factor"]);
    let equal = r#"{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}"#;
    refused(&with(LLAMA_2, &[("rope_scaling", equal)]), &["low_freq_factor", "high_freq_factor"]);
    refused(&with(LLAMA_2, &[("rope_scaling", "4")]), &["rope_scaling", "an object"]);
}

#[test]
fn mistral_uses_its_window_in_every_block_unless_it_is_null() {
    let config = parse(MISTRAL_V01).unwrap();
    assert_eq!(config.architecture.windows, [Some(4096); 32]);
    let config = parse(&with(MISTRAL_V01, &[("sliding_window", "null")])).unwrap();
    assert_eq!(config.architecture.windows, [None; 32]);
    let absent = ["sliding_window", "num_key_value_heads", "max_position_embeddings"].map(|key| (key, ""));
    let config = parse(&with(MISTRAL_V01, &absent)).unwrap();
    assert_eq!(config.architecture.windows, [Some(4096); 32]);
    assert_eq!((config.num_key_value_heads, config.max_position_embeddings), (8, 131_072));
}

#[test]
fn qwen_2_5_has_biases_on_queries_keys_and_values_alone() {
    let config = parse(QWEN_2_5).unwrap();
    assert!(
        config.architecture.qkv_bias
            && !config.architecture.o_bias
            && !config.architecture.mlp_bias
            && config.architecture.qk_norm == QkNorm::Absent
            && config.architecture.tie_word_embeddings
    );
    assert_eq!((config.head_dim, config.num_key_value_heads, config.rms_norm_eps), (64, 2, 1e-6));
    assert_eq!(config.architecture.windows, [None; 24]);
}

#[test]
fn qwen_slides_above_max_window_layers_or_where_layer_types_says() {
    let config = parse(&with(QWEN_2_5, &[("use_sliding_window", "true")])).unwrap();
    let expected: Vec<_> = (0..24).map(|layer| (layer >= 21).then_some(32768)).collect();
    assert_eq!(config.architecture.windows, expected);
    let types = r#"["full_attention", "sliding_attention", "full_attention"]"#;
    let three = [("use_sliding_window", "true"), ("num_hidden_layers", "3"), ("layer_types", types)];
    assert_eq!(parse(&with(QWEN_2_5, &three)).unwrap().architecture.windows, [None, Some(32768), None]);
    refused(&with(QWEN_2_5, &[three[0], three[2]]), &["layer_types has 3", "24"]);
    refused(&with(QWEN_2_5, &[three[0], ("layer_types", r#"["chunked_attention"]"#)]), &["layer_types", "chunked_attention"]);
}

#[test]
fn qwen_3_has_norms_on_queries_and_keys_and_its_own_head_width() {
    let config = parse(QWEN_3).unwrap();
    assert!(config.architecture.qk_norm == QkNorm::Head && !config.architecture.qkv_bias && !config.architecture.o_bias);
    assert_eq!((config.head_dim, config.hidden_size / config.num_attention_heads), (128, 64));
    assert_eq!(parse(&with(QWEN_3, &[("head_dim", "")])).unwrap().head_dim, 128);
    let config = parse(&with(QWEN_3, &[("attention_bias", "true")])).unwrap();
    assert!(config.architecture.qkv_bias && config.architecture.o_bias);
}

#[test]
fn another_architecture_is_named_and_the_supported_ones_listed() {
    for model_type in ["gpt2", "gemma", "qwen2_moe"] {
        let text = format!(r#"{{"model_type": "{model_type}", "n_embd": 768}}"#);
        refused(&text, &[model_type, "llama, mistral, qwen2, qwen3"]);
    }
}

#[test]
fn families_that_need_what_is_not_built_are_refused_with_the_reason_and_what_is_near() {
    for (model_type, words) in [
        ("qwen3_next", ["linear attention", "qwen3-8b"]),
        ("gpt_oss", ["sinks", "qwen3-14b"]),
        ("deepseek_v3", ["latent", "Qwen2"]),
        ("t5", ["encoder", "smollm2"]),
        ("kimi_linear", ["linear attention", "qwen3-8b"]),
        ("deepseek_v4", ["compressed keys", "Qwen2"]),
        ("mistral3", ["vision tower", "text model"]),
        ("siglip", ["vision tower", "generates no text"]),
    ] {
        refused(&format!(r#"{{"model_type": "{model_type}"}}"#), &[&[model_type], &words[..]].concat());
    }
}

/// Gemma 3 4B's `text_config`, as published.
const GEMMA_3_4B: &str = r#"{"model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
  "model_type": "gemma3_text", "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
  "sliding_window": 1024}, "vision_config": {"hidden_size": 1152}}"#;

#[test]
fn gemma_3_takes_what_its_file_leaves_out_from_its_family() {
    let config = parse(GEMMA_3_4B).unwrap();
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.vocab_size, config.architecture.attention_scale), (262_208, Some(1.0 / 16.0)));
    let [full, own] = &config.ropes[..] else { panic!("{:?}", config.ropes) };
    // The scaling is of the blocks without a window.
    assert_eq!((full.theta, &full.scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((own.theta, &own.scaling), (1e4, &RopeScaling::None));
    assert_eq!(config.architecture.windows[4..7], [Some(1024), None, Some(1024)]);
    assert_eq!(config.architecture.ropes[4..7], [1, 0, 1]);
}

#[test]
fn each_kind_of_gemma_3s_blocks_has_its_own_rope_parameters() {
    let newer = r#""rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0}, "sliding_attention": {"rope_type":
        "default"}}"#;
    let text = GEMMA_3_4B.replace(r#""rope_scaling": {"factor": 8.0, "rope_type": "linear"}"#, newer);
    let ropes = parse(&text).unwrap().ropes;
    assert_eq!((ropes[0].theta, &ropes[0].scaling), (1e6, &RopeScaling::Linear { factor: 4.0 }));
    assert_eq!((ropes[1].theta, &ropes[1].scaling), (1e4, &RopeScaling::None));
    // With both forms, the older one is of the blocks without a window alone.
    let both = GEMMA_3_4B.replace(r#""sliding_window""#, &format!(r#"{newer}, "sliding_window""#));
    let ropes = parse(&both).unwrap().ropes;
    assert_eq!((&ropes[0].scaling, &ropes[1].scaling), (&RopeScaling::Linear { factor: 8.0 }, &RopeScaling::None));
    let without = GEMMA_3_4B.replace("1024}", "null}");
    refused(&without, &["sliding_window", "a rope of their own"]);
}

#[test]
fn experts_have_the_defaults_of_their_family_and_either_name() {
    let moe = |more: &str| {
        format!(
            r#"{{"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 320,
                "num_hidden_layers": 4, "num_attention_heads": 8{more}}}"#
        )
    };
    let experts = |more: &str| parse(&moe(more)).unwrap().architecture.experts;
    let plain = experts("").unwrap();
    assert_eq!((plain.count, plain.per_token, plain.intermediate_size, plain.normalised), (128, 8, 768, false));
    let named = experts(r#", "num_local_experts": 16, "decoder_sparse_step": 2, "mlp_only_layers": [3, 99]"#).unwrap();
    assert_eq!((named.count, named.blocks.as_slice()), (16, &[false, true, false, false][..]));
    assert_eq!(experts(r#", "num_experts": 0"#), None);
    refused(&moe(r#", "num_experts": 2"#), &["8 experts", "of 2"]);
}

#[test]
fn what_would_run_wrongly_is_refused() {
    refused(&with(LLAMA_2, &[("hidden_act", r#""gelu""#)]), &["hidden_act", "gelu", "silu"]);
    refused(&with(LLAMA_2, &[("quantization_config", r#"{"quant_method": "gptq", "bits": 4}"#)]), &["gptq"]);
}

#[test]
fn another_family_is_refused_for_what_its_file_says_of_it() {
    let vision = r#"{"hidden_size": 1024}"#;
    for model_type in ["cohere2_vision", "idefics2", "glm4v", "blip-2", "a_later_one"] {
        let quoted = format!("\"{model_type}\"");
        refused(
            &with(LLAMA_2, &[("model_type", &quoted), ("vision_config", vision)]),
            &[model_type, "vision tower", "near: the text model"],
        );
        let text = with(LLAMA_2, &[("model_type", &quoted), ("is_encoder_decoder", "true")]);
        refused(&text, &[model_type, "an encoder and a decoder", "near: SmolLM2"]);
        for nothing in ["false", "null"] {
            let text = with(LLAMA_2, &[("model_type", &quoted), ("is_encoder_decoder", nothing), ("vision_config", "null")]);
            refused(&text, &[model_type, "expected one of llama, mistral"]);
        }
    }
    // What is known of a name comes first.
    refused(&with(LLAMA_2, &[("model_type", r#""kimi_k2""#), ("vision_config", vision)]), &["kimi_k2", "MLA"]);
}

const OLMO_3: &str = r#"{
  "architectures": ["Olmo3ForCausalLM"], "attention_bias": false, "hidden_act": "silu", "hidden_size": 4096,
  "intermediate_size": 11008, "max_position_embeddings": 65536, "model_type": "olmo3", "num_attention_heads": 32,
  "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-06, "rope_scaling": {"attention_factor":
  1.2079441541679836, "beta_fast": 32, "beta_slow": 1, "factor": 8.0, "original_max_position_embeddings": 8192, "rope_type":
  "yarn"}, "rope_theta": 500000, "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 100278
}"#;

#[test]
fn olmo_3_is_olmo_2_with_windows_in_three_of_four_blocks_and_yarn_in_the_others() {
    let config = parse(OLMO_3).unwrap();
    let yarn = RopeScaling::Yarn {
        factor: 8.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        original_max_position_embeddings: 8192,
        attention_factor: 1.2079441541679836,
    };
    assert_eq!(
        config.ropes.iter().map(|rope| (rope.theta, &rope.scaling)).collect::<Vec<_>>(),
        [(5e5, &yarn), (5e5, &RopeScaling::None)]
    );
    let architecture = &config.architecture;
    assert_eq!(architecture.windows[..5], [Some(4096), Some(4096), Some(4096), None, Some(4096)]);
    assert_eq!(architecture.ropes[..5], [1, 1, 1, 0, 1]);
    let olmo_2 = parse(&with(OLMO_3, &[("model_type", r#""olmo2""#)])).unwrap().architecture;
    assert_eq!((architecture.norms, architecture.qk_norm), (olmo_2.norms, olmo_2.qk_norm));
    assert_eq!((&olmo_2.windows, &olmo_2.ropes), (&vec![None; 32], &vec![0; 32]));
    // As transformers 5 saves it, and with the defaults of its class.
    let types: Vec<_> =
        (0..32).map(|block| if block == 5 { r#""full_attention""# } else { r#""sliding_attention""# }).collect();
    let newer = r#"{"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}, "sliding_attention":
        {"rope_type": "default", "rope_theta": 10000.0}}"#;
    let types = format!("[{}]", types.join(", "));
    let keys = ["rope_scaling", "rope_theta", "sliding_window"].map(|key| (key, ""));
    let changes = [keys.as_slice(), &[("rope_parameters", newer), ("layer_types", &types)]].concat();
    let config = parse(&with(OLMO_3, &changes)).unwrap();
    assert_eq!((config.ropes[0].theta, &config.ropes[0].scaling), (5e5, &RopeScaling::Linear { factor: 2.0 }));
    assert_eq!((config.ropes[1].theta, &config.ropes[1].scaling), (1e4, &RopeScaling::None));
    assert_eq!((config.architecture.windows[4], config.architecture.windows[5]), (Some(4096), None));
}

#[test]
fn a_missing_key_is_named() {
    for key in ["model_type", "hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads"] {
        refused(&with(LLAMA_2, &[(key, "")]), &["missing key", key]);
        refused(&with(LLAMA_2, &[(key, "null")]), &["missing key", key]);
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for key in ["hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads", "head_dim"] {
        for value in ["0", "-1", "1.5", "\"4096\"", "99999999999999999999", "1000000000000", "[]"] {
            refused(&with(LLAMA_2, &[(key, value)]), &[key, "a whole number"]);
        }
    }
    refused(&with(LLAMA_2, &[("num_hidden_layers", "16777216")]), &["16777216 blocks"]);
    refused(&with(LLAMA_2, &[("num_attention_heads", "33")]), &["hidden_size 4096", "33"]);
    refused(&with(LLAMA_2, &[("num_key_value_heads", "5")]), &["num_key_value_heads", "32", "5"]);
    refused(&with(LLAMA_2, &[("head_dim", "63")]), &["head_dim 63 is odd"]);
    refused(&with(LLAMA_2, &[("rms_norm_eps", "0")]), &["rms_norm_eps 0"]);
    refused(&with(LLAMA_2, &[("rope_theta", "-1")]), &["rope_theta -1"]);
    refused(&with(MISTRAL_V01, &[("sliding_window", "0")]), &["sliding_window"]);
}

#[test]
fn text_that_is_no_json_object_is_refused() {
    refused("", &["broken JSON"]);
    refused("{\"hidden_size\": ", &["broken JSON"]);
    refused("{\"rms_norm_eps\": NaN}", &["broken JSON"]);
    refused("[1, 2]", &["a JSON object"]);
}
