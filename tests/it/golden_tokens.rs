//! Token ids of SmolLM2-135M-Instruct's own tokenizer and template against those that the authors' trainer recorded.
//!
//! The recorded texts are not in this repository, only their ids and a SHA-256 of each pair's texts. So the texts are decoded
//! from the ids first and must have that hash: they are then the recorded ones to the letter, whatever decoded them. Encoding
//! them is held against the recorded ids, so that a wrong template, tokenizer, response start or end token still fails.

use bipo::data::Message;
use bipo::data::Pair;
use bipo::session::{Session, SessionOptions};
use bipo::text::spans::Spans;
use bipo::text::tokens::{ResponsePrefix, TextEncoder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::common;

const SYSTEM: &str = "You are a helpful, honest and concise assistant.";

/// What the recorded prompts have before and after the question.
const BEFORE: &str = "<|im_start|>system\nYou are a helpful, honest and concise assistant.<|im_end|>\n<|im_start|>user\n";
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n";

#[derive(Deserialize)]
struct GoldenPair {
    row: usize,
    prompt_ids: Vec<u32>,
    chosen_ids: Vec<u32>,
    rejected_ids: Vec<u32>,
    sha256: String,
}

impl GoldenPair {
    /// The texts, decoded from the ids; their hash says that they are the recorded ones.
    fn pair(&self, encoder: &TextEncoder) -> Pair {
        let prompt = encoder.decode(&self.prompt_ids, false).unwrap();
        let question = prompt.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)).expect(&prompt);
        let response = |ids: &[u32]| encoder.decode(ids, true).unwrap().strip_prefix(' ').unwrap().to_owned();
        let (chosen, rejected) = (response(&self.chosen_ids), response(&self.rejected_ids));
        let hash = Sha256::digest([question, &chosen, &rejected].join("\0"));
        assert_eq!(format!("{hash:x}"), self.sha256, "row {}: {question:?}, {chosen:?}, {rejected:?}", self.row);
        Pair { row: self.row, prompt: vec![Message::new("user", question)], chosen, rejected }
    }
}

fn golden_pairs() -> Vec<GoldenPair> {
    serde_json::from_value(common::golden_json("pairs64.json")).unwrap()
}

/// The encoder that the program makes of the model's file.
fn encoder(response_prefix: ResponsePrefix, system: Option<&str>) -> TextEncoder {
    let options = SessionOptions { response_prefix, system: system.map(str::to_owned), ..common::smollm2_options() };
    Session::open(options).unwrap().encoder
}

#[test]
fn token_ids_of_all_golden_pairs_are_equal() {
    let encoder = encoder(ResponsePrefix::Text(" ".into()), Some(SYSTEM));
    let pairs = golden_pairs();
    assert_eq!(pairs.len(), 64);
    for golden in &pairs {
        let pair = golden.pair(&encoder);
        let prompt = format!("{BEFORE}{}{AFTER}", pair.prompt[0].content);
        assert_eq!(encoder.prompt_text(&pair.prompt).unwrap(), prompt, "row {}", golden.row);
        assert_eq!(encoder.encode_prompt(&pair.prompt).unwrap().ids, golden.prompt_ids, "row {}", golden.row);
        let (encoded, truncated) = encoder.encode_pair(&pair, 2048).unwrap();
        assert!(!truncated && encoded.row == golden.row);
        for (response, ids) in [(&encoded.chosen, &golden.chosen_ids), (&encoded.rejected, &golden.rejected_ids)] {
            assert_eq!(response.start, golden.prompt_ids.len(), "row {}", golden.row);
            assert_eq!(response.ids, [&golden.prompt_ids[..], ids].concat(), "row {}", golden.row);
        }
    }
}

#[test]
fn golden_responses_decode_to_their_text() {
    let encoder = encoder(ResponsePrefix::Auto, None);
    for golden in golden_pairs() {
        let text = format!(" {}", golden.pair(&encoder).chosen);
        assert_eq!(encoder.decode(&golden.chosen_ids, true).unwrap(), text);
        assert_eq!(encoder.decode(&golden.chosen_ids, false).unwrap(), format!("{text}<|im_end|>"));
        let mut stream = encoder.stream();
        let streamed: String = golden.chosen_ids.iter().filter_map(|id| stream.push(*id).unwrap()).collect();
        assert_eq!(streamed, text);
    }
}

