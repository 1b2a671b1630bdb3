//! Tests of the GGUF tokenizers: SentencePiece ids recorded from the Python package (tests/fixtures/sentencepiece/make.py),
//! splits of byte-level BPE recorded from the Python package `regex`, an engine of its own.

use serde_json::Value as Json;
use tokenizers::PreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString};

use super::super::added_bos;
use super::*;

fn texts(values: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(values.into_iter().map(|text| Value::String(text.into())).collect())
}

/// The fixture, and the metadata of a file that holds it.
pub fn sentence_piece() -> (Json, GgufValues) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sentencepiece/tiny.json");
    let fixture: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let list = |name: &str| fixture[name].as_array().unwrap().clone();
    let metadata = GgufValues::from([
        (MODEL.to_owned(), Value::String("llama".into())),
        (TOKENS.to_owned(), texts(list("tokens").iter().map(|token| token.as_str().unwrap()))),
        (SCORES.to_owned(), Value::Array(list("scores").iter().map(|s| Value::F32(s.as_f64().unwrap() as f32)).collect())),
        (TYPES.to_owned(), Value::Array(list("types").iter().map(|t| Value::I32(t.as_i64().unwrap() as i32)).collect())),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(2)),
        ("tokenizer.ggml.unknown_token_id".to_owned(), Value::U32(0)),
    ]);
    (fixture, metadata)
}

/// A byte-level vocabulary: the 256 bytes, what those merges make, and one control token.
fn byte_level(pre: &str, merges: &[&str]) -> GgufValues {
    let mut alphabet: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    alphabet.sort();
    alphabet.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut kinds = vec![Value::I32(1); alphabet.len()];
    alphabet.push("<|end|>".into());
    kinds.push(Value::I32(3));
    GgufValues::from([
        (MODEL.to_owned(), Value::String("gpt2".into())),
        (PRE.to_owned(), Value::String(pre.into())),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(alphabet.len() as u32 - 1)),
        (TOKENS.to_owned(), texts(alphabet)),
        (TYPES.to_owned(), Value::Array(kinds)),
        (MERGES.to_owned(), texts(merges.iter().copied())),
    ])
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).unwrap().get_ids().to_vec()
}

