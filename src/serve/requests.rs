//! What requests to the endpoints of OpenAI's form hold, and what it comes to: options, texts that end an answer, answers wanted.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::date::now;
use super::error::ApiError;
use super::state::{MOST_TEXTS, PromptInput, ServerState, Wanted};
use super::steering::Applied;
use crate::generate::GenerateOptions;

/// Most tokens whose log-probabilities are told beside each token.
const MOST_LOG_PROBS: usize = 20;

/// Lowest temperature that is not 0: logits are divided by it, and a smaller one would make them infinite.
const LOWEST_TEMPERATURE: f64 = 1e-6;

/// Refuses a number of log-probabilities, from the field of this name, that is too large.
pub(super) fn check_log_probs(field: &str, count: Option<usize>) -> Result<(), ApiError> {
    match count.filter(|count| *count > MOST_LOG_PROBS) {
        Some(count) => Err(ApiError::of_field(field, format!("{field} {count}: expected at most {MOST_LOG_PROBS}"))),
        None => Ok(()),
    }
}

/// How tokens are chosen and when a text ends: fields of both endpoints. Other fields are ignored.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Sampling {
    /// Most tokens of the answer.
    pub max_tokens: Option<usize>,
    /// Newer name of `max_tokens`.
    pub max_completion_tokens: Option<usize>,
    /// 0 is greedy, else 0.000001 to 2; 1 where it is left out.
    pub temperature: Option<f64>,
    /// Share of the probability that the likeliest tokens, which are kept, reach.
    pub top_p: Option<f64>,
    /// Number of the likeliest tokens that are kept.
    pub top_k: Option<usize>,
    /// Seed of the sampler: the same seed gives the same text.
    pub seed: Option<i64>,
    /// A text, or up to 16 of them, that ends the answer.
    #[schema(value_type = Option<Object>)]
    pub stop: Option<Value>,
    /// Number of answers.
    pub n: Option<usize>,
    /// What is added to the logits of tokens, by id.
    pub logit_bias: Option<HashMap<String, f32>>,
    /// Not supported: must be 0 or left out.
    pub frequency_penalty: Option<f64>,
    /// Not supported: must be 0 or left out.
    pub presence_penalty: Option<f64>,
    /// Whether the answer comes in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// Options of an answer that comes in pieces.
    pub stream_options: Option<StreamOptions>,
    /// Vectors and magnitudes: a number or "auto", a text such as "cheerful:1.5 - formal:auto", or EasySteer's object.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub steering: Value,
}

/// Options of a stream.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last piece counts tokens.
    pub include_usage: Option<bool>,
}

/// A request for the answer to a conversation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// The model, or `model::vector`.
    pub model: Option<String>,
    /// The conversation: objects with `role` and `content`.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Value>,
    /// Whether log-probabilities are told.
    pub logprobs: Option<bool>,
    /// Number of the likeliest tokens whose log-probabilities are told.
    pub top_logprobs: Option<usize>,
    /// Not supported: must be empty or left out.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Vec<Value>>,
    #[serde(flatten)]
    pub sampling: Sampling,
}

/// A request for the continuation of a text.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct CompletionRequest {
    /// The model, or `model::vector`.
    pub model: Option<String>,
    /// A text, a list of texts, or token ids.
    #[schema(value_type = Object)]
    pub prompt: Value,
    /// Number of the likeliest tokens whose log-probabilities are told.
    pub logprobs: Option<usize>,
    /// Not supported: must be false or left out.
    pub echo: Option<bool>,
    #[serde(flatten)]
    pub sampling: Sampling,
}

impl Sampling {
    /// Whether the answer comes in pieces.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a last piece of a stream counts tokens.
    pub fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The options of an answer, and the texts that end it.
    pub fn options(&self, state: &ServerState, log_probs: Option<usize>) -> Result<(GenerateOptions, Vec<String>), ApiError> {
        let within = |name: &str, value: Option<f64>, lowest: f64, highest: f64| match value {
            Some(value) if !(lowest..=highest).contains(&value) => {
                Err(ApiError::of_field(name, format!("{name} {value}: expected {lowest} to {highest}")))
            }
            value => Ok(value),
        };
        for (name, value) in [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)] {
            if value.is_some_and(|value| value != 0.0) {
                return Err(ApiError::of_field(name, format!("{name} is not supported: leave it out")));
            }
        }
        let max_new_tokens = self.max_completion_tokens.or(self.max_tokens).unwrap_or(state.default_tokens);
        if max_new_tokens == 0 {
            return Err(ApiError::of_field("max_tokens", "max_tokens 0: expected at least 1"));
        }
        let stop = match &self.stop {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) if texts.len() <= 16 && texts.iter().all(Value::is_string) => {
                texts.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(_) => return Err(ApiError::of_field("stop", "stop: expected a text or a list of at most 16 texts")),
        };
        let bias = |(id, bias): (&String, &f32)| match id.parse::<u32>() {
            Ok(id) if (id as usize) < state.vocab_size && bias.abs() <= 100.0 => Ok((id, *bias)),
            _ => Err(ApiError::of_field(
                "logit_bias",
                format!("logit_bias {id:?}: expected token ids with numbers from -100 to 100"),
            )),
        };
        let mut logit_bias = self.logit_bias.iter().flatten().map(bias).collect::<Result<Vec<_>, _>>()?;
        logit_bias.sort_by_key(|(id, _)| *id);
        let options = GenerateOptions {
            temperature: temperature(self.temperature)?,
            // 0 keeps the likeliest token alone.
            top_p: within("top_p", self.top_p, 0.0, 1.0)?.filter(|p| *p < 1.0).map(|p| p.max(f32::MIN_POSITIVE.into())),
            top_k: self.top_k.filter(|top_k| *top_k > 0),
            seed: self.seed.unwrap_or_else(|| now().subsec_nanos().into()) as u64,
            eos: state.eos.clone(),
            logit_bias,
            top_log_probs: log_probs,
            ..GenerateOptions::greedy(max_new_tokens)
        };
        Ok((options, stop))
    }

    /// Returns the texts that are asked for of each prompt, each with a seed of its own.
    pub fn wanted(
        &self,
        state: &ServerState,
        prompts: &[PromptInput],
        applied: &Applied,
        log_probs: Option<usize>,
    ) -> Result<Vec<Wanted>, ApiError> {
        let n = self.n.unwrap_or(1);
        if n.checked_mul(prompts.len()).is_none_or(|texts| !(1..=MOST_TEXTS).contains(&texts)) {
            let problem = format!("n {n} for {} prompts: expected 1 to {MOST_TEXTS} texts at once", prompts.len());
            return Err(ApiError::of_field("n", problem));
        }
        let (options, stop) = self.options(state, log_probs)?;
        let wanted = |(index, prompt): (usize, &PromptInput)| Wanted {
            prompt: prompt.clone(),
            applied: applied.clone(),
            options: GenerateOptions { seed: options.seed.wrapping_add((index % n) as u64), ..options.clone() },
            stop: stop.clone(),
        };
        Ok(prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, n)).enumerate().map(wanted).collect())
    }
}

/// A temperature that the sampler can divide logits by, or 0.
fn temperature(wanted: Option<f64>) -> Result<f64, ApiError> {
    match wanted.unwrap_or(1.0) {
        value if value == 0.0 || (LOWEST_TEMPERATURE..=2.0).contains(&value) => Ok(value),
        value => {
            let problem = format!("temperature {value:?}: expected 0, or a number from {LOWEST_TEMPERATURE} to 2");
            Err(ApiError::of_field("temperature", problem))
        }
    }
}
