//! Tests of `tokens`.

use super::*;

#[test]
fn a_tokenizer_with_a_broken_decoder_is_refused() {
    let text = std::fs::read_to_string("tests/fixtures/llama/tokenizer.json").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let begin = text.find("\"decoder\"").unwrap() + 10;
    for (end, broken) in [(text.len(), ": {nonsense"), (begin + 20, ""), (begin, "")] {
        std::fs::write(&path, format!("{}{broken}", &text[..end.min(begin)])).unwrap();
        let error = tokenizer_from_file(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("not a tokenizer"), "{error}");
    }
    std::fs::write(&path, &text).unwrap();
    assert!(tokenizer_from_file(&path).is_ok());
}
