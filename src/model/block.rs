//! One decoder block: two branches around a residual, x + attention(x) and then + mlp(x), with norms before or after each
//! sub-layer as the architecture has them. `forward` returns what `vjp` needs beside its output; who wants no gradient drops
//! it.

use candle_core::{DType, Tensor};

use super::attention::{Attention, AttentionSaved};
use super::cache::LayerCache;
use super::config::Config;
use super::loader::Loader;
use super::mlp::{Mlp, MlpSaved};
use super::norm::Norm;
use super::plan::Queries;
use crate::Result;
use crate::ops::weight::Weight;

#[derive(Debug, Clone)]
pub(super) struct Block {
    around_attention: Branch,
    self_attn: Attention,
    around_mlp: Branch,
    mlp: Mlp,
}

/// What stands around a sub-layer: residual + multiplier·after(sub-layer(before(x))).
#[derive(Debug, Clone)]
struct Branch {
    before: Option<Norm>,
    after: Option<Norm>,
    multiplier: f64,
}

/// What a block's vjp needs of its forward pass.
#[derive(Debug, Clone)]
pub struct Saved {
    pub(super) x: Tensor, // (R, H)
    pub(super) attention: AttentionSaved,
    pub(super) attended: Option<Tensor>, // (Q, H), where a norm follows
    pub(super) middle: Tensor,           // (Q, H)
    pub(super) mlp: MlpSaved,
    pub(super) fed: Option<Tensor>, // (Q, H), where a norm follows
}

impl Saved {
    /// Keys, rotated, and values of every row that the block saw. `(T, K·D)` each
    pub(crate) fn keys_and_values(&self) -> [&Tensor; 2] {
        [&self.attention.k, &self.attention.v]
    }
}

impl Block {
    /// Reads block `index`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` says.
    pub fn load(loader: &Loader, config: &Config, index: usize) -> Result<Self> {
        let loader = loader.part(&format!("model.layers.{index}"));
        let norms = config.architecture.norms;
        // Llama's name for the norm before the MLP is that of others for the norm after attention.
        let before_mlp = if norms.after { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let norm = |there: bool, name| there.then(|| Norm::load(&loader, name, config.hidden_size)).transpose();
        let branch = |before, after| -> Result<Branch> {
            let multiplier = config.architecture.residual_multiplier;
            Ok(Branch { before: norm(norms.before, before)?, after: norm(norms.after, after)?, multiplier })
        };
        Ok(Self {
            around_attention: branch("input_layernorm", "post_attention_layernorm")?,
            self_attn: Attention::load(&loader.part("self_attn"), config, index)?,
            around_mlp: branch(before_mlp, "post_feedforward_layernorm")?,
            mlp: Mlp::load(&loader.part("mlp"), config, index)?,
        })
    }

    /// Matrices of the block.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.self_attn.weights().into_iter().chain(self.mlp.weights())
    }

    /// `x (R, H)` → `(Q, H)`. With a cache, the new keys and values are written to it and the segments count its rows.
    pub fn forward(&self, x: &Tensor, rows: Queries, cache: Option<&mut LayerCache>) -> Result<(Tensor, Saved)> {
        let attend = |normed: &Tensor, onto: Option<&Tensor>| self.self_attn.forward(normed, onto, rows, cache);
        let feed = |normed: &Tensor, onto: Option<&Tensor>| self.mlp.forward(normed, onto, rows.plan.products);
        let (middle, attention, attended) = self.around_attention.forward(x, &rows.take(x)?, attend)?;
        let (y, mlp, fed) = self.around_mlp.forward(&middle, &middle, feed)?;
        Ok((y, Saved { x: x.clone(), attention, attended, middle, mlp, fed }))
    }

    /// Gradient of the block's input, given that of its output. `dy (Q, H)` → `(R, H)`.
    pub fn vjp(&self, saved: &Saved, rows: Queries, dy: &Tensor) -> Result<Tensor> {
        let d_out = self.around_mlp.vjp_of_output(saved.fed.as_ref(), dy)?;
        let d_normed = self.mlp.vjp(&saved.mlp, &d_out)?;
        let d_middle = self.around_mlp.vjp_onto(dy, &saved.middle, &d_normed)?;
        let d_out = self.around_attention.vjp_of_output(saved.attended.as_ref(), &d_middle)?;
        let d_normed = self.self_attn.vjp(&saved.attention, rows, &d_out)?;
        self.around_attention.vjp_onto(&rows.put_back(&d_middle)?, &saved.x, &d_normed)
    }
}

impl Branch {
    /// The sum of `residual (Q, H)` and the branch of `x (R, H)`, what the sub-layer saved, and its output where a norm
    /// follows. The sub-layer adds to the residual by itself where nothing stands between.
    fn forward<S>(
        &self,
        x: &Tensor,
        residual: &Tensor,
        sub_layer: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<(Tensor, S)>,
    ) -> Result<(Tensor, S, Option<Tensor>)> {
        let normed = self.before.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(x))?;
        if self.after.is_none() && self.multiplier == 1.0 {
            let (y, saved) = sub_layer(&normed, Some(residual))?;
            return Ok((y, saved, None));
        }
        let (out, saved) = sub_layer(&normed, None)?;
        let branch = self.after.as_ref().map_or(Ok(out.clone()), |norm| norm.forward(&out))?;
        let y = (residual + self.scaled(branch)?)?;
        Ok((y, saved, self.after.is_some().then_some(out)))
    }

    /// Gradient of the sub-layer's output, which was `out`, given that of the sum.
    fn vjp_of_output(&self, out: Option<&Tensor>, dy: &Tensor) -> Result<Tensor> {
        let d_branch = self.scaled(dy.clone())?;
        match (&self.after, out) {
            (Some(norm), Some(out)) => norm.vjp(out, &d_branch),
            _ => Ok(d_branch),
        }
    }

    /// `residual` + the gradient of x, given that of the sub-layer's input.
    fn vjp_onto(&self, residual: &Tensor, x: &Tensor, d_normed: &Tensor) -> Result<Tensor> {
        match &self.before {
            Some(norm) => norm.vjp_onto(residual, x, d_normed),
            None => Ok((residual + d_normed)?),
        }
    }

    fn scaled(&self, x: Tensor) -> Result<Tensor> {
        if self.multiplier == 1.0 {
            return Ok(x);
        }
        // The factor itself is not rounded to 16 bits.
        Ok((x.to_dtype(DType::F32)? * self.multiplier)?.to_dtype(x.dtype())?)
    }
}
