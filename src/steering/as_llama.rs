//! Models that compute what a Llama with their weights does, and can be written as one: Llama's MLP has a bias, theirs has none.
//! Knows nothing of vectors.

use serde_json::{Map, Value, json};

use crate::model::architecture::Architecture;
use crate::model::config::Config;

/// Model types whose MLP has no bias, and that are Llama's but for their keys in `config.json` and the biases of their attention.
pub(super) const MODEL_TYPES: [&str; 2] = ["mistral", "qwen2"];

/// Their keys that Llama has not: those of the sliding window, which no block of a model that is written as Llama has.
const WINDOW_KEYS: [&str; 4] = ["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"];

/// Refuses a model that computes something else than a Llama with its weights.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let (name, own) = (&config.model_type, &config.architecture);
    if !MODEL_TYPES.contains(&name.as_str()) {
        return Err(format!("the MLP of model type `{name}` has no bias"));
    }
    if let Some(window) = own.windows.iter().flatten().next() {
        return Err(format!(
            "the MLP of model type `{name}` has no bias, and Llama, which has one, no sliding window, but here one of {window} tokens is active"
        ));
    }
    let Architecture { qkv_bias, o_bias, tie_word_embeddings, .. } = *own;
    let llama = Architecture { qkv_bias, o_bias, tie_word_embeddings, ..Architecture::llama(config.num_hidden_layers) };
    match *own == llama {
        true => Ok(()),
        false => Err(format!(
            "the MLP of model type `{name}` has no bias, and this model is built in another way than Llama, which has one"
        )),
    }
}

/// Turns the keys of a model that is Llama's but for its name into Llama's: what is a default of its own type is said.
pub(super) fn rewrite(keys: &mut Map<String, Value>, config: &Config) {
    keys.retain(|key, _| !WINDOW_KEYS.contains(&key.as_str()));
    keys.insert("architectures".to_owned(), json!(["LlamaForCausalLM"]));
    keys.insert("model_type".to_owned(), "llama".into());
    keys.insert("attention_bias".to_owned(), config.architecture.qkv_bias.into());
    let defaults = [
        ("vocab_size", json!(config.vocab_size)),
        ("num_key_value_heads", json!(config.num_key_value_heads)),
        ("head_dim", json!(config.head_dim)),
        ("rms_norm_eps", json!(config.rms_norm_eps)),
        ("max_position_embeddings", json!(config.max_position_embeddings)),
        ("tie_word_embeddings", json!(config.architecture.tie_word_embeddings)),
        ("rope_theta", json!(config.ropes.first().map(|rope| rope.theta))),
    ];
    for (key, value) in defaults {
        if keys.get(key).is_none_or(Value::is_null) {
            keys.insert(key.to_owned(), value);
        }
    }
}