#[test]
fn auto_prefix_is_empty_behind_a_template_that_ends_in_a_line_feed() {
    let auto = encoder(ResponsePrefix::Auto, Some(SYSTEM));
    let none = encoder(ResponsePrefix::Text(String::new()), Some(SYSTEM));
    let pair = golden_pairs()[0].pair(&auto);
    let (encoded, _) = auto.encode_pair(&pair, 2048).unwrap();
    assert_eq!(encoded, none.encode_pair(&pair, 2048).unwrap().0);
    assert_eq!(auto.decode(&encoded.chosen.ids[encoded.chosen.start..], true).unwrap(), pair.chosen);
}

/// Ids recorded with the Python package `tokenizers` 0.23.3 from the same vocabulary and merges (`Digits` and `ByteLevel`).
#[test]
fn text_of_many_kinds_has_the_recorded_ids() {
    let encoder = encoder(ResponsePrefix::Auto, None);
    for (text, ids) in RECORDED {
        let encoding = encoder.tokenizer().encode(*text, false).unwrap();
        assert_eq!(encoding.get_ids(), *ids, "{text:?}");
        assert_eq!(encoder.decode(ids, false).unwrap(), *text);
    }
}

#[test]
fn without_a_system_prompt_the_template_writes_its_own() {
    let encoder = encoder(ResponsePrefix::Auto, None);
    let text = encoder.prompt_text(&[Message::new("user", "Hi")]).unwrap();
    let default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    let expected = format!("<|im_start|>system\n{default}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(text, expected);
}

/// The special tokens around a content end where it begins, so that its tokens read as it does. The template's line feed
/// comes along where the tokenizer makes one token of it and the content's first space.
#[test]
fn the_users_tokens_read_as_what_the_user_said() {
    let mut encoder = encoder(ResponsePrefix::Auto, None);
    encoder.tell_places(Some(Spans::User), None);
    for (text, _) in RECORDED.iter().filter(|(text, _)| !text.contains("<|")) {
        let turns = [("user", *text), ("assistant", "user"), ("user", "user\nHi ")];
        let prompt = encoder.encode_prompt(&turns.map(|(role, content)| Message::new(role, content))).unwrap();
        let mask = prompt.spans.unwrap().prompt;
        let tokens = prompt.ids.iter().zip(&mask).filter(|(_, picked)| **picked).map(|(id, _)| *id);
        let read = encoder.decode(&tokens.collect::<Vec<_>>(), false).unwrap();
        let before = if text.starts_with(' ') { "\n" } else { "" };
        assert_eq!(read, format!("{before}{text}user\nHi "), "{text:?}");
    }
}

const RECORDED: &[(&str, &[u32])] = &[
    (
        "In 2024 I'll pay 3.14159€, won't you?",
        &[788, 216, 34, 32, 34, 36, 339, 3060, 2290, 216, 35, 30, 33, 36, 33, 37, 41, 14195, 28, 3763, 982, 346, 47],
    ),
    ("  two  spaces\n\n\ttab ", &[216, 827, 216, 5600, 1116, 197, 15999, 216]),
    (
        "naïve café Grüße 漢字 😀 русский",
        &[
            3546, 46494, 37366, 9171, 7170, 34878, 85, 17097, 137, 112, 36518, 40303, 218, 216, 9175, 14714, 9382, 39511, 7872,
            24958,
        ],
    ),
    ("<|im_start|>user\nHi<|im_end|>", &[1, 4093, 198, 26843, 2]),
    ("<|im_end|><|endoftext|>x <|im_start|>", &[2, 0, 104, 216, 1]),
    ("½ and ٣٤ and ²", &[16738, 284, 216, 164, 113, 164, 114, 284, 216, 19133]),
];
