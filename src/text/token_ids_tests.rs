//! Tests of `token_ids`.

use super::*;

const CONFIG: &str = r#"{"bos_token_id": 151643, "eos_token_id": 151645}"#;

fn read(config: &str, generation: &str, tokenizer: &str) -> Result<TokenIds> {
    let file = |text: &str, path| (!text.is_empty()).then(|| (text.to_owned(), Path::new(path)));
    let files = [file(config, "c.json"), file(generation, "g.json"), file(tokenizer, "t.json")];
    let id_of = |token: &str| match token {
        "<s>" => Some(1),
        "</s>" => Some(2),
        "<|eot_id|>" => Some(128_009),
        "<|im_end|>" => Some(151_645),
        _ => None,
    };
    TokenIds::from_json(files, id_of)
}

#[test]
fn the_tokenizers_own_end_comes_first_and_the_others_follow_once() {
    let list = r#"{"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]}"#;
    let ids = read(list, list, r#"{"eos_token": "<|eot_id|>"}"#).unwrap();
    assert_eq!(ids, TokenIds { bos: Some(128_000), named_bos: None, eos: vec![128_009, 128_001, 128_008] });
}

#[test]
fn a_null_bos_in_the_tokenizer_outweighs_the_config() {
    let tokenizer = r#"{"add_bos_token": false, "bos_token": null, "eos_token": "<|im_end|>"}"#;
    let ids = read(CONFIG, r#"{"eos_token_id": [151645, 151643]}"#, tokenizer).unwrap();
    assert_eq!(ids, TokenIds { bos: None, named_bos: None, eos: vec![151_645, 151_643] });
}

#[test]
fn a_tokenizer_that_adds_no_bos_gives_none() {
    let ids = read(CONFIG, "", r#"{"add_bos_token": false, "bos_token": "<s>"}"#).unwrap();
    assert_eq!((ids.bos, ids.named_bos), (None, Some(1)));
    assert_eq!(read(CONFIG, "", r#"{"add_bos_token": true, "bos_token": "<s>"}"#).unwrap().bos, Some(1));
}

#[test]
fn tokens_may_be_objects_and_config_alone_may_serve() {
    let tokenizer = r#"{"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": {"content": "</s>"}}"#;
    let ids = read(r#"{"bos_token_id": 1, "eos_token_id": 2}"#, "", tokenizer).unwrap();
    assert_eq!(ids, TokenIds { bos: Some(1), named_bos: Some(1), eos: vec![2] });
    assert_eq!(read(CONFIG, "", "").unwrap(), TokenIds { bos: Some(151_643), named_bos: None, eos: vec![151_645] });
}

#[test]
fn ids_that_are_none_are_refused_with_file_and_key() {
    for (config, generation, tokenizer, words) in [
        (r#"{"eos_token_id": "2"}"#, "", "", ["c.json", "eos_token_id"]),
        (r#"{"eos_token_id": [2, -1]}"#, "", "", ["c.json", "eos_token_id"]),
        ("{}", r#"{"bos_token_id": 4294967296}"#, "", ["g.json", "bos_token_id"]),
        ("{}", "", r#"{"eos_token": 2}"#, ["t.json", "eos_token"]),
        ("{}", "", "[]", ["t.json", "a JSON object"]),
    ] {
        let message = read(config, generation, tokenizer).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn gguf_ids_come_from_metadata_and_must_be_tokens() {
    use gguf_file::Value::{Array, Bool, U8, U32};
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut metadata = HashMap::from([
        (key("tokens"), Array(vec![U8(0); 10])),
        (key("bos_token_id"), U32(1)),
        (key("eos_token_id"), U32(2)),
        (key("eot_token_id"), U32(7)),
        (key("eom_token_id"), U32(2)),
    ]);
    let read = |metadata: &HashMap<_, _>| TokenIds::from_gguf(metadata, Path::new("m.gguf"));
    assert_eq!(read(&metadata).unwrap(), TokenIds { bos: Some(1), named_bos: Some(1), eos: vec![2, 7] });
    metadata.insert(key("add_bos_token"), Bool(false));
    let ids = read(&metadata).unwrap();
    assert_eq!((ids.bos, ids.named_bos), (None, Some(1)));
    metadata.insert(key("eos_token_id"), U32(10));
    let message = read(&metadata).unwrap_err().to_string();
    assert!(message.contains("m.gguf") && message.contains("eos_token_id") && message.contains("10"), "{message}");
}

#[test]
fn known_ends_of_turn_of_a_gguf_vocabulary_end_an_answer_where_they_are_control_tokens() {
    use gguf_file::Value::{Array, I32, String, U32};
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let tokens = ["<s>", "</s>", "<|eot_id|>", "<|im_end|>", "<|im_start|>"].map(|token| String(token.into()));
    let metadata = HashMap::from([
        (key("tokens"), Array(tokens.to_vec())),
        (key("token_type"), Array([3, 3, 3, 1, 3].map(I32).to_vec())),
        (key("eos_token_id"), U32(1)),
    ]);
    assert_eq!(TokenIds::from_gguf(&metadata, Path::new("m.gguf")).unwrap().eos, [1, 2]);
}