fn problem(metadata: &GgufValues) -> String {
    match tokenizer_from_gguf(metadata) {
        Ok(_) => panic!("this should be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn sentence_piece_ids_are_those_of_the_python_package() {
    for (case, prefix) in [("with_prefix", None), ("with_prefix", Some(true)), ("without_prefix", Some(false))] {
        let (fixture, mut metadata) = sentence_piece();
        metadata.extend(prefix.map(|prefix| ("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(prefix))));
        let tokenizer = tokenizer_from_gguf(&metadata).unwrap();
        let cases = fixture[case].as_array().unwrap();
        assert_eq!(cases.len(), 16);
        for recorded in cases {
            let text = recorded["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(recorded["ids"].clone()).unwrap();
            assert_eq!(ids(&tokenizer, text), expected, "{case}: {text:?}");
            assert_eq!(tokenizer.decode(&expected, false).unwrap(), recorded["decoded"].as_str().unwrap(), "{case}");
        }
    }
}

#[test]
fn control_and_user_defined_tokens_are_one_id_in_text() {
    let (_, metadata) = sentence_piece();
    let tokenizer = tokenizer_from_gguf(&metadata).unwrap();
    // `▁the` is 275, also behind a special token: a prefix stands before every piece of plain text.
    assert_eq!(ids(&tokenizer, "<s>the</s><|user|>the<unk>"), [1, 275, 2, 3, 275, 0]);
    assert_eq!(tokenizer.decode(&[1, 275, 2], true).unwrap(), "the");
}

/// As the `rstrip` of the turn tokens in Phi 3's tokenizer.json says.
#[test]
fn phi_3_drops_white_space_behind_its_turn_tokens() {
    let (_, mut metadata) = sentence_piece();
    metadata.insert("general.architecture".into(), Value::String("phi3".into()));
    let tokenizer = tokenizer_from_gguf(&metadata).unwrap();
    let text = "<s> the</s> \n the<|user|>\n\n the";
    assert_eq!(ids(&tokenizer, text), ids(&tokenizer, "<s> the</s>the<|user|>the"));
    metadata.insert("general.architecture".into(), Value::String("llama".into()));
    let llama = tokenizer_from_gguf(&metadata).unwrap();
    assert_ne!(ids(&llama, text), ids(&tokenizer, text));
}

#[test]
fn bos_is_added_as_the_file_says() {
    let (_, mut metadata) = sentence_piece();
    assert_eq!(added_bos(&tokenizer_from_gguf(&metadata).unwrap()).unwrap(), Some(1));
    metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(false));
    assert_eq!(added_bos(&tokenizer_from_gguf(&metadata).unwrap()).unwrap(), None);

    for (pre, adds) in [("llama-bpe", true), ("qwen2", false), ("smollm", false)] {
        let mut metadata = byte_level(pre, &[]);
        assert_eq!(added_bos(&tokenizer_from_gguf(&metadata).unwrap()).unwrap().is_some(), adds, "{pre}");
        metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(!adds));
        assert_eq!(added_bos(&tokenizer_from_gguf(&metadata).unwrap()).unwrap().is_some(), !adds, "{pre}");
    }
}

/// `regex.finditer` over llama.cpp's patterns, one pattern after the other.
#[test]
fn byte_level_text_is_split_as_the_models_split_it() {
    let text = "I'Ve paid  $1234.5 for it's\n\n\n  fooBar, (ok)!?\n end ";
    let recorded = [
        ("gpt-2", "I|'|Ve| paid| | $|1234|.|5| for| it|'s|\n\n\n | fooBar|,| (|ok|)!?|\n| end| "),
        ("default", "I|'|Ve| paid|  |$|123|4|.|5| for| it|'|s|\n\n\n | fooBar|,| |(|ok|)!?|\n| end| "),
        ("smollm", "I|'|Ve| paid| | $|1|2|3|4|.|5| for| it|'s|\n\n\n | fooBar|,| (|ok|)!?|\n| end| "),
        ("llama-bpe", "I|'Ve| paid| | $|123|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("qwen2", "I|'Ve| paid| | $|1|2|3|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("tekken", "I|'Ve| paid| | $|1|2|3|4|.|5| for| it|'s|\n\n\n| | foo|Bar|,| (|ok|)!?\n| end| "),
        ("olmo", "I|'|Ve| paid| | $|1234|.|5| for| it|'s|\n\n\n | fooBar|,| (|ok|)!?|\n| end| "),
        ("falcon3", "I|'Ve| paid| | $|123|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("pixtral", "I|'Ve| paid| | $|123|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("dbrx", "I|'Ve| paid| | $|123|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("megrez", "I|'Ve| paid| | $|1|2|3|4|.|5| for| it|'s|\n\n\n| | fooBar|,| (|ok|)!?\n| end| "),
        ("gpt-4o", "I'Ve| paid| | $|123|4|.|5| for| it's|\n\n\n| | foo|Bar|,| (|ok|)!?\n| end| "),
        ("deepseek-llm", "I|'|Ve| paid| | $|1234|.|5| for| it|'|s|\n|\n|\n| | fooBar|,| (|ok|)!?|\n| end| "),
        ("deepseek-coder", "I|'|Ve| paid|  $|1|2|3|4|.|5| for| it|'|s|\n|\n|\n| | fooBar|,| (|ok|)!?|\n| end| "),
    ];
    for (pre, expected) in recorded {
        assert_eq!(split(pre, text), expected, "{pre}");
    }
    let text = "\u{82b1}\u{306f}\u{54b2}\u{304f}, \u{ac00}\u{b098} \u{416}\u{434}\u{438} \u{1c5}x \u{b5}m\u{ff01} 12\u{664}\r\n fin\t ";
    let before = "\u{82b1}\u{306f}\u{54b2}\u{304f}|,| |\u{ac00}\u{b098}| \u{416}\u{434}\u{438}";
    let after = "\u{664}|\r|\n| fin|\t ";
    let recorded = [
        ("deepseek-llm", format!("{before}| \u{1c5}|x| \u{b5}|m|\u{ff01}| |12{after}")),
        ("deepseek-coder", format!("{before}| \u{1c5}x| \u{b5}m|\u{ff01}| |1|2|{after}")),
    ];
    for (pre, expected) in recorded {
        assert_eq!(split(pre, text), expected, "{pre}");
    }
}

/// What the pre-tokenizer of that name makes of a text, which decoding brings back.
fn split(pre: &str, text: &str) -> String {
    let tokenizer = tokenizer_from_gguf(&byte_level(pre, &[])).unwrap();
    let mut pieces = PreTokenizedString::from(text);
    tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let found: Vec<&str> = splits.iter().map(|(_, (from, to), _)| &text[*from..*to]).collect();
    assert_eq!(tokenizer.decode(&ids(&tokenizer, text), false).unwrap(), text, "{pre}");
    found.join("|")
}

#[test]
fn merges_are_applied_in_their_order() {
    let tokenizer = tokenizer_from_gguf(&byte_level("gpt-2", &["b c", "a b", "ab c"])).unwrap();
    let found = tokenizer.encode("abc abc<|end|>", false).unwrap();
    assert_eq!(found.get_tokens(), ["a", "bc", "Ġ", "a", "bc", "<|end|>"]);
}

#[test]
fn llama_3_takes_a_word_that_is_a_token_whole() {
    let merges = ["b c", "a b", "ab c"];
    let tokens =
        |pre| tokenizer_from_gguf(&byte_level(pre, &merges)).unwrap().encode("abc", false).unwrap().get_tokens().to_vec();
    assert_eq!(tokens("llama-bpe"), ["abc"]);
    assert_eq!(tokens("qwen2"), ["a", "bc"]);
}

#[test]
fn qwen_composes_characters_first() {
    let composed = |pre| {
        let tokenizer = tokenizer_from_gguf(&byte_level(pre, &[])).unwrap();
        tokenizer.decode(&ids(&tokenizer, "e\u{301}"), false).unwrap()
    };
    assert_eq!(composed("qwen2"), "\u{e9}");
    assert_eq!(composed("llama-bpe"), "e\u{301}");
}

#[test]
fn metadata_without_a_key_is_refused_by_its_name() {
    for key in [MODEL, TOKENS, PRE, MERGES] {
        let mut metadata = byte_level("smollm", &[]);
        metadata.remove(key);
        let text = problem(&metadata);
        assert!(text.starts_with("GGUF metadata: ") && text.contains(&format!("`{key}` is missing")), "{text}");
    }
    let (_, mut metadata) = sentence_piece();
    metadata.remove(SCORES);
    assert!(problem(&metadata).contains("`tokenizer.ggml.scores` is missing"));
}

#[test]
fn kinds_that_are_not_known_are_refused_by_name() {
    let mut metadata = byte_level("smollm", &[]);
    metadata.insert(MODEL.into(), Value::String("bert".into()));
    assert!(problem(&metadata).contains("`bert`"));
    assert!(problem(&byte_level("gpt-9", &[])).contains("`gpt-9`: known are gpt-2"));
}

#[test]
fn metadata_that_does_not_fit_together_is_refused() {
    let changed = |key: &str, value| {
        let mut metadata = byte_level("smollm", &["a b"]);
        metadata.insert(key.into(), value);
        problem(&metadata)
    };
    assert!(changed(MERGES, texts(["a b", "q"])).contains("entry 1, `q`"));
    assert!(changed(MERGES, texts(["x yz"])).contains("entry 0"));
    // A merge longer than every token: the tokenizer's builder would panic.
    assert!(changed(MERGES, texts(["<|end|> <|end|>"])).contains("entry 0"));
    assert!(changed(MERGES, Value::U32(1)).contains("expected a list"));
    assert!(changed(TOKENS, Value::Array(vec![Value::U32(1)])).contains("expected a list of strings"));
    assert!(changed(TOKENS, texts(["a"])).contains("expected as many"));
    assert!(changed(TOKENS, Value::Array(Vec::new())).contains("0 entries"));
    assert!(changed(TYPES, texts(["a"])).contains("whole numbers"));
    assert!(changed(PRE, Value::U32(1)).contains("expected a string"));
    assert!(changed("tokenizer.ggml.add_bos_token", Value::U32(1)).contains("true or false"));

    let (_, mut metadata) = sentence_piece();
    metadata.insert(SCORES.into(), Value::Array(vec![Value::F32(0.0)]));
    assert!(problem(&metadata).contains("`tokenizer.ggml.scores` has 1 entries"));
    let (_, mut metadata) = sentence_piece();
    metadata.insert("tokenizer.ggml.bos_token_id".into(), Value::U32(520));
    assert!(problem(&metadata).contains("special token 520 is out of range"));
}
