//! Text to token ids: a prompt, or a prompt with each of its two responses and the place where the response begins. The
//! tokenizer comes from a `tokenizer.json` or, by `gguf`, from a GGUF file; the prompt's text comes from `chat`.
//!
//! Begin with [`TextEncoder`], whose `encode_prompt` and `encode_pair` are what the other rooms call.

mod bytes;
mod decoded;
mod encoder;
mod gguf;

pub use bytes::TokenText;
pub use encoder::{ResponsePrefix, TextEncoder, TextOptions, TokenStream, added_bos};
pub use gguf::tokenizer_from_gguf;

use std::path::Path;

use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::machine::files::read_input;
use crate::machine::panics::caught;
use crate::{Error, Result};

/// The most that a `tokenizer.json` may take: those of 256k tokens have 35 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;

/// Reads a `tokenizer.json`.
///
/// # Errors
/// The file cannot be read, or is none that the crate `tokenizers` reads.
pub fn tokenizer_from_file(path: &Path) -> Result<Tokenizer> {
    let bytes = read_input(path, LARGEST_TOKENIZER)?;
    // The crate panics where the decoder is no JSON object that it knows.
    let tokenizer = caught(|| Tokenizer::from_bytes(&bytes)).unwrap_or_else(|| Err("a part of it is of no known kind".into()));
    let mut tokenizer =
        tokenizer.map_err(|error| Error::malformed(path, format!("not a tokenizer that can be read: {error}")))?;
    // A file can ask for any length, and get it at the first text.
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// A prompt, up to the place where the answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Token ids of the prompt, BOS included. `(T,)`
    pub ids: Vec<u32>,
    /// Tokens of the prompt in the encoder's spans and at its ends; none where the encoder has neither.
    pub spans: Option<PromptSpans>,
}

/// The tokens that spans hold, of a prompt and of what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSpans {
    /// Whether each token of the prompt is in them. `(T,)`
    pub prompt: Vec<bool>,
    /// Whether generated tokens are.
    pub generated: bool,
}

/// One response with its prompt in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedResponse {
    /// Ids of prompt and response, BOS and EOS included. `(T,)`
    pub ids: Vec<u32>,
    /// Index of the first response token; at least 1.
    pub start: usize,
    /// Whether each token is in the encoder's spans and at its ends; none where the encoder has neither. `(T,)`
    pub in_spans: Option<Vec<bool>>,
}

/// A pair as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPair {
    /// 0-based row of the data set.
    pub row: usize,
    /// The response that shows the target behaviour.
    pub chosen: EncodedResponse,
    /// The response that shows the opposite.
    pub rejected: EncodedResponse,
}

impl EncodedPair {
    /// Number of tokens of the responses: chosen, rejected.
    pub fn response_tokens(&self) -> [usize; 2] {
        [&self.chosen, &self.rejected].map(|response| response.ids.len() - response.start)
    }
}

/// SHA-256 of all that a run sees of its pairs: ids, and where responses and spans are.
pub fn fingerprint(pairs: &[EncodedPair]) -> String {
    let mut hash = Sha256::new();
    for pair in pairs {
        hash.update((pair.row as u64).to_le_bytes());
        for EncodedResponse { ids, start, in_spans } in [&pair.chosen, &pair.rejected] {
            let spans = in_spans.as_deref().unwrap_or_default();
            [ids.len(), *start, spans.len()].iter().for_each(|number| hash.update((*number as u64).to_le_bytes()));
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            spans.iter().for_each(|is_in| hash.update([u8::from(*is_in)]));
        }
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests;
