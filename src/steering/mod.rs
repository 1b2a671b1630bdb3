//! What is added to the residual stream, where and how strongly: the vector and its file formats, layers, positions, magnitudes; the
//! tokens that a vector promotes, and a model that carries one. Neither learns vectors nor decodes with them.
//!
//! Begin with [`vector`], whose `SteeringVector` every other room passes around.

pub mod layers;
pub mod lens;
pub mod magnitudes;
pub mod merge;
pub mod positions;
pub mod vector;
