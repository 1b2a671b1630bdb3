//! How long a conversation may grow in the memory that there is.

use bipo::Result;
use bipo::generate::EngineLimits;
use bipo::session::Session;

use crate::commands::room::{context, demand};

/// The fewest tokens that a conversation may grow to where memory is short and the user does not say.
const SHORTEST_DEFAULT: usize = 256;

/// Texts of `/compare` that are generated at once; the others wait.
const STREAMS: usize = 8;

/// What the engine holds at once, and the tokens that a conversation may grow to: with room for its last prompt beside the new
/// one, which takes over its keys, where there is memory for both.
pub fn limits(wanted: Option<usize>, session: &Session) -> Result<(EngineLimits, usize)> {
    let most = context(wanted, session)?;
    // What the user says is not made less.
    let shorter = |context: &usize| Some(context / 2).filter(|half| wanted.is_none() && *half >= SHORTEST_DEFAULT);
    let contexts: Vec<usize> = std::iter::successors(Some(most), shorter).collect();
    let limits = |context: usize, prompts| (EngineLimits { tokens: prompts * context, streams: STREAMS }, context);
    let mut sizes = contexts.iter().flat_map(|context| [2, 1].map(|prompts| limits(*context, prompts)));
    let last = contexts.last().copied().unwrap_or(most);
    // Where nothing fits, loading says so.
    Ok(sizes.find(|(limits, _)| session.check(&demand(*limits)).is_ok()).unwrap_or_else(|| limits(last, 1)))
}
