//! How long a conversation may grow, and the memory that is counted for it before weights are read.

use bipo::generate::EngineLimits;
use bipo::session::{Demand, Session};
use bipo::{Error, Result};

/// Tokens that a conversation may grow to where the user does not say, and the fewest where memory is short.
const CONTEXT: usize = 4096;
const SHORTEST_DEFAULT: usize = 256;

/// The least that the user may say.
const SHORTEST_CONTEXT: usize = 16;

/// Texts of `/compare` that are generated at once; the others wait.
const STREAMS: usize = 8;

/// What the engine holds at once, and the tokens that a conversation may grow to: with room for its last prompt beside the new
/// one, which takes over its keys, where there is memory for both.
pub fn limits(wanted: Option<usize>, session: &Session) -> Result<(EngineLimits, usize)> {
    let longest = session.config.max_position_embeddings;
    let contexts = match wanted {
        Some(wanted) if !(SHORTEST_CONTEXT..=longest).contains(&wanted) => {
            let problem = format!("--context {wanted}: expected {SHORTEST_CONTEXT} to {longest}, the model's context");
            return Err(Error::Argument(problem));
        }
        Some(wanted) => vec![wanted],
        None => {
            let most = CONTEXT.min(longest);
            std::iter::successors(Some(most), |context| Some(context / 2).filter(|half| *half >= SHORTEST_DEFAULT)).collect()
        }
    };
    let sizes = contexts.iter().flat_map(|context| [2, 1].map(|prompts| (*context, prompts * context)));
    let limits = |(context, tokens)| (EngineLimits { tokens, streams: STREAMS }, context);
    let mut sizes = sizes.map(limits);
    let last = contexts.last().copied().unwrap_or(longest);
    // Where nothing fits, loading says so.
    Ok(sizes.find(|(limits, _)| session.check(&demand(*limits)).is_ok()).unwrap_or_else(|| limits((last, last))))
}

/// The memory that so much takes.
pub fn demand(limits: EngineLimits) -> Demand {
    Demand::generation(limits.streams, limits.tokens.div_ceil(limits.streams), 0)
}
