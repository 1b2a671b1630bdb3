//! Log-probabilities of tokens: their bytes, their places in the text, and where a stop ends it.

use super::*;

/// Ids of the fixture's tokens of these bytes.
fn ids_of(bytes: impl IntoIterator<Item = u8>) -> Vec<u32> {
    let tokenizer = tokenizers::Tokenizer::from_file(Path::new(FIXTURE).join("tokenizer.json")).unwrap();
    bytes.into_iter().map(|byte| tokenizer.token_to_id(&letter_of(byte).to_string()).unwrap()).collect()
}

/// As GPT-2's byte alphabet writes a byte that is not visible in Latin-1, or one that is.
fn letter_of(byte: u8) -> char {
    let is_visible = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    match is_visible(&byte) {
        true => char::from(byte),
        false => char::from_u32(256 + (0..byte).filter(|byte| !is_visible(byte)).count() as u32).unwrap(),
    }
}

#[test]
fn parts_of_characters_are_told_by_their_bytes() {
    let server = Server::start(&[], None);
    // The first byte of a character again and again, and one that can follow it.
    let ids = ids_of([0xE2, 0x98]);
    let bias = json!({ids[0].to_string(): 100, ids[1].to_string(): 90});
    let body = chat(json!({"logit_bias": bias, "max_tokens": 3, "logprobs": true, "top_logprobs": 20}));
    let (_, answer) = server.post("/v1/chat/completions", &body);
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(tokens.len(), 3);
    for token in tokens {
        assert_eq!((&token["token"], &token["bytes"]), (&json!("\\xe2"), &json!([0xE2])), "{token}");
        for likely in token["top_logprobs"].as_array().unwrap() {
            let (text, bytes) = (likely["token"].as_str().unwrap(), likely["bytes"].as_array().unwrap());
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
            assert!(text.as_bytes() == bytes || text == bytes.escape_ascii().to_string(), "{likely}");
        }
    }
    let raw = json!({"prompt": "hello", "logit_bias": bias, "max_tokens": 3, "temperature": 0, "logprobs": 20});
    let (_, answer) = server.post("/v1/completions", &raw);
    let told = &answer["choices"][0]["logprobs"];
    assert_eq!(told["tokens"], json!(["bytes:\\xe2", "bytes:\\xe2", "bytes:\\xe2"]), "{answer}");
    // A key for each token: none takes another's place.
    for likeliest in told["top_logprobs"].as_array().unwrap() {
        assert_eq!(likeliest.as_object().unwrap().len(), 20, "{likeliest}");
    }
}

#[test]
fn tokens_of_a_completion_say_where_they_begin() {
    let server = Server::start(&[], None);
    let body = json!({"prompt": "hello", "max_tokens": 60, "temperature": 1, "seed": 3, "logprobs": 1});
    let (_, whole) = server.post("/v1/completions", &body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = server.events("/v1/completions", &streamed);
    let of = |field: &str, choice: &Value| choice["logprobs"][field].as_array().cloned().unwrap_or_default();
    let joined = |field: &str| events.iter().flat_map(|event| of(field, &event["choices"][0])).collect::<Vec<Value>>();
    let choice = &whole["choices"][0];
    for field in ["tokens", "text_offset"] {
        assert_eq!(joined(field), of(field, choice), "{whole}");
    }
    let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    let (mut found, mut is_whole) = (0, true);
    for (token, offset) in of("tokens", choice).iter().zip(of("text_offset", choice)) {
        let (token, offset) = (token.as_str().unwrap(), offset.as_u64().unwrap() as usize);
        // Behind a part of a character stands first what became of that.
        let was_whole = std::mem::replace(&mut is_whole, !token.starts_with("bytes:") && !token.starts_with('<'));
        if was_whole && is_whole {
            let there: String = text[offset..].iter().take(token.chars().count()).collect();
            assert_eq!(there, token, "{whole}");
            found += 1;
        }
    }
    assert!(found > 3, "{whole}");
}

#[test]
fn the_tokens_of_a_stop_are_not_told() {
    let server = Server::start(&[], None);
    // Only what can be seen, so that the text is its tokens' bytes, and nothing that ends it.
    let unseen = ids_of((0..=0xFF).filter(|byte| !matches!(byte, 0x20..=0x7E))).into_iter().chain(0..3);
    let bias: Value = unseen.map(|id| (id.to_string(), json!(-100))).collect::<serde_json::Map<_, _>>().into();
    let body = |extra: Value| {
        let mut body = chat(json!({"logprobs": true, "max_tokens": 24, "steering": 2, "logit_bias": bias}));
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let told =
        |answer: &Value| -> Vec<Value> { answer["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default() };
    let bytes = |tokens: &[Value]| -> Vec<u8> {
        let of = |token: &Value| {
            token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect::<Vec<u8>>()
        };
        tokens.iter().flat_map(of).collect()
    };
    let (_, whole) = server.post("/v1/chat/completions", &body(json!({})));
    assert_eq!(bytes(&told(&whole)), content(&whole).as_bytes(), "{whole}");
    let text: Vec<char> = content(&whole).chars().collect();
    let stop: String = text[text.len() / 2..text.len() / 2 + 3].iter().collect();
    let (_, cut) = server.post("/v1/chat/completions", &body(json!({"stop": stop})));
    let before = &content(&whole)[..content(&whole).find(&stop).unwrap()];
    assert_eq!(content(&cut), before);
    let found = bytes(&told(&cut));
    // The last token can go on into the stop.
    let last = told(&cut).last().map_or(0, |token| token["bytes"].as_array().unwrap().len());
    assert!(found.starts_with(before.as_bytes()) && found.len() < before.len() + last.max(1), "{cut}");
    let mut streamed = body(json!({"stop": stop}));
    streamed["stream"] = true.into();
    let events = server.events("/v1/chat/completions", &streamed);
    let tokens =
        events.iter().flat_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default());
    assert_eq!(bytes(&tokens.collect::<Vec<Value>>()), found);
}
