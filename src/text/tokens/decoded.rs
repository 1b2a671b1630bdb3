//! Ids as text again. A limit on tokens can end a text inside a character, whose bytes several tokens hold: the text then ends before
//! that character. U+FFFD stays where the text has it, or bytes that are no character.

use tokenizers::Tokenizer;

use super::bytes::{TokenText, byte_of_fallback};
use crate::{Error, Result};

/// The most bytes of a character that is not complete.
const LONGEST_PART: usize = 3;

/// Text of ids without special tokens, up to the last complete character.
pub(super) fn text_of(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    let mut text = tokenizer.decode(ids, true).map_err(failed)?;
    if !text.ends_with(char::REPLACEMENT_CHARACTER) {
        return Ok(text);
    }
    let tail = Tail::of(tokenizer, ids);
    let part = incomplete(&tail.bytes);
    if part > 0 && tail.is_of_bytes {
        // One byte without its character makes all bytes beside it unreadable to the decoder.
        let before = tail.places[tail.places.len() - part];
        return tokenizer.decode(&ids[..before], true).map_err(failed);
    }
    let unreadable = String::from_utf8_lossy(&tail.bytes[tail.bytes.len() - part..]).chars().count();
    (0..unreadable).for_each(|_| _ = text.pop());
    Ok(text)
}

/// The last bytes of a text.
struct Tail {
    bytes: Vec<u8>,
    /// Where the token of each byte stands.
    places: Vec<usize>,
    /// Whether the last token is a single byte.
    is_of_bytes: bool,
}

impl Tail {
    fn of(tokenizer: &Tokenizer, ids: &[u32]) -> Self {
        let mut tail = Self { bytes: Vec::new(), places: Vec::new(), is_of_bytes: false };
        for (place, id) in ids.iter().enumerate().rev() {
            let token = tokenizer.id_to_token(*id).unwrap_or_default();
            if tokenizer.get_added_vocabulary().is_special_token(&token) {
                continue;
            }
            tail.is_of_bytes |= tail.bytes.is_empty() && byte_of_fallback(&token).is_some();
            let bytes = TokenText::of(tokenizer, *id).bytes;
            tail.places.splice(..0, bytes.iter().map(|_| place));
            tail.bytes.splice(..0, bytes);
            if tail.bytes.len() >= LONGEST_PART {
                break;
            }
        }
        tail
    }
}

/// How many bytes at the end begin a character and do not complete it.
fn incomplete(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(LONGEST_PART).enumerate() {
        let whole = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        return if whole > index + 1 { index + 1 } else { 0 };
    }
    0
}

/// The error of a tokenizer that cannot do what it is asked.
pub(super) fn failed(error: tokenizers::Error) -> Error {
    Error::argument(format!("the tokenizer failed: {error}"))
}

#[cfg(test)]
#[path = "decoded_tests.rs"]
mod tests;
