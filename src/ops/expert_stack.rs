//! How rows choose the experts of a mixture, and the weights of all its experts on a device, each kind in one tensor.

use candle_core::Tensor;

use super::activation::Activation;

/// Which experts a row goes through, and with which weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertChoice {
    /// Number of experts of a row `k`: those with the largest probabilities.
    pub per_token: usize,
    /// Whether their probabilities are divided by their sum.
    pub normalised: bool,
}

/// The weights of `E` experts, one behind the other.
#[derive(Debug, Clone)]
pub struct ExpertStack {
    /// Gate and up. `(E, 2I, H)`
    pub gate_up_proj: Tensor,
    /// Down. `(E, H, I)`
    pub down_proj: Tensor,
    /// What the gate goes through.
    pub activation: Activation,
}
