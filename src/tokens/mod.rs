//! Text to token ids: a prompt, or a prompt with each of its two responses and the place where the response begins. The
//! tokenizer comes from a `tokenizer.json` or, by `gguf`, from a GGUF file; the prompt's text comes from `chat`.

mod encoder;
pub mod gguf;

pub use encoder::{ResponsePrefix, TextEncoder, TextOptions, TokenStream, added_bos};
pub use gguf::tokenizer_from_gguf;

/// One response with its prompt in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedResponse {
    /// Ids of prompt and response, BOS and EOS included. `(T,)`
    pub ids: Vec<u32>,
    /// Index of the first response token; at least 1.
    pub start: usize,
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
