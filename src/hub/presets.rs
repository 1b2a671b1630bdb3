//! Models with a short name, and the layer and learning rate that suit them. This file is a table; nothing is loaded here.

use crate::model::family::Family;
use crate::model::refused;

/// A model that bipo knows by a short name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Short name for `--model`.
    pub alias: &'static str,
    /// Repository id on the hub.
    pub repo: &'static str,
    /// `model_type` in its `config.json`, that of the text part where it also has a vision tower.
    pub model_type: &'static str,
    /// Number of parameters, in millions; of a model with a vision tower, those of its text part.
    pub parameters_m: u32,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layer that is steered by default.
    pub layer: usize,
    /// Source of the layer.
    pub layer_from: &'static str,
    /// Peak learning rate.
    pub lr: f64,
    /// Source of the learning rate.
    pub lr_from: &'static str,
    /// Built-in chat template for a tokenizer without one of its own.
    pub template: Option<&'static str>,
    /// What the hub wants accepted before it gives the files; with `None` it gives them to anybody.
    pub gate: Option<&'static str>,
    /// File that a script of this project puts into bipo's cache directory, and that script.
    pub fetched: Option<(&'static str, &'static str)>,
}

/// What is known of how bipo runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The project's tests run this model with its real weights.
    Run,
    /// The decoder implements its family, which the tests run with random weights.
    Wired,
    /// The model is refused, for the given reason.
    Refused(&'static str),
}

const PAPER: &str = "the paper, arXiv 2406.00045";
const RUNS: &str = "runs of this project";
const DEPTH: &str = "0.45 of the blocks";
const WIDTH: &str = "the paper's rate, larger for narrower models";

const LLAMA_TERMS: &str = "Meta's licence";
const GEMMA_TERMS: &str = "Gemma's terms";
const CONTACT: &str = "contact details";

