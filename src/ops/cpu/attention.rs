//! Attention on f32 slices of the CPU, in one task for each segment and key-value head. A task lays the keys and values
//! that the segment sees side by side once, for all query heads that share them; as many of these heads as fit the
//! processor's cache go through one product.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::dots::dots;
use super::product::{Matrix, Parallelism, Write, matmul};
use super::slices::{self, HostSlice};
use super::softcap;
use super::vector::{axpy, dot, exp_sum, max, vectorised};
use crate::Result;
use crate::ops::segment::{AttentionShape, Gradients, Segment};
use crate::ops::tiles::tiles;

/// Most queries of a segment for which products by rows beat packed ones. They add in another order.
pub const FEW_QUERIES: usize = 4;

/// Elements of an output that stay in registers while the values of all keys are added to them.
const IN_REGISTERS: usize = 64;

/// Most scores that one product computes, unless a single head has more: 1 MiB of them.
const SCORES: usize = 1 << 18;

/// The slices of q, k and v, and the shape of the heads.
struct AttentionInputs<'a> {
    shape: &'a AttentionShape,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

/// Gradients that one task computes.
struct TaskGradients {
    dq: Vec<f32>, // (G, Q, D)
    dk: Vec<f32>, // (S, D)
    dv: Vec<f32>, // (S, D)
}

/// `q (Q, N·D)`, `k` and `v (T, K·D)` → `(Q, N·D)`.
pub fn forward(shape: &AttentionShape, [q, k, v]: [&Tensor; 3], segments: &[Segment]) -> Result<Tensor> {
    let (rows, width) = q.dims2()?;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (q, k, v) = (HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?);
    let inputs = AttentionInputs { shape, q: &q, k: &k, v: &v };
    let tasks = tasks(shape, segments);
    let parts: Vec<Vec<f32>> = tasks.par_iter().map(|(segment, kv_head)| inputs.forward(segment, *kv_head)).collect();
    let y = join_heads(shape, rows, &tasks, |task| &parts[task]);
    slices::tensor(y, (rows, width))
}

/// Gradients of q, k and v, given that of the output, `dy (Q, N·D)`.
pub fn vjp(shape: &AttentionShape, [q, k, v]: [&Tensor; 3], segments: &[Segment], dy: &Tensor) -> Result<Gradients> {
    let ((q_rows, q_width), (k_rows, k_width)) = (q.dims2()?, k.dims2()?);
    let (q, k, v, dy) = (q.contiguous()?, k.contiguous()?, v.contiguous()?, dy.contiguous()?);
    let (q, k, v, dy) = (HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?, HostSlice::new(&dy)?);
    let (inputs, dy) = (AttentionInputs { shape, q: &q, k: &k, v: &v }, &*dy);
    let tasks = tasks(shape, segments);
    let parts: Vec<TaskGradients> = tasks.par_iter().map(|(segment, kv_head)| inputs.vjp(segment, *kv_head, dy)).collect();
    let dq = join_heads(shape, q_rows, &tasks, |task| &parts[task].dq);
    let (mut dk, mut dv) = (vec![0f32; k_rows * k_width], vec![0f32; k_rows * k_width]);
    // Serial, in the order of the tasks: the same sums whatever the number of threads.
    for ((segment, kv_head), part) in tasks.iter().zip(parts) {
        add_key_rows(shape, &mut dk, segment, *kv_head, &part.dk);
        add_key_rows(shape, &mut dv, segment, *kv_head, &part.dv);
    }
    Ok(Gradients {
        q: slices::tensor(dq, (q_rows, q_width))?,
        k: slices::tensor(dk, (k_rows, k_width))?,
        v: slices::tensor(dv, (k_rows, k_width))?,
    })
}

/// Segments with queries, each once for every key-value head.
fn tasks<'a>(shape: &AttentionShape, segments: &'a [Segment]) -> Vec<(&'a Segment, usize)> {
    let with_queries = segments.iter().filter(|segment| !segment.queries.is_empty());
    with_queries.flat_map(|segment| (0..shape.kv_heads).map(move |head| (segment, head))).collect()
}

