//! Causal attention with grouped queries over runs of rows that see each other: softmax(scale·q·kᵀ)·v, where the
//! scores may be soft-capped first; softmax in f32. The vjp computes the probabilities again instead of keeping them. The body composed of candle's ops takes a segment at a time.

use std::ops::{Deref, Range};

use candle_core::{D, DType, Device, Tensor};

pub(crate) use super::cpu::attention::FEW_QUERIES;
use super::cpu::slices::is_host_f32;
use super::cuda::{Launcher, SegmentTables};
use super::matmul::matmul;
pub use super::segment::{AttentionShape, Gradients, Segment};
use super::softmax::softmax;
use super::{cpu, cuda, softcap};
use crate::Result;

/// The segments of one pass, and on a GPU the tables that its kernels read, uploaded once for all blocks.
#[derive(Debug, Clone)]
pub struct Segments {
    list: Vec<Segment>,
    tables: Option<SegmentTables>,
}

impl Segments {
    /// Segments of a pass with `key_rows` rows of k and v. Where these are rows of a cache, `key_rows` may be less than what
    /// the segments see; no gradient is taken then.
    pub fn new(list: Vec<Segment>, key_rows: usize, device: &Device) -> Result<Self> {
        let tables = cuda::launcher(device).map(|_| SegmentTables::new(&list, key_rows, device)).transpose()?;
        Ok(Self { list, tables })
    }

    /// Writes the rows of k and v of a pass, `(T, K·D)`, to their positions in the rows of a cache.
    pub(crate) fn write(&self, [k, v]: [&Tensor; 2], [cache_k, cache_v]: [&Tensor; 2]) -> Result<()> {
        match (cuda::launcher(k.device()), &self.tables) {
            (Some(launcher), Some(tables)) => cuda::cache::write(launcher, [k, v], [cache_k, cache_v], tables),
            _ => self.write_runs([k, v], [cache_k, cache_v]),
        }
    }

    fn write_runs(&self, new: [&Tensor; 2], cache: [&Tensor; 2]) -> Result<()> {
        let place = |segment: &Segment| (segment.queries.clone(), segment.own.end - segment.queries.len());
        let runs: Vec<(Range<usize>, usize)> = self.iter().map(place).collect();
        for (rows, cache) in new.into_iter().zip(cache) {
            if is_host_f32(rows) && is_host_f32(cache) {
                cpu::cache::write(rows, cache, &runs)?;
                continue;
            }
            for (run, first) in &runs {
                cache.slice_set(&rows.narrow(0, run.start, run.len())?.contiguous()?, 0, *first)?;
            }
        }
        Ok(())
    }
}

/// Copies some rows of the keys and values of a cache to those from `to` on.
pub(crate) fn copy_rows(cache: [&Tensor; 2], from: Range<usize>, to: usize) -> Result<()> {
    for rows in cache {
        if is_host_f32(rows) {
            cpu::cache::copy(rows, from.clone(), to)?;
            continue;
        }
        // The source must not be the storage that is written; `copy` would take the whole storage.
        let copied = rows.narrow(0, from.start, from.len())?.force_contiguous()?;
        rows.slice_set(&copied, 0, to)?;
    }
    Ok(())
}

impl Deref for Segments {
    type Target = [Segment];

    fn deref(&self) -> &[Segment] {
        &self.list
    }
}