/// Every preset. Where a number comes from stands in `layer_from` and `lr_from`.
pub const PRESETS: [Preset; 39] = [
    Preset::new("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama", 135, [30, 576])
        .layer(14, RUNS)
        .lr(1e-2, RUNS)
        .template("chatml")
        .fetched("SmolLM2-135M-Instruct.Q4_1.gguf", "scripts/fetch-smollm2.sh"),
    Preset::new("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "llama", 362, [32, 960]).template("chatml"),
    Preset::new("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "llama", 1711, [24, 2048]).template("chatml"),
    Preset::new("smollm3", "HuggingFaceTB/SmolLM3-3B", "smollm3", 3075, [36, 2048]),
    Preset::new("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", 1100, [22, 2048]).template("zephyr"),
    Preset::new("llama-2", "meta-llama/Llama-2-7b-chat-hf", "llama", 6738, [32, 4096])
        .layer(15, PAPER)
        .lr(5e-4, PAPER)
        .template("llama-2")
        .gate(LLAMA_TERMS),
    Preset::new("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "llama", 8030, [32, 4096]).gate(LLAMA_TERMS),
    Preset::new("llama-3.2-1b", "meta-llama/Llama-3.2-1B-Instruct", "llama", 1236, [16, 2048]).gate(LLAMA_TERMS),
    Preset::new("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", "llama", 3213, [28, 3072]).gate(LLAMA_TERMS),
    Preset::new("vicuna", "lmsys/vicuna-7b-v1.5", "llama", 6738, [32, 4096])
        .layer(15, "the paper's for Llama-2, arXiv 2406.00045")
        .template("vicuna"),
    Preset::new("mistral", "mistralai/Mistral-7B-Instruct-v0.2", "mistral", 7242, [32, 4096])
        .layer(13, PAPER)
        .lr(5e-4, PAPER)
        .template("mistral")
        .gate(CONTACT),
    Preset::new("mixtral", "mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral", 46_703, [32, 4096]).gate(CONTACT),
    Preset::new("gemma-2-2b", "google/gemma-2-2b-it", "gemma2", 2614, [26, 2304])
        .layer(10, "AxBench, arXiv 2501.17148, which takes 10 and 20")
        .gate(GEMMA_TERMS),
    Preset::new("gemma-2-9b", "google/gemma-2-9b-it", "gemma2", 9242, [42, 3584])
        .layer(20, "AxBench, arXiv 2501.17148, which takes 20 and 31")
        .gate(GEMMA_TERMS),
    // The base model, since that is what the script brings.
    Preset::new("gemma-3-270m", "google/gemma-3-270m", "gemma3_text", 268, [18, 640])
        .gate(GEMMA_TERMS)
        .fetched("gemma-3-270m-q4_k_m.gguf", "scripts/fetch-gemma3.sh"),
    Preset::new("gemma-3-270m-it", "google/gemma-3-270m-it", "gemma3_text", 268, [18, 640]).gate(GEMMA_TERMS),
    Preset::new("gemma-3-1b", "google/gemma-3-1b-it", "gemma3_text", 1000, [26, 1152]).gate(GEMMA_TERMS),
    Preset::new("gemma-3-4b", "google/gemma-3-4b-it", "gemma3_text", 3880, [34, 2560]).gate(GEMMA_TERMS),
    Preset::new("gemma-3-12b", "google/gemma-3-12b-it", "gemma3_text", 11_766, [48, 3840]).gate(GEMMA_TERMS),
    Preset::new("gemma-3-27b", "google/gemma-3-27b-it", "gemma3_text", 27_009, [62, 5376]).gate(GEMMA_TERMS),
    Preset::new("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "qwen2", 494, [24, 896]).template("chatml"),
    Preset::new("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 1544, [28, 1536]).template("chatml"),
    Preset::new("qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct", "qwen2", 3086, [36, 2048]).template("chatml"),
    Preset::new("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", "qwen2", 7616, [28, 3584]).template("chatml"),
    Preset::new("qwen2.5-14b", "Qwen/Qwen2.5-14B-Instruct", "qwen2", 14_770, [48, 5120]).template("chatml"),
    Preset::new("qwen2.5-32b", "Qwen/Qwen2.5-32B-Instruct", "qwen2", 32_764, [64, 5120]).template("chatml"),
    Preset::new("qwen2.5-72b", "Qwen/Qwen2.5-72B-Instruct", "qwen2", 72_706, [80, 8192]).template("chatml"),
    Preset::new("qwen3-0.6b", "Qwen/Qwen3-0.6B", "qwen3", 596, [28, 1024]).template("chatml"),
    Preset::new("qwen3-1.7b", "Qwen/Qwen3-1.7B", "qwen3", 1721, [28, 2048]).template("chatml"),
    Preset::new("qwen3-4b", "Qwen/Qwen3-4B", "qwen3", 4022, [36, 2560]).template("chatml"),
    Preset::new("qwen3-8b", "Qwen/Qwen3-8B", "qwen3", 8191, [36, 4096]).template("chatml"),
    Preset::new("qwen3-14b", "Qwen/Qwen3-14B", "qwen3", 14_768, [40, 5120]).template("chatml"),
    Preset::new("qwen3-32b", "Qwen/Qwen3-32B", "qwen3", 32_762, [64, 5120]).template("chatml"),
    Preset::new("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", "qwen3_moe", 30_532, [48, 2048]).template("chatml"),
    Preset::new("qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B", "qwen3_moe", 235_094, [94, 4096]).template("chatml"),
    Preset::new("phi-3-mini", "microsoft/Phi-3-mini-4k-instruct", "phi3", 3821, [32, 3072]),
    Preset::new("olmo-2-7b", "allenai/OLMo-2-1124-7B-Instruct", "olmo2", 7299, [32, 4096]),
    Preset::new("olmo-3-7b", "allenai/Olmo-3-7B-Instruct", "olmo3", 7298, [32, 4096]),
    Preset::new("granite-3-2b", "ibm-granite/granite-3.3-2b-instruct", "granite", 2534, [40, 2048]),
];

impl Preset {
    /// A model of `[blocks, width]` with the layer and learning rate of the rules for a model without a preset.
    const fn new(
        alias: &'static str,
        repo: &'static str,
        model_type: &'static str,
        parameters_m: u32,
        [num_hidden_layers, hidden_size]: [usize; 2],
    ) -> Self {
        let (layer, lr) = (default_layer(num_hidden_layers), default_lr(hidden_size));
        let (layer_from, lr_from) = (DEPTH, WIDTH);
        let (template, gate, fetched) = (None, None, None);
        Self {
            alias,
            repo,
            model_type,
            parameters_m,
            num_hidden_layers,
            hidden_size,
            layer,
            layer_from,
            lr,
            lr_from,
            template,
            gate,
            fetched,
        }
    }

    const fn layer(self, layer: usize, layer_from: &'static str) -> Self {
        Self { layer, layer_from, ..self }
    }

    /// A rate that a source gives: the rule's is there without it.
    const fn lr(self, lr: f64, lr_from: &'static str) -> Self {
        Self { lr, lr_from, ..self }
    }

    const fn template(self, template: &'static str) -> Self {
        Self { template: Some(template), ..self }
    }

    const fn gate(self, gate: &'static str) -> Self {
        Self { gate: Some(gate), ..self }
    }

    const fn fetched(self, file: &'static str, script: &'static str) -> Self {
        Self { fetched: Some((file, script)), ..self }
    }

    /// Returns how bipo runs the model. The models that a script of this project fetches are those that the tests run.
    pub fn status(&self) -> Status {
        if Family::of(self.model_type).is_none() {
            return Status::Refused(refused::reason(self.model_type).unwrap_or("its family is not implemented yet"));
        }
        if self.fetched.is_some() { Status::Run } else { Status::Wired }
    }
}

/// Returns the families of models that are refused: each `model_type` of the same kind, and why.
pub fn refused_families() -> impl Iterator<Item = (&'static [&'static str], &'static str)> {
    refused::REFUSED.into_iter()
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
pub const fn default_layer(num_hidden_layers: usize) -> usize {
    num_hidden_layers * 45 / 100
}

/// Returns the learning rate for a model without a preset. Models as wide as the paper's 7B models get the paper's rate.
/// Narrower models get a larger rate, since their vectors must grow as far in as few steps.
pub const fn default_lr(hidden_size: usize) -> f64 {
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
