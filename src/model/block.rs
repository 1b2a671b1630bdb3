//! One decoder block: x + attention(norm(x)), then + mlp(norm(·)). `forward` returns what `vjp` needs beside its output;
//! who wants no gradient drops it.

use candle_core::Tensor;

use super::attention::{Attention, AttentionSaved};
use super::cache::LayerCache;
use super::config::Config;
use super::loader::Loader;
use super::mlp::{Mlp, MlpSaved};
use super::norm::Norm;
use super::plan::Queries;
use crate::Result;
use crate::ops::weight::Weight;

/// Field names are the checkpoint's.
#[derive(Debug, Clone)]
pub(super) struct Block {
    input_layernorm: Norm,
    self_attn: Attention,
    post_attention_layernorm: Norm,
    mlp: Mlp,
    /// Which block of the model it is.
    pub index: usize,
}

/// What a block's vjp needs of its forward pass.
#[derive(Debug, Clone)]
pub struct Saved {
    pub(super) x: Tensor, // (R, H)
    pub(super) attention: AttentionSaved,
    pub(super) middle: Tensor, // (Q, H)
    pub(super) mlp: MlpSaved,
}

impl Saved {
    /// Keys, rotated, and values of every row that the block saw. `(T, K·D)` each
    pub fn keys_and_values(&self) -> [&Tensor; 2] {
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
        let norm = |name| Norm::load(&loader, name, config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(&loader.part("self_attn"), config, index)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(&loader.part("mlp"), config)?,
            index,
        })
    }

    /// Its matrices.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.self_attn.weights().into_iter().chain(self.mlp.weights())
    }

    /// `x (R, H)` → `(Q, H)`. With a cache, the new keys and values are written to it and the segments count its rows.
    pub fn forward(&self, x: &Tensor, rows: Queries, cache: Option<&mut LayerCache>) -> Result<(Tensor, Saved)> {
        let normed = self.input_layernorm.forward(x)?;
        let (middle, attention) = self.self_attn.forward(&normed, &rows.take(x)?, rows, cache)?; // x + attention(norm(x))
        let normed = self.post_attention_layernorm.forward(&middle)?;
        let (y, mlp) = self.mlp.forward(&normed, &middle)?; // middle + mlp(norm(middle))
        Ok((y, Saved { x: x.clone(), attention, middle, mlp }))
    }

    /// Gradient of the block's input, given that of its output. `dy (Q, H)` → `(R, H)`.
    pub fn vjp(&self, saved: &Saved, rows: Queries, dy: &Tensor) -> Result<Tensor> {
        let d_normed = self.mlp.vjp(&saved.mlp, dy)?;
        let d_middle = self.post_attention_layernorm.vjp_onto(dy, &saved.middle, &d_normed)?;
        let d_normed = self.self_attn.vjp(&saved.attention, rows, &d_middle)?;
        self.input_layernorm.vjp_onto(&rows.put_back(&d_middle)?, &saved.x, &d_normed)
    }
}
