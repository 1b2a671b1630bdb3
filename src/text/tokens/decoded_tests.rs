//! Texts that end inside a character.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;

/// A token for each byte, as GPT-2 writes them, then a space with the first two bytes of an emoji.
fn byte_level() -> Tokenizer {
    let own: Vec<u8> = (0..=255).filter(|byte| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)).collect();
    let mut letters: Vec<char> = (0..=255_u8).map(char::from).collect();
    let others: Vec<usize> = (0..256).filter(|byte| !own.contains(&(*byte as u8))).collect();
    others.iter().zip(0x100..).for_each(|(byte, code)| letters[*byte] = char::from_u32(code).unwrap());
    assert_eq!(
        letters.iter().copied().collect::<std::collections::HashSet<char>>(),
        ByteLevel::alphabet().into_iter().collect()
    );
    let merged = [0x20, 0xF0, 0x9F].map(|byte: usize| letters[byte]).iter().collect::<String>();
    let vocab = letters.iter().map(|letter| letter.to_string()).chain([merged]).zip(0..);
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocab.collect::<Vocab>(), vec![]).build().unwrap());
    tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
    tokenizer
}

/// A token for each byte, as sentencepiece falls back to them.
fn byte_fallback() -> Tokenizer {
    let vocab = (0..256_u32).map(|byte| (format!("<0x{byte:02X}>"), byte)).collect::<Vocab>();
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocab, vec![]).build().unwrap());
    tokenizer.with_decoder(Some(Sequence::new(vec![ByteFallback::new().into(), Fuse::new().into()])));
    tokenizer
}

fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|byte| u32::from(*byte)).collect()
}

#[test]
fn a_text_that_ends_inside_a_character_ends_before_it() {
    for tokenizer in [byte_level(), byte_fallback()] {
        for text in ["🦜🦜", "äö", "a€", "🦜", "x \u{FFFD}🦜"] {
            let bytes = text.as_bytes();
            for end in 0..=bytes.len() {
                let complete = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap();
                assert_eq!(text_of(&tokenizer, &ids(&bytes[..end])).unwrap(), text[..complete], "{text} up to byte {end}");
            }
        }
    }
}

#[test]
fn what_stands_before_the_character_in_its_token_is_kept() {
    let tokenizer = byte_level();
    assert_eq!(text_of(&tokenizer, &[u32::from(b'a'), 256]).unwrap(), "a ");
    assert_eq!(text_of(&tokenizer, &[u32::from(b'a'), 256, 0xA6]).unwrap(), "a ");
    assert_eq!(text_of(&tokenizer, &[u32::from(b'a'), 256, 0xA6, 0x9C]).unwrap(), "a 🦜");
}

#[test]
fn a_replacement_character_stays_where_the_text_has_it_or_bytes_that_are_no_character() {
    for tokenizer in [byte_level(), byte_fallback()] {
        assert_eq!(text_of(&tokenizer, &ids("a\u{FFFD}".as_bytes())).unwrap(), "a\u{FFFD}");
        assert_eq!(text_of(&tokenizer, &ids(b"a\xFF")).unwrap().chars().last(), Some('\u{FFFD}'));
    }
}
