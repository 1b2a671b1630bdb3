//! Families of models that the decoder does not run, with the reason and what is near, as data. A family is named as
//! `model_type` in `config.json` names it, and as `general.architecture` in GGUF metadata where that differs.

/// Why a model with a vision tower is refused.
pub(crate) const VISION_TOWER: &str =
    "it has a vision tower, which is not implemented; near: the text model that it is built on";

/// Why an encoder with a decoder is refused.
pub(crate) const ENCODER_AND_DECODER: &str =
    "it is an encoder and a decoder, and v is learned from a decoder alone; near: SmolLM2 (smollm2)";

/// The `model_type`s of a kind of model, and why it is refused. Where `config.json` has a vision tower or says that the model is an encoder
/// and a decoder, that is told of a `model_type` without an entry.
pub(crate) const REFUSED: [(&[&str], &str); 11] = [
    (
        &[
            "qwen3_next",
            "qwen3_5",
            "qwen3_5_text",
            "qwen3_5_moe",
            "qwen3_5_moe_text",
            "qwen3next",
            "qwen35",
            "qwen35moe",
            "kimi_linear",
            "kimi-linear",
        ],
        "most of its blocks have linear attention (Gated DeltaNet or its kind), which is not implemented; near: Qwen3 (qwen3-8b)",
    ),
    (
        &["gpt_oss", "gpt-oss"],
        "its attention has sinks and its experts are MXFP4, neither of which is implemented; near: Qwen3 (qwen3-14b)",
    ),
    (
        &["gemma4", "gemma4_text", "gemma4_unified", "gemma3n", "gemma3n_text"],
        "its blocks share keys and values and have embeddings of their own, which is not implemented; near: Gemma 3 (gemma-3-4b)",
    ),
    (
        &["deepseek_v3", "deepseek_v2", "deepseek_v32", "deepseek2", "deepseek32", "kimi_k2"],
        "its attention is latent (MLA) and its experts are routed in groups, neither of which is implemented; near: the \
         distilled models of DeepSeek-R1, which are Qwen2 or Llama",
    ),
    (
        &["deepseek_v4"],
        "its attention reads compressed keys and its residual is several streams (hyper-connections), neither of which is \
         implemented; near: the distilled models of DeepSeek-R1, which are Qwen2 or Llama",
    ),
    (
        &[
            "t5",
            "mt5",
            "umt5",
            "t5gemma",
            "t5gemma2",
            "bart",
            "mbart",
            "pegasus",
            "led",
            "m2m_100",
            "marian",
            "whisper",
            "seamless_m4t",
            "seamless_m4t_v2",
            "t5encoder",
        ],
        ENCODER_AND_DECODER,
    ),
    (
        &["bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "modernbert"],
        "it is an encoder, which generates no text; near: SmolLM2 (smollm2)",
    ),
    (
        &[
            "mamba",
            "mamba2",
            "falcon_mamba",
            "jamba",
            "bamba",
            "granitemoehybrid",
            "granitehybrid",
            "nemotron_h",
            "falcon_h1",
            "falcon-h1",
            "zamba2",
            "rwkv7",
        ],
        "its state-space blocks are not implemented; near: a decoder with attention alone (llama-3.2-3b)",
    ),
    (
        &[
            "llava",
            "llava_next",
            "llava_onevision",
            "paligemma",
            "mllama",
            "qwen2_vl",
            "qwen2_5_vl",
            "qwen3_vl",
            "qwen2vl",
            "qwen3vl",
            "idefics3",
            "smolvlm",
            "internvl",
            "phi4mm",
            "qwen2_5_omni",
            "qwen3_omni_moe",
            "pixtral",
            "mistral3",
        ],
        VISION_TOWER,
    ),
    (&["clip", "siglip"], "it is a vision tower, which generates no text; near: the text model that uses it"),
    (&["llama4", "llama4_text"], "its attention is chunked, which is not implemented; near: Llama 3.1 (llama-3.1-8b)"),
];

/// Returns why models of this `model_type` are refused; `None` where nothing is known of it.
pub(crate) fn reason(model_type: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(model_types, _)| model_types.contains(&model_type)).map(|(_, reason)| *reason)
}

/// Returns what is said of a model of this `model_type` that is refused: the reason that is known of it, else `other`; `None` where
/// there is neither.
pub(crate) fn problem(model_type: &str, other: Option<&str>) -> Option<String> {
    reason(model_type).or(other).map(|reason| format!("model type `{model_type}` is not supported: {reason}"))
}

#[cfg(test)]
#[path = "refused_tests.rs"]
mod tests;
