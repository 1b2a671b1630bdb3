//! Models with a short name, and the layer and learning rate that suit them. This file is a table; nothing is loaded here.

/// A model that bipo knows by a short name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Short name for `--model`.
    pub alias: &'static str,
    /// Repository id on the hub.
    pub repo: &'static str,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Layer that is steered by default.
    pub layer: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Built-in chat template for a tokenizer without one of its own.
    pub template: Option<&'static str>,
}

/// Every preset. Layers and learning rates of `llama-2` and `mistral` are the paper's (arXiv 2406.00045, appendix). Other
/// models are steered at 0.45 of their depth, with a learning rate that grows as the model shrinks.
pub const PRESETS: [Preset; 10] = [
    preset("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", 30, 14, 1e-2, Some("chatml")),
    preset("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", 32, 14, 1e-2, Some("chatml")),
    preset("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 24, 10, 5e-3, Some("chatml")),
    preset("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", 22, 9, 5e-3, Some("zephyr")),
    preset("llama-3.2-1b", "meta-llama/Llama-3.2-1B-Instruct", 16, 7, 5e-3, None),
    preset("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 24, 10, 1e-2, Some("chatml")),
    preset("qwen3-0.6b", "Qwen/Qwen3-0.6B", 28, 12, 1e-2, Some("chatml")),
    preset("llama-2", "meta-llama/Llama-2-7b-chat-hf", 32, 15, 5e-4, Some("llama-2")),
    preset("vicuna", "lmsys/vicuna-7b-v1.5", 32, 15, 5e-4, Some("vicuna")),
    preset("mistral", "mistralai/Mistral-7B-Instruct-v0.2", 32, 13, 5e-4, Some("mistral")),
];

const fn preset(
    alias: &'static str,
    repo: &'static str,
    num_hidden_layers: usize,
    layer: usize,
    lr: f64,
    template: Option<&'static str>,
) -> Preset {
    Preset { alias, repo, num_hidden_layers, layer, lr, template }
}

/// Finds the preset of a model by its alias, its repository (with or without owner), or the name of a GGUF file made from it
/// (`SmolLM2-135M-Instruct.Q4_1.gguf`). Letter case does not matter.
pub fn find(model: &str) -> Option<&'static Preset> {
    let model = model.to_ascii_lowercase();
    PRESETS.iter().find(|preset| {
        let repo = preset.repo.to_ascii_lowercase();
        let name = repo.rsplit('/').next().unwrap_or(&repo);
        model == preset.alias || model == repo || model == name || is_gguf_of(&model, name)
    })
}

/// Whether a file name consists of a model's name, at most a type such as `Q4_K_M`, `IQ4_XS` or `f16`, and `.gguf`.
fn is_gguf_of(file: &str, name: &str) -> bool {
    let Some(rest) = file.strip_suffix(".gguf").and_then(|stem| stem.strip_prefix(name)) else { return false };
    let kind = rest.strip_prefix(['.', '-']).unwrap_or(rest);
    let digits = kind.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let letters = kind.strip_suffix(digits).unwrap_or_default();
    rest.is_empty() || matches!(letters, "q" | "iq" | "f" | "bf") && digits.starts_with(|digit: char| digit.is_ascii_digit())
}

/// Returns the layer to steer in a model without a preset: ⌊0.45 × blocks⌋.
pub fn default_layer(num_hidden_layers: usize) -> usize {
    num_hidden_layers * 45 / 100
}

/// Returns the learning rate for a model without a preset. Models as wide as the paper's 7B models get the paper's rate.
/// Narrower models get a larger rate, since their vectors must grow as far in as few steps.
pub fn default_lr(hidden_size: usize) -> f64 {
    match hidden_size {
        4096.. => 5e-4,
        2048.. => 2e-3,
        1024.. => 5e-3,
        _ => 1e-2,
    }
}

#[cfg(test)]
#[path = "presets_tests.rs"]
mod tests;
