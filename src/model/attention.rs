//! The attention of a block: projections, norms of heads, rotary embedding, the product with keys and values, cached or
//! frozen ones among them, and the output projection. Softmax and masks are `ops::attention`'s.

use candle_core::Tensor;

use super::architecture::QkNorm;
use super::cache::LayerCache;
use super::config::Config;
use super::loader::Loader;
use super::norm::Norm;
use super::plan::Queries;
use crate::Result;
use crate::ops::attention::{self, Gradients};
use crate::ops::linear::Linear;
use crate::ops::rope;
use crate::ops::weight::Weight;

/// Field names are the checkpoint's, fused projections joined by their parts' order.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv_proj: Linear,     // ((N + 2K)·D, H)
    q_norm: Option<Norm>, // (D), or (N·D)
    k_norm: Option<Norm>, // (D), or (K·D)
    o_proj: Linear,       // (H, N·D)
    product: attention::AttentionShape,
    /// Columns of queries, and of keys or values.
    widths: [usize; 2],
    /// Index of the block's rotary embedding among the model's.
    rope: usize,
    /// Index of the block.
    block: usize,
}

/// What [`Attention::vjp`] needs of the forward pass.
#[derive(Debug, Clone)]
pub(super) struct AttentionSaved {
    pub qk: Option<[Tensor; 2]>, // before q_norm and k_norm: (Q, N·D), (R, K·D)
    pub q: Tensor,               // (Q, N·D)
    pub k: Tensor,               // (T, K·D)
    pub v: Tensor,               // (T, K·D)
}

impl Attention {
    pub fn load(loader: &Loader, config: &Config, block: usize) -> Result<Self> {
        let (h, d) = (config.hidden_size, config.head_dim);
        let (sizes, architecture) = (config.sizes(), &config.architecture);
        let qkv = [("q_proj", sizes.q_width), ("k_proj", sizes.kv_width), ("v_proj", sizes.kv_width)];
        let norm = |name, width| match architecture.qk_norm {
            QkNorm::Absent => Ok(None),
            QkNorm::Head => Norm::load(loader, name, d).map(Some),
            QkNorm::AllHeads => Norm::load(loader, name, width).map(Some),
        };
        Ok(Self {
            qkv_proj: loader.linear(&qkv, h, architecture.qkv_bias)?,
            q_norm: norm("q_norm", sizes.q_width)?,
            k_norm: norm("k_norm", sizes.kv_width)?,
            o_proj: loader.linear(&[("o_proj", h)], sizes.q_width, architecture.o_bias)?,
            product: attention::AttentionShape {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: d,
                sliding_window: architecture.windows.get(block).copied().flatten(),
                scale: architecture.attention_scale.unwrap_or(1.0 / (d as f64).sqrt()),
                softcap: architecture.attention_softcap,
            },
            widths: [sizes.q_width, sizes.kv_width],
            rope: architecture.ropes.get(block).copied().unwrap_or_default(),
            block,
        })
    }

    pub fn weights(&self) -> [&Weight; 2] {
        [&self.qkv_proj.weight, &self.o_proj.weight]
    }

    /// \[`onto (Q, H)` +\] attention(`x (R, H)`) → `(Q, H)`. With a cache, the new keys and values are written to it and the
    /// segments count its rows.
    pub fn forward(
        &self,
        x: &Tensor,
        onto: Option<&Tensor>,
        rows: Queries,
        cache: Option<&mut LayerCache>,
    ) -> Result<(Tensor, AttentionSaved)> {
        let qkv = self.qkv_proj.forward(x, rows.plan.products)?; // (R, (N + 2K)·D)
        let (qk, [q, k, v]) = self.split(&qkv, rows)?;
        let [k, v] = rows.plan.with_frozen(self.block, [k, v])?; // (T, K·D)
        let attended = match cache {
            None => self.product.forward(&q, &k, &v, rows.segments())?,
            Some(cache) => {
                cache.write(&k, &v, &rows.plan.segments)?;
                self.product.forward(&q, &cache.k, &cache.v, rows.segments())?
            }
        };
        let y = match onto {
            Some(onto) => self.o_proj.forward_onto(onto, &attended, rows.plan.products)?, // (Q, H)
            None => self.o_proj.forward(&attended, rows.plan.products)?,
        };
        Ok((y, AttentionSaved { qk, q, k, v }))
    }

    /// Gradient of `x`, given that of the output. `dy (Q, H)` → `(R, H)`.
    pub fn vjp(&self, saved: &AttentionSaved, rows: Queries, dy: &Tensor) -> Result<Tensor> {
        let d_attended = self.o_proj.vjp(dy)?;
        let gradients = self.product.vjp(&saved.q, &saved.k, &saved.v, rows.segments(), &d_attended)?;
        self.qkv_proj.vjp(&self.join(saved, rows, gradients)?)
    }

    /// Rotated queries and keys, and values, `qkv (R, (N + 2K)·D)` → `(Q, N·D)`, twice `(R, K·D)`; where the architecture
    /// normalises heads, also what queries and keys were before that.
    fn split(&self, qkv: &Tensor, rows: Queries) -> Result<(Option<[Tensor; 2]>, [Tensor; 3])> {
        let [q_width, kv_width] = self.widths;
        let angles = &rows.plan.angles[self.rope];
        if self.q_norm.is_none() && self.k_norm.is_none() {
            return Ok((None, rope::split(qkv, [q_width, kv_width], angles, rows.selected(self.rope))?));
        }
        let columns = |x: &Tensor, start, width| -> Result<Tensor> { Ok(x.narrow(1, start, width)?.contiguous()?) };
        let q_before = columns(&rows.take(qkv)?, 0, q_width)?;
        let k_before = columns(qkv, q_width, kv_width)?;
        let q = rope::forward(&normed(self.q_norm.as_ref(), &q_before)?, rows.angles(self.rope))?;
        let k = rope::forward(&normed(self.k_norm.as_ref(), &k_before)?, angles)?;
        let v = columns(qkv, q_width + kv_width, kv_width)?;
        Ok((Some([q_before, k_before]), [q, k, v]))
    }

    /// The gradient of [`Attention::split`]'s `qkv`.
    fn join(&self, saved: &AttentionSaved, rows: Queries, gradients: Gradients) -> Result<Tensor> {
        let angles = &rows.plan.angles[self.rope];
        let (dk, dv) = (rows.plan.of_pass(gradients.k)?, rows.plan.of_pass(gradients.v)?);
        let Some([q_before, k_before]) = &saved.qk else {
            return rope::join([&gradients.q, &dk, &dv], angles, rows.selected(self.rope));
        };
        let dq = rope::forward(&gradients.q, &rows.angles(self.rope).inverse())?;
        let dq = rows.put_back(&normed_vjp(self.q_norm.as_ref(), q_before, dq)?)?;
        let dk = normed_vjp(self.k_norm.as_ref(), k_before, rope::forward(&dk, &angles.inverse())?)?;
        Ok(Tensor::cat(&[dq, dk, dv], 1)?)
    }
}

fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward_heads(x),
        None => Ok(x.clone()),
    }
}

fn normed_vjp(norm: Option<&Norm>, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.vjp_heads(x, &dy),
        None => Ok(dy),
    }
}
