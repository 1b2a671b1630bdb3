//! Text to token ids: a prompt, or a prompt with each of its two responses and the place where the response begins. The
//! tokenizer comes from a `tokenizer.json` or, by `gguf`, from a GGUF file; the prompt's text comes from `chat`.

mod encoder;
pub mod gguf;

pub use encoder::{ResponsePrefix, TextEncoder, TextOptions, TokenStream, added_bos};
pub use gguf::tokenizer_from_gguf;

/// A prompt, up to the place where the answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Its ids, BOS included. `(T,)`
    pub ids: Vec<u32>,
    /// Its tokens in the encoder's spans; none where the encoder has none.
    pub spans: Option<PromptSpans>,
}

/// Which tokens spans hold, of a prompt and of what follows it.
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
    /// Whether each token is in the encoder's spans; none where the encoder has none. `(T,)`
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
