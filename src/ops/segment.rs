//! What attention works on: runs of rows that see each other, and the shape of the heads. No padding and no square mask: a
//! [`Segment`] says which rows a run of queries sees, so that two responses can share one prompt, and the branches of a
//! sweep one cache.

use std::ops::Range;

use candle_core::Tensor;

/// A run of queries and the keys that it sees: all of `context`, then `own` causally. The queries belong to the last
/// `queries.len()` rows of `own`. Positions count along `context` and `own`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows of q that are the queries.
    pub queries: Range<usize>,
    /// Rows of k and v that come before `own` in the sequence, in two runs; either may be empty.
    pub context: [Range<usize>; 2],
    /// Rows of k and v of the run itself.
    pub own: Range<usize>,
}

impl Segment {
    /// Number of keys that some query sees.
    pub(crate) fn keys(&self) -> usize {
        self.key_runs().map(|run| run.len()).sum()
    }

    /// Runs of rows of k and v that some query sees, in the order of the sequence.
    pub(crate) fn key_runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.context.iter().chain([&self.own]).cloned()
    }

    /// Rows of k and v that some query sees, in the order of the sequence.
    pub(crate) fn key_rows(&self) -> impl Iterator<Item = usize> {
        self.key_runs().flatten()
    }

    /// Keys, counted along context and own, that query `i` of the run sees.
    pub fn visible(&self, i: usize, window: Option<usize>) -> Range<usize> {
        let end = self.keys() - self.queries.len() + i + 1;
        end.saturating_sub(window.unwrap_or(usize::MAX))..end
    }
}

/// The shape of a block's attention, and what its scores go through.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionShape {
    /// Number of query heads `N`.
    pub heads: usize,
    /// Number of key-value heads `K`, which divides `N`.
    pub kv_heads: usize,
    /// Head dimension `D`.
    pub head_dim: usize,
    /// Most keys that a query sees, its own included; all where there is none.
    pub sliding_window: Option<usize>,
    /// Factor of the scores; 1/√D in most families.
    pub scale: f64,
    /// Cap of the scores, if they have one: a score s, scaled, becomes cap·tanh(s / cap) before mask and softmax.
    pub softcap: Option<f64>,
}

/// Gradients of the inputs of [`AttentionShape::forward`], of their shapes.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Gradient of q. `(Q, N·D)`
    pub q: Tensor,
    /// Gradient of k. `(T, K·D)`
    pub k: Tensor,
    /// Gradient of v. `(T, K·D)`
    pub v: Tensor,
}

impl AttentionShape {
    /// Number of query heads that share a key-value head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}
