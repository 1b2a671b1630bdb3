//! Tests of `bytes`.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;

#[test]
fn the_tokens_of_a_byte_level_text_are_its_bytes() {
    let tokenizer = super::super::tokenizer_from_file("tests/fixtures/llama/tokenizer.json".as_ref()).unwrap();
    let text = "Zürich \u{ad}☀🙂\u{a0}\u{7f}\t, d'accord\n";
    let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    let tokens: Vec<TokenText> = ids.iter().map(|id| TokenText::of(&tokenizer, *id)).collect();
    assert_eq!(tokens.iter().flat_map(|token| token.bytes.clone()).collect::<Vec<u8>>(), text.as_bytes());
    assert!(tokens.iter().any(|token| token.text.is_none()), "no token is a part of a character");
    let whole = tokens.iter().filter_map(|token| token.text.as_ref().map(|text| (text.as_bytes(), &token.bytes)));
    assert!(whole.clone().count() > 5 && whole.clone().all(|(text, bytes)| text == bytes));
}

#[test]
fn each_letter_of_the_byte_alphabet_is_a_byte_of_its_own() {
    let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().map(|letter| byte_of_letter(letter).unwrap()).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    assert_eq!(['a', 'é', '\u{120}', '☀'].map(byte_of_letter), [Some(b'a'), Some(0xE9), Some(b' '), None]);
}

#[test]
fn the_tokens_of_sentencepiece_have_their_space_and_their_byte() {
    let vocab = [("▁sun", 0), ("<0xE2>", 1), ("ny", 2), ("<0x41>", 3)].map(|(piece, id)| (piece.to_owned(), id));
    let model = BPE::builder().vocab_and_merges(vocab.into_iter().collect::<Vocab>(), vec![]).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    // Llama 2's decoder.
    let decoders = vec![
        Replace::new("▁", " ").unwrap().into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
        Strip::new(' ', 1, 0).into(),
    ];
    tokenizer.with_decoder(Some(Sequence::new(decoders)));
    let of = |id: u32| TokenText::of(&tokenizer, id);
    assert_eq!((of(0).text.as_deref(), of(2).text.as_deref(), of(3).text.as_deref()), (Some(" sun"), Some("ny"), Some("A")));
    assert_eq!((of(0).bytes, of(1)), (b" sun".to_vec(), TokenText { bytes: vec![0xE2], text: None }));
    assert_eq!(of(9).bytes, b"");
}
