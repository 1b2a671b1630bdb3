//! What the head predicts, and what it gives.

use candle_core::Tensor;

/// A token whose log-probability is wanted, and the row that predicts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// Row of the hidden states.
    pub row: usize,
    /// Id of the token that is predicted.
    pub target: u32,
}

/// Whether the forward pass also keeps what its gradient needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// Keep the expected unembedding of every row.
    Wanted,
    /// Give log-probabilities alone, for half the work.
    NotWanted,
}

/// What the forward pass gives.
#[derive(Debug, Clone)]
pub struct LogProbs {
    /// log p of each prediction in nats, on the device that computed it: reading it waits for a GPU. `(P,)` f32
    pub log_probs: Tensor,
    /// Σᵥ p(v)·g(v)·W\[v\] of each row, in f32, or on a GPU in the model's dtype; g is the slope of the softcap at each
    /// logit, 1 where there is none. `(R, H)`
    pub(super) expected: Option<Tensor>,
    /// g of each prediction's target, where there is a softcap and a gradient is wanted. `(P,)` f32
    pub(super) slopes: Option<Tensor>,
}
