//! What an RMSNorm consists of; `norm` computes it.

use candle_core::Tensor;

/// y = x / √(mean(x²) + eps) · (offset + w).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// Weight w of the norm. `(H,)`
    pub weight: Tensor,
    /// What is added to the mean square.
    pub eps: f64,
    /// What is added to the weight: 0, or 1 in Gemma's models, whose checkpoints hold w − 1. With 0, x·r is rounded to x's
    /// dtype before it meets the weight; otherwise the result alone is rounded. `transformers` does so for Llama's
    /// families and for Gemma; for OLMo 2 it rounds the result alone, which this does not follow.
    pub offset: f32,
}
