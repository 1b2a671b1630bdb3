//! One branch's choice of tokens, given the logits that its model computed.

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::utils::apply_repeat_penalty;

use super::options::GenerateOptions;
use crate::Result;

/// One branch's choice of tokens.
pub(super) struct Sampler {
    processor: LogitsProcessor,
    repeat_penalty: f32,
    seen: Vec<u32>,
}

impl Sampler {
    pub(super) fn new(prompt_ids: &[u32], options: &GenerateOptions) -> Self {
        let temperature = options.temperature;
        let sampling = match (options.top_k, options.top_p) {
            _ if temperature <= 0.0 => Sampling::ArgMax,
            (None, None) => Sampling::All { temperature },
            (Some(k), None) => Sampling::TopK { k, temperature },
            (None, Some(p)) => Sampling::TopP { p, temperature },
            (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        };
        Self {
            processor: LogitsProcessor::from_sampling(options.seed, sampling),
            repeat_penalty: options.repeat_penalty,
            seen: prompt_ids.to_vec(),
        }
    }

    /// The next token, given its logits `(V,)` f32; none where they are not all finite.
    pub(super) fn sample(&mut self, logits: &Tensor) -> Result<Option<u32>> {
        let lowest = logits.min(0)?.to_scalar::<f32>()?;
        let sum = logits.sum(0)?.to_scalar::<f32>()?;
        if !lowest.is_finite() || !sum.is_finite() {
            return Ok(None);
        }
        let logits = match self.repeat_penalty {
            1.0 => logits.clone(),
            penalty => apply_repeat_penalty(logits, penalty, &self.seen)?,
        };
        let token = self.processor.sample(&logits)?;
        self.seen.push(token);
        Ok(Some(token))
    }
}
