//! How long a prompt may be with its answer where a command does not know its prompts beforehand, as `serve` and `chat` do not, and the
//! memory that is counted for it before weights are read.

use bipo::generate::EngineLimits;
use bipo::session::{Demand, Session};
use bipo::{Error, Result};

/// Tokens where the user does not say.
const USUAL: usize = 4096;

/// The fewest tokens that make sense.
pub const SHORTEST: usize = 16;

/// The tokens that the user wants, or as many as usual.
///
/// # Errors
/// The model's context has fewer, or they are too few.
pub fn context(wanted: Option<usize>, session: &Session) -> Result<usize> {
    let longest = session.config.max_position_embeddings;
    match wanted {
        Some(wanted) if !(SHORTEST..=longest).contains(&wanted) => {
            Err(Error::Argument(format!("--context {wanted}: expected {SHORTEST} to {longest}, the model's context")))
        }
        wanted => Ok(wanted.unwrap_or(USUAL.min(longest))),
    }
}

/// Returns the memory that texts within these limits take.
pub fn demand(limits: EngineLimits) -> Demand {
    Demand::generation(limits.streams, limits.tokens.div_ceil(limits.streams), 0)
}
