//! What is added to the residual stream, where and how strongly: the vector and its file formats, layers, positions, magnitudes;
//! the tokens that a vector promotes, a model that carries one, when a prompt is steered at all, and the one operation that
//! steers. It neither learns vectors nor decodes with them.
//!
//! Begin with [`vector`], whose `SteeringVector` every other room passes around.

mod as_llama;
pub mod condition;
pub mod dose;
pub mod layers;
pub mod lens;
pub mod magnitudes;
pub mod merge;
mod operation;
pub mod positions;
pub mod reach;
pub mod vector;

pub use operation::{Operation, Steering};
