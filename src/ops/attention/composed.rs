//! Attention from candle's ops, a segment at a time: any device and dtype.

use candle_core::{D, DType, Device, Tensor};

use super::{Attention, Gradients, Segment};
use crate::Result;

/// One segment's tensors, heads in front, keys and values repeated to the query heads.
struct Heads {
    q: Tensor,             // (N, Q, D)
    k: Tensor,             // (N, S, D)
    v: Tensor,             // (N, S, D)
    probabilities: Tensor, // (N, Q, S) f32
}

impl Attention {
    pub(in crate::ops) fn forward_composed(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let mut outputs = Vec::with_capacity(segments.len());
        let mut order = Vec::with_capacity(segments.len());
        for segment in segments.iter().filter(|s| !s.queries.is_empty()) {
            let heads = self.heads_of(q, k, v, segment)?;
            let y = matmul(&heads.probabilities.to_dtype(heads.v.dtype())?, &heads.v)?; // (N, Q, D)
            outputs.push(y.transpose(0, 1)?.reshape((segment.queries.len(), self.heads * self.head_dim))?);
            order.push(segment.queries.start);
        }
        let mut by_row: Vec<usize> = (0..order.len()).collect();
        by_row.sort_by_key(|i| order[*i]);
        let sorted: Vec<&Tensor> = by_row.iter().map(|i| &outputs[*i]).collect();
        Ok(Tensor::cat(&sorted, 0)?)
    }

    pub(in crate::ops) fn vjp_composed(
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
            let dv = matmul(&p.transpose(1, 2)?, &dy)?; // (N, S, D)
            let dp = matmul(&dy, &v.transpose(1, 2)?)?; // (N, Q, S)
            let mean = (p * &dp)?.sum_keepdim(D::Minus1)?;
            let ds = ((p * dp.broadcast_sub(&mean)?)? * self.scale())?;
            let dq = matmul(&ds, &k)?.transpose(0, 1)?.reshape((rows, self.heads * self.head_dim))?;
            let dk = matmul(&ds.transpose(1, 2)?, &q)?; // (N, S, D)
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
        let scores = (matmul(&q, &k.transpose(1, 2)?)?.to_dtype(DType::F32)? * self.scale())?;
        let scores = scores.broadcast_add(&self.mask(segment, q.device())?)?;
        let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        Ok(Heads { q, k, v, probabilities })
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

/// candle's batched product; bf16 on the CPU, which candle does not multiply, through f32.
fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    if a.device().is_cpu() && a.dtype() == DType::BF16 {
        return Ok(a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(DType::BF16)?);
    }
    Ok(a.matmul(&b)?)
}

fn add_rows(to: &Tensor, rows: Vec<usize>, x: &Tensor) -> Result<Tensor> {
    let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
    let index = Tensor::new(rows, to.device())?;
    Ok(to.index_add(&index, &x.contiguous()?, 0)?)
}
