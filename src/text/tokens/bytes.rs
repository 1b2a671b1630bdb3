//! The bytes that a token stands for. A token can be a part of a character, which has no text of its own: byte-level tokenizers
//! write each byte as a letter (GPT-2's `bytes_to_unicode`), those of SentencePiece as `<0xE2>`.

use tokenizers::Tokenizer;

/// A token as it stands in the middle of a text: its bytes, and as text what they are where that is whole characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenText {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The text; a token that holds a part of a character has none.
    pub text: Option<String>,
}

impl TokenText {
    /// Returns the text and the bytes of a token; an id without a token is empty.
    pub fn of(tokenizer: &Tokenizer, id: u32) -> Self {
        let text = tokenizer.decode(&[id], false).unwrap_or_default();
        let piece = tokenizer.id_to_token(id).unwrap_or_default();
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let bytes = byte_of_fallback(&piece).map(|byte| vec![byte]);
            let bytes = bytes.or_else(|| piece.chars().map(byte_of_letter).collect()).unwrap_or_else(|| text.into_bytes());
            return Self { text: String::from_utf8(bytes.clone()).ok(), bytes };
        }
        // SentencePiece leaves out the space in front of a text's first word, which this token is only here.
        let spaced = piece.replace('\u{2581}', " ");
        let text = if spaced.strip_prefix(' ') == Some(text.as_str()) { spaced } else { text };
        Self { bytes: text.clone().into_bytes(), text: Some(text) }
    }
}

/// The byte of `<0xE2>`.
pub(super) fn byte_of_fallback(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// The byte that a byte-level tokenizer writes as this letter: visible ones of Latin-1 stand for themselves, the other bytes are
/// numbered from 256 on.
fn byte_of_letter(letter: char) -> Option<u8> {
    let byte = match u32::from(letter) {
        visible @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => visible,
        number @ 0x100..=0x120 => number - 0x100,
        number @ 0x121..=0x142 => number - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod tests;
