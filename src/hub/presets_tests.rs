//! Tests of `presets`.

use super::*;

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
    assert_eq!(find("llama-2").map(|preset| (preset.layer, preset.lr)), Some((15, 5e-4)));
    assert_eq!(find("mistral").map(|preset| (preset.layer, preset.lr)), Some((13, 5e-4)));
}

#[test]
fn the_default_layer_is_the_floor_of_0_45_of_the_depth() {
    assert_eq!([22, 28, 32, 80].map(default_layer), [9, 12, 14, 36]);
}
