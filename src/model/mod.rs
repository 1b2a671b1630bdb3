//! The decoder of the Llama family. Knows nothing of steering.

pub mod config;
mod gguf;
mod hub;
pub mod presets;
pub mod resolve;
pub mod token_ids;
pub mod weights;
