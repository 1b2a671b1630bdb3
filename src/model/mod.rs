//! The decoder of the Llama family. Knows nothing of steering.

pub mod config;
pub mod resolve;
pub mod weights;
