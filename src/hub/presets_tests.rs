//! Tests of `presets`.

use super::*;
use crate::hub::repo_id::RepoId;
use crate::text::chat::ChatTemplate;

#[test]
fn a_preset_is_found_by_alias_repository_folder_and_gguf_file() {
    for name in [
        "smollm2",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "smollm2-135m-instruct-q8_0.gguf",
        "SmolLM2-135M-Instruct-F16.gguf",
        "SmolLM2-135M-Instruct.gguf",
    ] {
        assert_eq!(find(name).map(|preset| preset.alias), Some("smollm2"), "{name}");
    }
}

#[test]
fn another_model_whose_name_begins_alike_has_no_preset() {
    for name in ["Qwen3-0.6B-Base", "Qwen3-0.6B-Base.gguf", "qwen3-0.6b-base-q8_0.gguf", "Mistral-7B-Instruct-v0.21.gguf", "x"]
    {
        assert_eq!(find(name), None, "{name}");
    }
}

#[test]
fn every_preset_steers_a_layer_that_exists_and_aliases_differ() {
    for (index, preset) in PRESETS.iter().enumerate() {
        assert!(preset.layer < preset.num_hidden_layers, "{}", preset.alias);
        assert!(PRESETS.iter().skip(index + 1).all(|other| other.alias != preset.alias && other.repo != preset.repo));
    }
    let numbers = |alias| find(alias).map(|preset| (preset.layer, preset.lr));
    // AxBench's layers for Gemma 2; the rule for the others.
    assert_eq!(numbers("gemma-2-2b"), Some((10, 2e-3)));
    assert_eq!(numbers("gemma-2-9b"), Some((20, 2e-3)));
    assert_eq!(numbers("llama-3.1-8b"), Some((14, 5e-4)));
    assert_eq!(numbers("qwen3-32b"), Some((28, 5e-4)));
    assert_eq!(find("llama-2").map(|preset| (preset.layer, preset.lr)), Some((15, 5e-4)));
    assert_eq!(find("mistral").map(|preset| (preset.layer, preset.lr)), Some((13, 5e-4)));
}

#[test]
fn layers_and_rates_without_a_source_are_those_of_the_rules() {
    let by_rule = |from: &str| PRESETS.iter().filter(|preset| [preset.layer_from, preset.lr_from].contains(&from)).count();
    assert!(by_rule(DEPTH) > 20 && by_rule(WIDTH) > 20);
    for preset in &PRESETS {
        let (alias, layer, lr) = (preset.alias, default_layer(preset.num_hidden_layers), default_lr(preset.hidden_size));
        assert!(preset.layer_from != DEPTH || preset.layer == layer, "{alias}: layer {} is not {layer}", preset.layer);
        assert!(preset.lr_from != WIDTH || preset.lr == lr, "{alias}: rate {} is not {lr}", preset.lr);
    }
    let rates = ["tinyllama", "smollm2-1.7b", "llama-3.2-1b", "qwen3-0.6b"].map(|alias| find(alias).map(|preset| preset.lr));
    assert_eq!(rates, [Some(2e-3), Some(2e-3), Some(2e-3), Some(5e-3)]);
    let largest = ["qwen2.5-72b", "qwen3-235b-a22b"].map(|alias| find(alias).map(|preset| (preset.layer, preset.lr)));
    assert_eq!(largest, [Some((36, 5e-4)), Some((42, 5e-4))]);
}

#[test]
fn aliases_and_repositories_are_names_that_the_hub_and_the_user_can_write() {
    for preset in &PRESETS {
        assert!(RepoId::parse(preset.repo).is_some(), "{}", preset.repo);
        assert_eq!(preset.alias, preset.alias.to_ascii_lowercase());
        assert!(preset.template.is_none_or(|name| ChatTemplate::builtin_names().any(|known| known == name)), "{preset:?}");
    }
}

#[test]
fn what_the_tests_run_is_run_and_what_the_decoder_lacks_is_refused() {
    assert_eq!(find("smollm2").map(Preset::status), Some(Status::Run));
    assert_eq!(find("qwen3-32b").map(Preset::status), Some(Status::Wired));
    let unknown = Preset::new("x", "o/x", "gpt_oss", 1, [2, 8]);
    assert!(matches!(unknown.status(), Status::Refused(reason) if reason.contains("MXFP4")));
    assert!(matches!(Preset { model_type: "none", ..unknown }.status(), Status::Refused(_)));
    assert!(refused_families().any(|(model_types, reason)| model_types.contains(&"t5") && reason.contains("encoder")));
}

#[test]
fn the_default_layer_is_the_floor_of_0_45_of_the_depth() {
    assert_eq!([22, 28, 32, 80].map(default_layer), [9, 12, 14, 36]);
}
