//! Text under steering: prompts, vectors and magnitudes become token ids. It knows token ids, not text, and learns nothing.
//!
//! Begin with [`generate`], one prompt at a sweep of magnitudes, and then [`Engine`], which it calls: many requests in one running
//! batch. `pass` runs rows of different texts through the blocks, `prefix` says what prompts can share, `rows` whose rows of
//! the cache are whose, and `sampler` chooses tokens.

mod engine;
mod options;
mod pass;
mod prefix;
mod prompt;
mod request;
mod rows;
mod sampler;
mod sweep;

pub(crate) use engine::PIECE;
pub use engine::{Engine, EngineLimits};
pub use options::{FinishReason, GenerateOptions};
pub use prompt::Prompt;
pub use request::{Event, EventKind, Request, StreamId};
pub use sampler::TokenLogProbs;
pub use sweep::{Generation, SweepEvent, check_finite, generate, generate_each, next_token_logits};