impl AttentionShape {
    /// softmax(scale·q·kᵀ)·v. `q (Q, N·D)`, `k` and `v (T, K·D)` → `(Q, N·D)`. Every row of q is in exactly one segment.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<Tensor> {
        match self.launcher(q, segments) {
            Some((launcher, tables)) => cuda::attention::forward(launcher, self, [q, k, v], tables),
            None if is_host_f32(q) => cpu::attention::forward(self, [q, k, v], segments),
            None => self.forward_composed(q, k, v, segments),
        }
    }

    /// Gradients of q, k and v, given that of the output, `dy (Q, N·D)`.
    pub fn vjp(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, dy: &Tensor) -> Result<Gradients> {
        match self.launcher(q, segments) {
            Some((launcher, tables)) => cuda::attention::vjp(launcher, self, [q, k, v], tables, dy),
            None if is_host_f32(q) => cpu::attention::vjp(self, [q, k, v], segments, dy),
            None => self.vjp_composed(q, k, v, segments, dy),
        }
    }

    /// The launcher of the kernels and the tables that they read, where there are kernels for these heads.
    fn launcher<'a>(&self, q: &Tensor, segments: &'a Segments) -> Option<(&'static dyn Launcher, &'a SegmentTables)> {
        let launcher = cuda::launcher(q.device()).filter(|_| self.head_dim <= cuda::attention::MAX_HEAD_DIM)?;
        Some((launcher, segments.tables.as_ref()?))
    }

    pub(super) fn forward_composed(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let mut outputs = Vec::with_capacity(segments.len());
        let mut order = Vec::with_capacity(segments.len());
        for segment in segments.iter().filter(|s| !s.queries.is_empty()) {
            let heads = self.heads_of(q, k, v, segment)?;
            let y = product(&heads.probabilities.to_dtype(heads.v.dtype())?, &heads.v)?; // (N, Q, D)
            outputs.push(y.transpose(0, 1)?.reshape((segment.queries.len(), self.heads * self.head_dim))?);
            order.push(segment.queries.start);
        }
        let mut by_row: Vec<usize> = (0..order.len()).collect();
        by_row.sort_by_key(|i| order[*i]);
        let sorted: Vec<&Tensor> = by_row.iter().map(|i| &outputs[*i]).collect();
        Ok(Tensor::cat(&sorted, 0)?)
    }

    pub(super) fn vjp_composed(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segments: &[Segment],
        dy: &Tensor,
    ) -> Result<Gradients> {
        let mut gradients = Gradients {
            q: q.zeros_like()?.to_dtype(DType::F32)?,
            k: k.zeros_like()?.to_dtype(DType::F32)?,
            v: v.zeros_like()?.to_dtype(DType::F32)?,
        };
        for segment in segments.iter().filter(|s| !s.queries.is_empty()) {
            let heads = self.heads_of(q, k, v, segment)?;
            let rows = segment.queries.len();
            let dy = dy.narrow(0, segment.queries.start, rows)?.to_dtype(DType::F32)?;
            let dy = dy.reshape((rows, self.heads, self.head_dim))?.transpose(0, 1)?.contiguous()?; // (N, Q, D)
            let p = &heads.probabilities;
            let (q, k, v) = (heads.q.to_dtype(DType::F32)?, heads.k.to_dtype(DType::F32)?, heads.v.to_dtype(DType::F32)?);
            let dv = product(&p.transpose(1, 2)?, &dy)?; // (N, S, D)
            let dp = product(&dy, &v.transpose(1, 2)?)?; // (N, Q, S)
            let mean = (p * &dp)?.sum_keepdim(D::Minus1)?;
            let ds = ((p * dp.broadcast_sub(&mean)?)? * self.scale)?;
            let ds = match &heads.slopes {
                None => ds,
                Some(slopes) => (ds * slopes)?,
            };
            let dq = product(&ds, &k)?.transpose(0, 1)?.reshape((rows, self.heads * self.head_dim))?;
            let dk = product(&ds.transpose(1, 2)?, &q)?; // (N, S, D)
            gradients.q = add_rows(&gradients.q, segment.queries.clone().collect(), &dq)?;
            let keys: Vec<usize> = segment.key_rows().collect();
            gradients.k = add_rows(&gradients.k, keys.clone(), &self.sum_groups(&dk)?)?;
            gradients.v = add_rows(&gradients.v, keys, &self.sum_groups(&dv)?)?;
        }
        Ok(Gradients {
            q: gradients.q.to_dtype(q.dtype())?,
            k: gradients.k.to_dtype(k.dtype())?,
            v: gradients.v.to_dtype(v.dtype())?,
        })
    }

    fn heads_of(&self, q: &Tensor, k: &Tensor, v: &Tensor, segment: &Segment) -> Result<Heads> {
        let rows = segment.queries.len();
        let q = q.narrow(0, segment.queries.start, rows)?.reshape((rows, self.heads, self.head_dim))?;
        let q = q.transpose(0, 1)?.contiguous()?;
        let (k, v) = (self.keys_of(k, segment)?, self.keys_of(v, segment)?);
        let scores = (product(&q, &k.transpose(1, 2)?)?.to_dtype(DType::F32)? * self.scale)?;
        let (scores, slopes) = match self.softcap {
            None => (scores, None),
            Some(cap) => {
                let capped = softcap::forward(&scores, cap)?;
                let slopes = softcap::slope(&capped, cap)?;
                (capped, Some(slopes))
            }
        };
        let scores = scores.broadcast_add(&self.mask(segment, q.device())?)?;
        let probabilities = softmax(&scores)?;
        Ok(Heads { q, k, v, probabilities, slopes })
    }

    /// `(T, K·D)` → `(N, S, D)`.
    fn keys_of(&self, rows: &Tensor, segment: &Segment) -> Result<Tensor> {
        let runs = segment.key_runs().map(|run| rows.narrow(0, run.start, run.len()));
        let rows = Tensor::cat(&runs.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let s = segment.keys();
        let heads = rows.reshape((s, self.kv_heads, self.head_dim))?.transpose(0, 1)?.unsqueeze(1)?;
        let shape = (self.kv_heads, self.group(), s, self.head_dim);
        Ok(heads.broadcast_as(shape)?.reshape((self.heads, s, self.head_dim))?)
    }

    /// `(N, S, D)` → `(S, K·D)`, summed over each group of query heads.
    fn sum_groups(&self, x: &Tensor) -> Result<Tensor> {
        let (_, s, _) = x.dims3()?;
        let grouped = x.reshape((self.kv_heads, self.group(), s, self.head_dim))?.sum(1)?;
        Ok(grouped.transpose(0, 1)?.reshape((s, self.kv_heads * self.head_dim))?)
    }

    /// 0 where a query sees a key, −∞ elsewhere. `(Q, S)`
    fn mask(&self, segment: &Segment, device: &Device) -> Result<Tensor> {
        let (rows, keys) = (segment.queries.len(), segment.keys());
        let mut mask = vec![f32::NEG_INFINITY; rows * keys];
        for (i, row) in mask.chunks_exact_mut(keys).enumerate() {
            row[segment.visible(i, self.sliding_window)].fill(0.0);
        }
        Ok(Tensor::from_vec(mask, (rows, keys), device)?)
    }
}

/// One segment's tensors with the heads as their first dimension; keys and values are repeated for the query heads that
/// share them.
struct Heads {
    q: Tensor,             // (N, Q, D)
    k: Tensor,             // (N, S, D)
    v: Tensor,             // (N, S, D)
    probabilities: Tensor, // (N, Q, S) f32
    /// Slopes of the soft-capped scores by the scaled ones.
    slopes: Option<Tensor>, // (N, Q, S) f32
}

/// candle's product of two batches that may have gaps.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    matmul(&a.contiguous()?, &b.contiguous()?)
}

/// `to` with the rows of `x` added at `rows`.
fn add_rows(to: &Tensor, rows: Vec<usize>, x: &Tensor) -> Result<Tensor> {
    let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
    let index = Tensor::new(rows, to.device())?;
    Ok(to.index_add(&index, &x.contiguous()?, 0)?)
}