/// Joins the results of the tasks, `(G, Q, D)` each, to rows `(rows, N·D)`; rows of no task are zero.
fn join_heads<'p>(
    shape: &AttentionShape,
    rows: usize,
    tasks: &[(&Segment, usize)],
    part: impl Fn(usize) -> &'p [f32] + Sync,
) -> Vec<f32> {
    let d = shape.head_dim;
    let mut first_tasks = vec![None; rows];
    for (task, (segment, kv_head)) in tasks.iter().enumerate() {
        if *kv_head == 0 {
            first_tasks[segment.queries.clone()].fill(Some(task));
        }
    }
    slices::rows(rows, shape.heads * d, |row, y| {
        let Some(first) = first_tasks[row] else { return };
        for (task, y) in (first..).zip(y.chunks_exact_mut(shape.group() * d)) {
            let queries = &tasks[task].0.queries;
            for (head, y) in part(task).chunks_exact(queries.len() * d).zip(y.chunks_exact_mut(d)) {
                y.copy_from_slice(&head[(row - queries.start) * d..][..d]);
            }
        }
    })
}

/// Adds a head's `(S, D)` to its columns of the rows of `(·, K·D)` that a segment sees.
fn add_key_rows(shape: &AttentionShape, y: &mut [f32], segment: &Segment, kv_head: usize, part: &[f32]) {
    let (d, width) = (shape.head_dim, shape.kv_heads * shape.head_dim);
    for (row, values) in segment.key_rows().zip(part.chunks_exact(d)) {
        for (y, x) in y[row * width + kv_head * d..][..d].iter_mut().zip(values) {
            *y += x;
        }
    }
}

impl<'a> AttentionInputs<'a> {
    /// The outputs of one task. → `(G, Q, D)`
    fn forward(&self, segment: &Segment, kv_head: usize) -> Vec<f32> {
        if segment.queries.len() <= FEW_QUERIES {
            return self.forward_by_rows(segment, kv_head);
        }
        let (d, keys) = (self.shape.head_dim, segment.keys());
        let (k, v) = (self.keys(self.k, segment, kv_head), self.keys(self.v, segment, kv_head));
        let mut y = vec![0f32; self.shape.group() * segment.queries.len() * d];
        let mut p = Vec::new();
        for heads in self.groups_of_heads(segment) {
            let q = self.queries(self.q, segment, kv_head, heads.clone());
            self.scores(segment, &q, &k, &mut p);
            self.softmax(segment, &mut p);
            let (rows, y) = (q.len() / d, &mut y[heads.start * segment.queries.len() * d..]);
            let (p, v) = (Matrix::new(&p, rows, keys, keys), Matrix::new(&v, keys, d, d));
            matmul(y, d, Write::Overwrite, p, v, Parallelism::None);
        }
        y
    }

