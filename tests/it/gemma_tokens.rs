//! The tokenizer that Gemma 3's GGUF file describes, against the ids that Gemma's own tokenizer gives
//! (tests/fixtures/gemma3/make_tokens.py).

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use bipo::text::tokens::{added_bos, tokenizer_from_gguf};
use candle_core::quantized::gguf_file::Content;
use serde::Deserialize;
use tokenizers::Tokenizer;

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn gemma3_path() -> PathBuf {
    let path = bipo::hub::cache_dir::cache_dir().unwrap().join("gemma-3-270m-q4_k_m.gguf");
    assert!(path.is_file(), "{} is not there: run scripts/fetch-gemma3.sh first", path.display());
    path
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemma3/tokens.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    let content = Content::read(&mut File::open(gemma3_path()).unwrap()).unwrap();
    tokenizer_from_gguf(&content.metadata).unwrap()
}

#[test]
fn ids_of_many_kinds_of_text_are_those_of_gemmas_own_tokenizer() {
    let cases = cases();
    assert!(cases.len() >= 300);
    let tokenizer = tokenizer();
    for Case { text, ids } in &cases {
        assert_eq!(tokenizer.encode_fast(text.as_str(), false).unwrap().get_ids(), ids, "{text:?}");
        // SentencePiece reads its sign for a space as a space.
        assert_eq!(tokenizer.decode(ids, false).unwrap(), text.replace('\u{2581}', " "), "{text:?}");
    }
    assert_eq!(added_bos(&tokenizer).unwrap(), Some(2));
}

/// The limits are ten times what was measured, so that a busy machine passes and a quadratic rule does not.
#[test]
fn a_vocabulary_of_262144_tokens_is_read_and_used_quickly() {
    let content = Content::read(&mut File::open(gemma3_path()).unwrap()).unwrap();
    let started = Instant::now();
    let tokenizer = tokenizer_from_gguf(&content.metadata).unwrap();
    let load_s = started.elapsed().as_secs_f64();
    // Without line feeds, at which the text would be cut.
    let text: String = cases().iter().map(|case| case.text.replace('\n', " ")).collect();
    assert!(text.len() > 10_000);
    let started = Instant::now();
    tokenizer.encode_fast(text, false).unwrap();
    let encode_s = started.elapsed().as_secs_f64();
    assert!(load_s < 20.0 && encode_s < 0.5, "loaded in {load_s:.3} s, encoded in {encode_s:.4} s");
}
