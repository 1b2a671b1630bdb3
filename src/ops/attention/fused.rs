//! Attention on f32 slices of the CPU: one task a segment and key-value head, scores of one head at a time.

use std::ops::Range;

use candle_core::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::{Attention, Gradients, Segment};
use crate::Result;
use crate::ops::host::{self, HostSlice, Into, Matrix};

/// Up to this many queries, products by rows beat packed ones.
const FEW_QUERIES: usize = 4;

/// The slices of q, k and v with their widths.
struct Inputs<'a> {
    shape: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

/// Results of one task, for its queries, heads of the group outermost.
struct TaskGradients {
    dq: Vec<f32>,      // (G, Q, D)
    dk: [Vec<f32>; 2], // context, own: (S, D) each
    dv: [Vec<f32>; 2], // likewise
}

impl Attention {
    pub(in crate::ops) fn forward_fused(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let (rows, width) = q.dims2()?;
        let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
        let (q, k, v) = (HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?);
        let inputs = Inputs { shape: self, q: &q, k: &k, v: &v };
        let tasks = self.tasks(segments);
        let parts: Vec<Vec<f32>> = tasks.par_iter().map(|(segment, kv_head)| inputs.forward(segment, *kv_head)).collect();
        let mut y = vec![0f32; rows * width];
        for ((segment, kv_head), part) in tasks.iter().zip(parts) {
            self.scatter_heads(&mut y, segment.queries.clone(), *kv_head, &part);
        }
        host::tensor(y, (rows, width))
    }

    pub(in crate::ops) fn vjp_fused(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segments: &[Segment],
        dy: &Tensor,
    ) -> Result<Gradients> {
        let ((q_rows, q_width), (k_rows, k_width)) = (q.dims2()?, k.dims2()?);
        let (q, k, v, dy) = (q.contiguous()?, k.contiguous()?, v.contiguous()?, dy.contiguous()?);
        let (q, k, v, dy) = (HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?, HostSlice::new(&dy)?);
        let (inputs, dy) = (Inputs { shape: self, q: &q, k: &k, v: &v }, &*dy);
        let tasks = self.tasks(segments);
        let parts: Vec<TaskGradients> = tasks.par_iter().map(|(segment, kv_head)| inputs.vjp(segment, *kv_head, dy)).collect();
        let mut dq = vec![0f32; q_rows * q_width];
        let (mut dk, mut dv) = (vec![0f32; k_rows * k_width], vec![0f32; k_rows * k_width]);
        // Serial, in the order of the tasks: the same sums whatever the number of threads.
        for ((segment, kv_head), part) in tasks.iter().zip(parts) {
            self.scatter_heads(&mut dq, segment.queries.clone(), *kv_head, &part.dq);
            for (rows, i) in [(segment.context.clone(), 0), (segment.own.clone(), 1)] {
                self.add_key_rows(&mut dk, rows.clone(), *kv_head, &part.dk[i]);
                self.add_key_rows(&mut dv, rows, *kv_head, &part.dv[i]);
            }
        }
        Ok(Gradients {
            q: host::tensor(dq, (q_rows, q_width))?,
            k: host::tensor(dk, (k_rows, k_width))?,
            v: host::tensor(dv, (k_rows, k_width))?,
        })
    }

    fn tasks<'a>(&self, segments: &'a [Segment]) -> Vec<(&'a Segment, usize)> {
        let with_queries = segments.iter().filter(|segment| !segment.queries.is_empty());
        with_queries.flat_map(|segment| (0..self.kv_heads).map(move |head| (segment, head))).collect()
    }

    /// Copies `(G, Q, D)` into columns of rows of `(·, N·D)`.
    fn scatter_heads(&self, y: &mut [f32], rows: Range<usize>, kv_head: usize, part: &[f32]) {
        let (d, width) = (self.head_dim, self.heads * self.head_dim);
        for (g, head) in part.chunks_exact(rows.len() * d).enumerate() {
            let column = (kv_head * self.group() + g) * d;
            for (row, values) in rows.clone().zip(head.chunks_exact(d)) {
                y[row * width + column..][..d].copy_from_slice(values);
            }
        }
    }

    /// Adds `(S, D)` to columns of rows of `(·, K·D)`.
    fn add_key_rows(&self, y: &mut [f32], rows: Range<usize>, kv_head: usize, part: &[f32]) {
        let (d, width) = (self.head_dim, self.kv_heads * self.head_dim);
        for (row, values) in rows.zip(part.chunks_exact(d)) {
            for (y, x) in y[row * width + kv_head * d..][..d].iter_mut().zip(values) {
                *y += x;
            }
        }
    }
}