    /// The gradients of one task.
    fn vjp(&self, segment: &Segment, kv_head: usize, dy: &[f32]) -> TaskGradients {
        let (d, keys, queries) = (self.shape.head_dim, segment.keys(), segment.queries.len());
        let (k, v) = (self.keys(self.k, segment, kv_head), self.keys(self.v, segment, kv_head));
        let (k_matrix, v_matrix) = (Matrix::new(&k, keys, d, d), Matrix::new(&v, keys, d, d));
        let mut out = TaskGradients {
            dq: vec![0f32; self.shape.group() * queries * d],
            dk: vec![0f32; keys * d],
            dv: vec![0f32; keys * d],
        };
        let (mut p, mut ds, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for heads in self.groups_of_heads(segment) {
            let (q, dy) =
                (self.queries(self.q, segment, kv_head, heads.clone()), self.queries(dy, segment, kv_head, heads.clone()));
            let rows = q.len() / d;
            let (q_matrix, dy) = (Matrix::new(&q, rows, d, d), Matrix::new(&dy, rows, d, d));
            self.scores(segment, &q, &k, &mut p);
            if self.shape.softcap.is_some() {
                scores.clone_from(&p);
            }
            self.softmax(segment, &mut p);
            // dP = dO·Vᵀ, dV += Pᵀ·dO
            ds.resize(rows * keys, 0.0);
            matmul(&mut ds, keys, Write::Overwrite, dy, v_matrix.t(), Parallelism::None);
            matmul(&mut out.dv, d, Write::Add, Matrix::new(&p, rows, keys, keys).t(), dy, Parallelism::None);
            softmax_vjp(&p, &mut ds, keys, self.shape.scale as f32);
            if let Some(cap) = self.shape.softcap {
                softcap_vjp(&scores, &mut ds, cap as f32);
            }
            // dQ = dS·K, dK += dSᵀ·Q
            let (ds, dq) = (Matrix::new(&ds, rows, keys, keys), &mut out.dq[heads.start * queries * d..]);
            matmul(dq, d, Write::Overwrite, ds, k_matrix, Parallelism::None);
            matmul(&mut out.dk, d, Write::Add, ds.t(), q_matrix, Parallelism::None);
        }
        out
    }

    /// Writes the scores of some heads' queries `q (G·Q, D)` to `scores (G·Q, S)`: not scaled yet, or scaled and soft-capped.
    fn scores(&self, segment: &Segment, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
        let (d, keys) = (self.shape.head_dim, segment.keys());
        let rows = q.len() / d;
        scores.resize(rows * keys, 0.0);
        let (q, k) = (Matrix::new(q, rows, d, d), Matrix::new(k, keys, d, d));
        matmul(scores, keys, Write::Overwrite, q, k.t(), Parallelism::None);
        self.cap(scores);
    }

    /// Scales and soft-caps scores, where there is a softcap.
    fn cap(&self, scores: &mut [f32]) {
        if let Some(cap) = self.shape.softcap {
            softcap::in_place(scores, (self.shape.scale / cap) as f32, cap as f32);
        }
    }

    /// Takes the softmax of some heads' `scores (G·Q, S)` over the keys that each query sees: 0 where a key is not seen.
    fn softmax(&self, segment: &Segment, scores: &mut [f32]) {
        let scale = if self.shape.softcap.is_none() { self.shape.scale as f32 } else { 1.0 };
        for head in scores.chunks_exact_mut(segment.queries.len() * segment.keys()) {
            for (i, row) in head.chunks_exact_mut(segment.keys()).enumerate() {
                softmax_row(row, segment.visible(i, self.shape.sliding_window), scale);
            }
        }
    }

    /// Ranges of the heads of a group that go through one product each.
    fn groups_of_heads(&self, segment: &Segment) -> impl Iterator<Item = Range<usize>> {
        let group = self.shape.group();
        let at_once = (SCORES / (segment.queries.len() * segment.keys()).max(1)).clamp(1, group);
        tiles(group, at_once)
    }

    /// The keys or values that a segment sees, side by side. → `(S, D)`
    fn keys(&self, rows: &[f32], segment: &Segment, kv_head: usize) -> Vec<f32> {
        let (d, _, width) = self.widths();
        let mut gathered = Vec::with_capacity(segment.keys() * d);
        segment.key_rows().for_each(|row| gathered.extend_from_slice(&rows[row * width + kv_head * d..][..d]));
        gathered
    }

    /// A segment's rows of some heads of a group, heads outermost. → `(G·Q, D)`
    fn queries(&self, rows: &[f32], segment: &Segment, kv_head: usize, heads: Range<usize>) -> Vec<f32> {
        let (d, width, _) = self.widths();
        let mut gathered = Vec::with_capacity(heads.len() * segment.queries.len() * d);
        for head in heads {
            let column = (kv_head * self.shape.group() + head) * d;
            segment.queries.clone().for_each(|row| gathered.extend_from_slice(&rows[row * width + column..][..d]));
        }
        gathered
    }

    /// The outputs of one task without a copy of keys and values, which are read once a head. → `(G, Q, D)`
    fn forward_by_rows(&self, segment: &Segment, kv_head: usize) -> Vec<f32> {
        let ((d, _, k_width), queries) = (self.widths(), segment.queries.len());
        let mut y = vec![0f32; self.shape.group() * queries * d];
        let mut scores = vec![0f32; queries * segment.keys()];
        // Where this head's part of each row begins.
        let places: Vec<usize> = segment.key_rows().map(|row| row * k_width + kv_head * d).collect();
        for (g, y) in y.chunks_exact_mut(queries * d).enumerate() {
            self.scores_by_rows(segment, &places, kv_head * self.shape.group() + g, &mut scores);
            self.cap(&mut scores);
            self.softmax(segment, &mut scores);
            self.weigh_rows(&places, &scores, y);
        }
        y
    }

    /// Writes one head's products of queries and keys to `scores (Q, S)`.
    fn scores_by_rows(&self, segment: &Segment, places: &[usize], head: usize, scores: &mut [f32]) {
        let (d, width, _) = self.widths();
        for (row, scores) in segment.queries.clone().zip(scores.chunks_exact_mut(places.len())) {
            let q = &self.q[row * width + head * d..][..d];
            dots(q, places.iter().map(|place| &self.k[*place..][..d]), scores);
        }
    }

    /// Adds the values, weighted by `p (Q, S)`, to `y (Q, D)`.
    fn weigh_rows(&self, places: &[usize], p: &[f32], y: &mut [f32]) {
        let d = self.shape.head_dim;
        for (p, y) in p.chunks_exact(places.len()).zip(y.chunks_exact_mut(d)) {
            vectorised(
                #[inline(always)]
                || {
                    let value = |place: usize, from: usize| &self.v[place + from..];
                    let (blocks, rest) = y.as_chunks_mut::<IN_REGISTERS>();
                    for (block, y) in blocks.iter_mut().enumerate() {
                        let mut sums = *y;
                        for (place, p) in places.iter().zip(p) {
                            let v = &value(*place, block * IN_REGISTERS)[..IN_REGISTERS];
                            for i in 0..IN_REGISTERS {
                                sums[i] = p.mul_add(v[i], sums[i]);
                            }
                        }
                        *y = sums;
                    }
                    if !rest.is_empty() {
                        for (place, p) in places.iter().zip(p) {
                            axpy(rest, *p, value(*place, d - rest.len()));
                        }
                    }
                },
            );
        }
    }

    /// The head dimension, and the widths of a row of queries and of a row of keys.
    fn widths(&self) -> (usize, usize, usize) {
        let d = self.shape.head_dim;
        (d, self.shape.heads * d, self.shape.kv_heads * d)
    }
}

/// Scales the visible part of a row and takes its softmax; the rest becomes 0.
fn softmax_row(row: &mut [f32], visible: Range<usize>, scale: f32) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
    let row = &mut row[visible];
    vectorised(
        #[inline(always)]
        || {
            row.iter_mut().for_each(|x| *x *= scale);
            let shift = max(row);
            let inverse = 1.0 / exp_sum(row, shift);
            row.iter_mut().for_each(|x| *x *= inverse);
        },
    )
}

/// Turns dP into dS = P∘(dP − Σ P∘dP)·scale, row by row.
fn softmax_vjp(p: &[f32], ds: &mut [f32], keys: usize, scale: f32) {
    vectorised(
        #[inline(always)]
        || {
            for (p, ds) in p.chunks_exact(keys).zip(ds.chunks_exact_mut(keys)) {
                let mean = dot(p, ds);
                for (ds, p) in ds.iter_mut().zip(p) {
                    *ds = p * (*ds - mean) * scale;
                }
            }
        },
    )
}

/// Turns the gradient of soft-capped `scores` into that of the scores before.
fn softcap_vjp(scores: &[f32], ds: &mut [f32], cap: f32) {
    let inverse = 1.0 / cap;
    vectorised(
        #[inline(always)]
        || ds.iter_mut().zip(scores).for_each(|(ds, score)| *ds *= softcap::slope(*score, inverse)),
    )
}
