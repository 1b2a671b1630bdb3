//! Personalise a frozen large language model with one steering vector.
//!
//! A vector `v` of the model's hidden size is added, times a factor, to the residual stream after decoder block `L`. It is
//! learned by bi-directional preference optimisation (BiPO, [arXiv 2406.00045](https://arxiv.org/abs/2406.00045)) from pairs
//! of a response that shows a behaviour and one that shows the opposite.
//!
//! Read the modules in the order in which data flows:
//!
//! ```text
//! train   dataset row ─▶ chat template ─▶ token ids + response span ─▶ blocks 0..=L (once a pair, cached)
//!         ─▶ +d·v ─▶ blocks L+1.. ─▶ log-probs of the response ─▶ bi-directional DPO loss ─▶ ∂/∂v ─▶ AdamW ─▶ safetensors
//!
//! steer   prompt ─▶ chat template ─▶ token ids ─▶ blocks 0..=L (once) ─▶ one branch a magnitude: +m·v
//!         ─▶ blocks L+1.. ─▶ sampler ─▶ next token of every branch in one batch ─▶ text
//! ```
//!
//! # Glossary
//!
//! - **layer** `L`: 0-based index of a decoder block; the vector is added to its *output*.
//! - **magnitude** `m`: the factor on the vector in generation. **direction** `d`: the same factor in training, ±1.
//! - **chosen** / **rejected**: the response that shows the target behaviour / the opposite one.
//! - **margin**: β·\[(log π_d(chosen) − log π(chosen)) − (log π_d(rejected) − log π(rejected))\].
//!
//! Shapes in comments: `B` sequences, `T` tokens, `H` hidden, `N` heads, `K` key-value heads, `D` head dimension, `I`
//! intermediate size, `V` vocabulary, `M` magnitudes.

pub mod activations;
pub mod agreement;
pub mod batch;
pub mod bench;
pub mod bytes;
pub mod caa;
pub mod cache_dir;
pub mod card;
pub mod chat;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod files;
pub mod fit;
pub mod flops;
pub mod generate;
pub mod layer_search;
pub mod layers;
pub mod lens;
pub mod loss;
pub mod magnitudes;
pub mod merge;
pub mod model;
pub mod ops;
pub mod optim;
mod panics;
pub mod positions;
pub mod report;
mod responses;
pub mod tokens;
pub mod train;
pub mod vector;

pub use error::{Error, Result};