impl<'a> Inputs<'a> {
    /// `(G, Q, D)`.
    fn forward(&self, segment: &Segment, kv_head: usize) -> Vec<f32> {
        let (d, queries) = (self.shape.head_dim, segment.queries.len());
        let mut y = vec![0f32; self.shape.group() * queries * d];
        let mut scores = vec![0f32; queries * segment.keys()];
        for (g, y) in y.chunks_exact_mut(queries * d).enumerate() {
            let head = kv_head * self.shape.group() + g;
            self.probabilities(segment, kv_head, head, &mut scores);
            if queries <= FEW_QUERIES {
                self.weigh_rows(segment, kv_head, &scores, y);
                continue;
            }
            for (columns, v, into) in self.key_blocks(self.v, segment, kv_head) {
                let p = Matrix::new(&scores[columns.start..], queries, columns.len(), segment.keys());
                host::matmul(y, d, into, p, v, Parallelism::None);
            }
        }
        y
    }

    fn vjp(&self, segment: &Segment, kv_head: usize, dy: &[f32]) -> TaskGradients {
        let (d, queries, keys) = (self.shape.head_dim, segment.queries.len(), segment.keys());
        let empty = || [vec![0f32; segment.context.len() * d], vec![0f32; segment.own.len() * d]];
        let mut out = TaskGradients { dq: vec![0f32; self.shape.group() * queries * d], dk: empty(), dv: empty() };
        let (mut p, mut ds) = (vec![0f32; queries * keys], vec![0f32; queries * keys]);
        for (g, dq) in out.dq.chunks_exact_mut(queries * d).enumerate() {
            let head = kv_head * self.shape.group() + g;
            self.probabilities(segment, kv_head, head, &mut p);
            let (q, dy) = (self.queries(self.q, segment, head), self.queries(dy, segment, head));
            for (i, (columns, v, _)) in self.key_blocks(self.v, segment, kv_head).into_iter().enumerate() {
                // dP = dO·Vᵀ, dV += Pᵀ·dO
                host::matmul(&mut ds[columns.start..], keys, Into::Overwrite, dy, v.t(), Parallelism::None);
                let p = Matrix::new(&p[columns.start..], queries, columns.len(), keys);
                host::matmul(&mut out.dv[i], d, Into::Add, p.t(), dy, Parallelism::None);
            }
            softmax_vjp(&p, &mut ds, keys, self.shape.scale() as f32);
            for (i, (columns, k, into)) in self.key_blocks(self.k, segment, kv_head).into_iter().enumerate() {
                // dQ = dS·K, dK += dSᵀ·Q
                let ds = Matrix::new(&ds[columns.start..], queries, columns.len(), keys);
                host::matmul(dq, d, into, ds, k, Parallelism::None);
                host::matmul(&mut out.dk[i], d, Into::Add, ds.t(), q, Parallelism::None);
            }
        }
        out
    }

