//! Personalise a frozen large language model with one steering vector.
//!
//! A vector `v` of the model's hidden size is added, times a factor, to the residual stream after decoder block `L`. It is
//! learned by bi-directional preference optimisation (BiPO, [arXiv 2406.00045](https://arxiv.org/abs/2406.00045)) from pairs
//! of a response that shows a behaviour and one that shows the opposite.
//!
//! Read the rooms in the order in which data flows:
//!
//! ```text
//! train   dataset row ─▶ chat template ─▶ token ids + response span ─▶ blocks 0..=L (once a pair, cached)
//!         ─▶ +d·v ─▶ blocks L+1.. ─▶ log-probs of the response ─▶ objective ─▶ ∂/∂v ─▶ AdamW ─▶ safetensors
//!
//! steer   prompt ─▶ chat template ─▶ token ids ─▶ blocks 0..=L (once) ─▶ one branch a magnitude: +m·v
//!         ─▶ blocks L+1.. ─▶ sampler ─▶ next token of every branch in one batch ─▶ text
//! ```
//!
//! Rooms import only rooms below them:
//!
//! | room | what it holds |
//! |---|---|
//! | [`report`] | charts, pages, the model card |
//! | [`eval`] | what a vector does, and what it costs |
//! | [`check`] | whether a device computes what the CPU does, and how fast |
//! | [`train`] | activations, objective, optimiser, loop, checkpoints, layer search, mean difference |
//! | [`generate`] | decoding at a sweep of magnitudes |
//! | [`steering`] | the vector and its formats, layers, positions, magnitudes, merging |
//! | [`session`] | a model ready to use, and the memory that it takes |
//! | [`text`] | chat templates, tokenizers, encoded pairs and prompts |
//! | [`data`] | preference pairs and questions |
//! | [`hub`] | where files come from |
//! | [`model`] | the decoder |
//! | [`ops`] | its operations, forward and backward |
//! | [`machine`] | device, memory, files |
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

pub mod check;
pub mod data;
pub mod error;
pub mod eval;
pub mod generate;
pub mod hub;
pub mod machine;
pub mod model;
pub mod ops;
pub mod report;
pub mod session;
pub mod steering;
pub mod text;
pub mod train;

pub use error::{Error, Result};
