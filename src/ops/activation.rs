//! The activations of a gated MLP, as data.

/// What the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))): PyTorch's `gelu` with `approximate="tanh"`.
    GeluTanh,
}