    /// softmax of the scaled scores of one head, 0 where a key is not seen. `(Q, S)`
    fn probabilities(&self, segment: &Segment, kv_head: usize, head: usize, scores: &mut [f32]) {
        let keys = segment.keys();
        if segment.queries.len() <= FEW_QUERIES {
            self.scores_by_rows(segment, kv_head, head, scores);
        } else {
            let q = self.queries(self.q, segment, head);
            for (columns, k, _) in self.key_blocks(self.k, segment, kv_head) {
                host::matmul(&mut scores[columns.start..], keys, Into::Overwrite, q, k.t(), Parallelism::None);
            }
        }
        let scale = self.shape.scale() as f32;
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            let visible = segment.visible(i, self.shape.sliding_window);
            softmax_row(row, visible, scale);
        }
    }

    fn scores_by_rows(&self, segment: &Segment, kv_head: usize, head: usize, scores: &mut [f32]) {
        let (d, width, k_width) = self.widths();
        let keys = segment.keys();
        for (row, scores) in segment.queries.clone().zip(scores.chunks_exact_mut(keys)) {
            let q = &self.q[row * width + head * d..][..d];
            let k_rows = segment.context.clone().chain(segment.own.clone());
            host::vectorised(
                #[inline(always)]
                || {
                    for (k_row, score) in k_rows.zip(scores) {
                        *score = host::dot(q, &self.k[k_row * k_width + kv_head * d..][..d]);
                    }
                },
            );
        }
    }

    fn weigh_rows(&self, segment: &Segment, kv_head: usize, p: &[f32], y: &mut [f32]) {
        let (d, _, k_width) = self.widths();
        for (p, y) in p.chunks_exact(segment.keys()).zip(y.chunks_exact_mut(d)) {
            let k_rows = segment.context.clone().chain(segment.own.clone());
            host::vectorised(
                #[inline(always)]
                || {
                    for (k_row, p) in k_rows.zip(p) {
                        host::axpy(y, *p, &self.v[k_row * k_width + kv_head * d..][..d]);
                    }
                },
            );
        }
    }

    fn widths(&self) -> (usize, usize, usize) {
        let d = self.shape.head_dim;
        (d, self.shape.heads * d, self.shape.kv_heads * d)
    }

    /// One head's rows of a segment's queries. `(Q, D)`
    fn queries<'b>(&self, rows: &'b [f32], segment: &Segment, head: usize) -> Matrix<'b> {
        let (d, width, _) = self.widths();
        let start = (segment.queries.start * width + head * d).min(rows.len());
        Matrix::new(&rows[start..], segment.queries.len(), d, width)
    }

    /// Context and own rows of keys or values: columns of the scores, the matrix `(S, D)`, and whether a product over keys
    /// begins or goes on with this block.
    fn key_blocks<'b>(&self, rows: &'b [f32], segment: &Segment, kv_head: usize) -> [(Range<usize>, Matrix<'b>, Into); 2] {
        let (d, _, width) = self.widths();
        let block = |range: &Range<usize>| {
            let start = (range.start * width + kv_head * d).min(rows.len());
            Matrix::new(&rows[start..], range.len(), d, width)
        };
        let context = segment.context.len();
        let own_into = if context == 0 { Into::Overwrite } else { Into::Add };
        [
            (0..context, block(&segment.context), if context == 0 { Into::Add } else { Into::Overwrite }),
            (context..segment.keys(), block(&segment.own), own_into),
        ]
    }
}

fn softmax_row(row: &mut [f32], visible: Range<usize>, scale: f32) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
    let row = &mut row[visible];
    host::vectorised(
        #[inline(always)]
        || {
            row.iter_mut().for_each(|x| *x *= scale);
            let shift = host::max(row);
            let inverse = 1.0 / host::exp_sum(row, shift);
            row.iter_mut().for_each(|x| *x *= inverse);
        },
    )
}

/// Turns dP into dS = P∘(dP − Σ P∘dP)·scale, row by row.
fn softmax_vjp(p: &[f32], ds: &mut [f32], keys: usize, scale: f32) {
    host::vectorised(
        #[inline(always)]
        || {
            for (p, ds) in p.chunks_exact(keys).zip(ds.chunks_exact_mut(keys)) {
                let mean = host::dot(p, ds);
                for (ds, p) in ds.iter_mut().zip(p) {
                    *ds = p * (*ds - mean) * scale;
                }
            }
        },
    )
}
