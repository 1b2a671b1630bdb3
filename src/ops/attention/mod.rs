//! Causal attention with grouped queries over runs of rows that see each other: softmax(q·kᵀ/√D)·v, softmax in f32.
//!
//! No padding and no square mask: [`Segment`]s say which rows a run of queries sees, so that two responses can share one
//! prompt, and the branches of a sweep one cache. The vjp computes the probabilities again instead of keeping them.

mod composed;
mod fused;
mod kernel;
mod tables;

use std::ops::{Deref, Range};

use candle_core::{Device, Tensor};

use super::{host, kernels};
use crate::Result;
use tables::Tables;

/// A run of queries and the keys it sees: all of `context`, then `own` causally. The queries belong to the last
/// `queries.len()` rows of `own`. Positions count along `context` and `own`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows of q.
    pub queries: Range<usize>,
    /// Rows of k and v that come before `own` in the sequence, in two runs; either may be empty.
    pub context: [Range<usize>; 2],
    /// Rows of k and v of the run itself.
    pub own: Range<usize>,
}

impl Segment {
    /// Keys that some query sees.
    pub fn keys(&self) -> usize {
        self.key_runs().map(|run| run.len()).sum()
    }

    /// Runs of rows of k and v that some query sees, in the order of the sequence.
    pub fn key_runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.context.iter().chain([&self.own]).cloned()
    }

    /// Rows of k and v that some query sees, in the order of the sequence.
    pub fn key_rows(&self) -> impl Iterator<Item = usize> {
        self.key_runs().flatten()
    }

    /// Keys, counted along context and own, that query `i` of the run sees.
    pub fn visible(&self, i: usize, window: Option<usize>) -> Range<usize> {
        let end = self.keys() - self.queries.len() + i + 1;
        end.saturating_sub(window.unwrap_or(usize::MAX))..end
    }
}

/// The segments of one pass, and on a GPU what its kernels read of them: uploaded once, used by every block.
#[derive(Debug, Clone)]
pub struct Segments {
    list: Vec<Segment>,
    tables: Option<Tables>,
}

impl Segments {
    /// Segments of a pass with `key_rows` rows of k and v. Where these are rows of a cache, `key_rows` may be less than what
    /// the segments see; no gradient is taken then.
    pub fn new(list: Vec<Segment>, key_rows: usize, device: &Device) -> Result<Self> {
        let tables = kernels::launcher(device).map(|_| Tables::new(&list, key_rows, device)).transpose()?;
        Ok(Self { list, tables })
    }
}

impl Deref for Segments {
    type Target = [Segment];

    fn deref(&self) -> &[Segment] {
        &self.list
    }
}

/// The shape of a block's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// Query heads `N`.
    pub heads: usize,
    /// Key-value heads `K`; divides `N`.
    pub kv_heads: usize,
    /// Head dimension `D`.
    pub head_dim: usize,
    /// A query sees this many keys, its own included.
    pub sliding_window: Option<usize>,
}

/// Gradients of the inputs of [`Attention::forward`], of their shapes.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `(Q, N·D)`
    pub q: Tensor,
    /// `(T, K·D)`
    pub k: Tensor,
    /// `(T, K·D)`
    pub v: Tensor,
}

impl Attention {
    /// `q (Q, N·D)`, `k` and `v (T, K·D)` → `(Q, N·D)`. Every row of q is in exactly one segment.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<Tensor> {
        match self.kernels(q, segments) {
            Some((launcher, tables)) => self.forward_kernel(launcher, [q, k, v], tables),
            None if host::is_host_f32(q) => self.forward_fused(q, k, v, segments),
            None => self.forward_composed(q, k, v, segments),
        }
    }

    /// Gradients of q, k and v, given that of the output, `dy (Q, N·D)`.
    pub fn vjp(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, dy: &Tensor) -> Result<Gradients> {
        match self.kernels(q, segments) {
            Some((launcher, tables)) => self.vjp_kernel(launcher, [q, k, v], tables, dy),
            None if host::is_host_f32(q) => self.vjp_fused(q, k, v, segments, dy),
            None => self.vjp_composed(q, k, v, segments, dy),
        }
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }
}
