//! Text under steering: a prompt, the vectors and a sweep of magnitudes become one branch of token ids a magnitude. It knows token
//! ids, not text, and learns nothing.
//!
//! Begin with [`generate`].

mod options;
mod prompt;
mod sampler;
mod sweep;

pub use options::{FinishReason, GenerateOptions, Generation};
pub use prompt::Prompt;
pub use sweep::{generate, next_token_logits};
