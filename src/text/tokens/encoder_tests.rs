//! Tests of the encoder with the small SentencePiece model of tests/fixtures: `▁the` 275, `▁capital` 336, `▁of` 281,
//! `▁France` 335, `.` 475, `▁ha` 294, `▁haha` 334, `▁[` 312, `INST` 327, `]` 499, `▁[/` 406; BOS 1, EOS 2, a line feed 14.

use super::super::tokenizer_from_gguf;
use super::*;

const FRANCE: [u32; 2] = [335, 475];

fn encoder_of(template: &str, options: TextOptions) -> TextEncoder {
    let (_, metadata) = super::super::gguf::tests::sentence_piece();
    let tokenizer = tokenizer_from_gguf(&metadata).unwrap();
    let template = match ChatTemplate::builtin_names().any(|name| name == template) {
        true => ChatTemplate::builtin(template, Some("<s>"), Some("</s>")).unwrap(),
        false => ChatTemplate::from_source("test", template, Some("<s>"), Some("</s>")).unwrap(),
    };
    TextEncoder::new(tokenizer, template, options).unwrap()
}

fn options() -> TextOptions {
    TextOptions {
        bos: Some(1),
        adds_bos: true,
        eos: vec![2],
        response_prefix: ResponsePrefix::Auto,
        system: None,
        system_in_user: false,
        vocab_size: 520,
    }
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Pair {
    let (chosen, rejected) = (chosen.to_owned(), rejected.to_owned());
    Pair { row: 7, prompt: vec![Message::new("user", prompt)], chosen, rejected }
}

fn response(ids: Vec<u32>, start: usize) -> EncodedResponse {
    EncodedResponse { ids, start, in_spans: None }
}

fn argument<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Argument(problem)) => problem,
        _ => panic!("an argument should be refused"),
    }
}

#[test]
fn bos_is_put_in_once_whether_or_not_the_template_writes_it() {
    let messages = [Message::new("user", "the capital")];
    let llama = encoder_of("llama-2", options()).encode_prompt(&messages).unwrap().ids;
    assert_eq!(llama, [1, 312, 327, 499, 275, 336, 406, 327, 499]);
    assert_eq!(encoder_of("plain", options()).encode_prompt(&messages).unwrap().ids, [1, 275, 336]);
    let without = TextOptions { adds_bos: false, ..options() };
    assert_eq!(encoder_of("plain", without).encode_prompt(&messages).unwrap().ids, [275, 336]);
}

#[test]
fn responses_follow_the_prompt_and_end_with_one_eos() {
    let (encoded, truncated) =
        encoder_of("plain", options()).encode_pair(&pair("the capital", "of France.", "of France.</s>"), 99).unwrap();
    assert!(!truncated);
    assert_eq!(encoded.row, 7);
    assert_eq!(encoded.chosen, response(vec![1, 275, 336, 281, FRANCE[0], FRANCE[1], 2], 3));
    assert_eq!(encoded.rejected, encoded.chosen);
}

#[test]
fn any_end_of_turn_counts_as_eos() {
    let encoder = encoder_of("plain", TextOptions { eos: vec![2, 3], ..options() });
    let (encoded, _) = encoder.encode_pair(&pair("the", "capital", "capital<|user|>"), 99).unwrap();
    assert_eq!(encoded.chosen.ids, [1, 275, 336, 2]);
    assert_eq!(encoded.rejected.ids, [1, 275, 336, 3]);
    assert!(encoder.is_eos(3) && !encoder.is_eos(275));
}

#[test]
fn auto_prefix_is_a_space_unless_the_prompt_ends_in_white_space() {
    let of = pair("the capital", "of", ".");
    let ids = |template: &str, prefix| {
        let encoder = encoder_of(template, TextOptions { response_prefix: prefix, ..options() });
        encoder.encode_pair(&of, 99).unwrap().0.chosen.ids
    };
    assert_eq!(ids("plain", ResponsePrefix::Auto), [1, 275, 336, 281, 2]);
    // `o` and `f` are 461 and 474; behind a line feed no prefix is put in.
    let line = "{{ messages[0].content }}{{ '\n' }}";
    assert_eq!(ids(line, ResponsePrefix::Auto), [1, 275, 336, 14, 461, 474, 2]);
    assert_eq!(ids(line, ResponsePrefix::Text(" ".into())), [1, 275, 336, 14, 281, 2]);
    assert_eq!(ids("plain", ResponsePrefix::Text("\n".into())), [1, 275, 336, 14, 461, 474, 2]);
}

#[test]
fn auto_prefix_is_never_a_second_space() {
    let ids = |response: &str| {
        let encoder = encoder_of("plain", TextOptions { response_prefix: ResponsePrefix::Auto, ..options() });
        encoder.encode_pair(&pair("the capital", response, "."), 99).unwrap().0.chosen.ids
    };
    assert_eq!(ids(" of"), ids("of"));
    // Of several spaces, which may be an indentation, none is lost.
    assert_ne!(ids("  of"), ids("of"));
}

#[test]
fn a_merge_across_the_border_belongs_to_the_response() {
    let encoder = encoder_of("plain", TextOptions { response_prefix: ResponsePrefix::Text(String::new()), ..options() });
    let (encoded, _) = encoder.encode_pair(&pair("the ha", "ha", " of"), 99).unwrap();
    assert_eq!(encoded.chosen, response(vec![1, 275, 334, 2], 2));
    assert_eq!(encoded.rejected, response(vec![1, 275, 294, 281, 2], 3));
}

#[test]
fn a_long_response_loses_its_end() {
    let encoder = encoder_of("plain", options());
    let long = pair("the capital", "of France.", "of");
    let (encoded, truncated) = encoder.encode_pair(&long, 5).unwrap();
    assert!(truncated);
    assert_eq!(encoded.chosen, response(vec![1, 275, 336, 281, 335], 3));
    assert_eq!(encoded.rejected, response(vec![1, 275, 336, 281, 2], 3));
    assert!(!encoder.encode_pair(&long, 7).unwrap().1);
    assert!(encoder.encode_pair(&long, 6).unwrap().1);
}

#[test]
fn a_prompt_that_fills_the_length_keeps_its_end_and_one_response_token() {
    let long = pair("the capital of France.", "of France.", "the capital");
    let (encoded, truncated) = encoder_of("plain", options()).encode_pair(&long, 4).unwrap();
    assert!(truncated);
    assert_eq!(encoded.chosen, response(vec![1, 335, 475, 281], 3));
    assert_eq!(encoded.rejected, response(vec![1, 335, 475, 275], 3));

    let without_bos = encoder_of("plain", TextOptions { bos: None, ..options() });
    let (encoded, _) = without_bos.encode_pair(&long, 2).unwrap();
    assert_eq!(encoded.chosen, response(vec![475, 281], 1));
}

#[test]
fn both_responses_keep_the_same_prompt_when_it_is_cut() {
    let encoder = encoder_of("plain", TextOptions { response_prefix: ResponsePrefix::Text(String::new()), ..options() });
    let (encoded, _) = encoder.encode_pair(&pair("the capital of ha", "ha", " of"), 4).unwrap();
    assert_eq!(encoded.chosen, response(vec![1, 281, 334, 2], 2));
    assert_eq!(encoded.rejected, response(vec![1, 281, 294, 281], 3));
}

#[test]
fn the_system_prompt_stands_in_front_of_conversations_without_one() {
    let encoder = encoder_of("plain", TextOptions { system: Some("S".into()), ..options() });
    let (user, own) = (Message::new("user", "U"), Message::new("system", "own"));
    assert_eq!(encoder.prompt_text(std::slice::from_ref(&user)).unwrap(), "S\n\nU");
    assert_eq!(encoder.prompt_text(&[own, user.clone()]).unwrap(), "own\n\nU");
    let none = encoder_of("plain", TextOptions { system: Some(String::new()), ..options() });
    assert_eq!(none.prompt_text(&[user]).unwrap(), "U");
}

#[test]
fn streamed_text_breaks_no_character() {
    let encoder = encoder_of("plain", options());
    let text = "the 😀 capital 漢";
    let ids = encoder.ids_of(text).unwrap();
    let mut stream = encoder.stream();
    let pieces: Vec<Option<String>> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces.iter().flatten().map(String::as_str).collect::<String>(), text);
    assert_eq!(stream.finish().unwrap(), "");
    assert!(pieces.iter().flatten().all(|piece| !piece.contains('\u{fffd}')));
    assert_eq!(pieces.iter().filter(|piece| piece.is_none()).count(), 3 + 2);
    assert_eq!(encoder.decode(&[275, 336, 2], true).unwrap(), "the capital");
    assert_eq!(encoder.decode(&[275, 336, 2], false).unwrap(), "the capital</s>");
}

/// The emoji is four tokens, the last character three.
#[test]
fn pieces_and_what_is_left_at_the_end_are_the_text_wherever_it_ends() {
    let encoder = encoder_of("plain", options());
    let ids = encoder.ids_of("the 😀 capital 漢").unwrap();
    for count in 0..=ids.len() {
        let mut stream = encoder.stream();
        let pieces: String = ids[..count].iter().filter_map(|id| stream.push(*id).unwrap()).collect();
        assert_eq!(pieces + &stream.finish().unwrap(), encoder.text_of(&ids[..count]).unwrap(), "{count}");
        assert_eq!(stream.finish().unwrap(), "");
    }
    assert_eq!(encoder.text_of(&ids[..ids.len() - 1]).unwrap(), "the 😀 capital ");
}

fn refused(options: TextOptions) -> String {
    let (_, metadata) = super::super::gguf::tests::sentence_piece();
    let template = ChatTemplate::builtin("plain", None, None).unwrap();
    argument(TextEncoder::new(tokenizer_from_gguf(&metadata).unwrap(), template, options))
}

#[test]
fn options_that_do_not_fit_the_tokenizer_are_refused() {
    assert!(refused(TextOptions { eos: Vec::new(), ..options() }).contains("no end-of-sequence token"));
    assert!(refused(TextOptions { eos: vec![2, 520], ..options() }).contains("special token 520"));
    assert!(refused(TextOptions { bos: Some(999), ..options() }).contains("special token 999"));
}

#[test]
fn special_tokens_and_words_that_the_model_has_not_are_refused() {
    let problem = refused(TextOptions { vocab_size: 2, ..options() });
    let expected =
        "the tokenizer gives the token \"</s>\" the id 2, but the model has 2 ids: is the tokenizer another model's?";
    assert_eq!(problem, expected);
    let problem = refused(TextOptions { bos: Some(519), vocab_size: 519, ..options() });
    assert!(problem.contains("the id 519, but the model has 519 ids"), "{problem}");
    let encoder = encoder_of("plain", TextOptions { vocab_size: 281, ..options() });
    assert_eq!(encoder.encode_text("the").unwrap(), [275]);
    assert!(argument(encoder.encode_text("the capital of")).contains("the id 336, but the model has 281 ids"));
}

#[test]
fn prompts_without_a_token_and_lengths_without_room_are_refused() {
    let encoder = encoder_of("plain", TextOptions { bos: None, ..options() });
    assert!(argument(encoder.encode_prompt(&[Message::new("user", "")])).contains("empty"));
    let problem = argument(encoder.encode_pair(&pair("", "the", "of"), 99));
    assert!(problem.starts_with("row 7: ") && problem.contains("no token of its own"), "{problem}");
    assert!(argument(encoder.encode_pair(&pair("the", "of", "."), 1)).contains("max length 1"));
}

#[test]
fn a_tokenizers_own_truncation_is_turned_off() {
    let (_, metadata) = super::super::gguf::tests::sentence_piece();
    let mut tokenizer = tokenizer_from_gguf(&metadata).unwrap();
    let two = tokenizers::TruncationParams { max_length: 2, ..Default::default() };
    tokenizer.with_truncation(Some(two)).unwrap();
    tokenizer.with_padding(Some(tokenizers::PaddingParams::default()));
    let template = ChatTemplate::builtin("plain", None, None).unwrap();
    let encoder = TextEncoder::new(tokenizer, template, options()).unwrap();
    let ids = encoder.encode_prompt(&[Message::new("user", "the capital of France.")]).unwrap().ids;
    assert_eq!(ids, [1, 275, 336, 281, 335, 475]);
}

fn telling(template: &str, options: TextOptions, spans: Spans) -> TextEncoder {
    let mut encoder = encoder_of(template, options);
    encoder.tell_places(Some(spans), None);
    encoder
}

/// The tokens that a mask picks, and all of them.
fn picked(encoder: &TextEncoder, messages: &[Message]) -> (Vec<u32>, Vec<u32>) {
    let EncodedPrompt { ids, spans } = encoder.encode_prompt(messages).unwrap();
    let mask = spans.unwrap().prompt;
    assert_eq!(mask.len(), ids.len());
    (ids.iter().zip(&mask).filter(|(_, picked)| **picked).map(|(id, _)| *id).collect(), ids)
}

#[test]
fn spans_hold_the_tokens_of_their_role_in_every_turn_and_no_other() {
    let turns =
        [("user", "the capital"), ("assistant", "of France."), ("user", "INST ]"), ("assistant", "the"), ("user", "of")];
    let messages = turns.map(|(role, content)| Message::new(role, content));
    let (user, all) = picked(&telling("llama-2", options(), Spans::User), &messages);
    let inst = [312, 327, 499];
    // `▁INST` and `▁]` are several tokens each; the template's own `INST` and `]` are not among those picked.
    let instruction = encoder_of("plain", TextOptions { bos: None, ..options() });
    let words = instruction.encode_prompt(&messages[2..3]).unwrap().ids;
    assert!(all.starts_with(&[&[1][..], &inst, &[275, 336]].concat()));
    assert_eq!(user, [&[275, 336][..], &words, &[281]].concat());
    let (assistant, _) = picked(&telling("llama-2", options(), Spans::Assistant), &messages);
    assert_eq!(assistant, [281, 335, 475, 275]);
    assert_eq!(encoder_of("llama-2", options()).encode_prompt(&messages).unwrap(), EncodedPrompt { ids: all, spans: None });
}

#[test]
fn the_ends_of_a_prompt_count_from_what_every_prompt_of_the_template_begins_with() {
    let messages = [Message::new("user", "the capital of France.")];
    let ends = |first, last, response| Ends { first, last, response };
    for system in [None, Some("of France.".to_owned())] {
        let mut encoder = encoder_of("llama-2", TextOptions { system, ..options() });
        let all = encoder.encode_prompt(&messages).unwrap().ids;
        let begins = |from: &usize| encoder.decode(&all[*from..], true).unwrap().trim_start().starts_with("the capital");
        let own = (0..all.len()).rev().find(begins).unwrap();
        encoder.tell_places(None, Some(ends(2, 3, false)));
        let (picked, ids) = picked(&encoder, &messages);
        assert_eq!(ids, all);
        assert_eq!(picked, [&all[own..own + 2], &all[all.len() - 3..]].concat());
        encoder.tell_places(Some(Spans::User), Some(ends(1, 1, true)));
        let told = encoder.encode_prompt(&messages).unwrap().spans.unwrap();
        assert!(!told.generated && told.prompt.iter().filter(|is_told| **is_told).count() == 1 && told.prompt[own]);
        encoder.tell_places(None, Some(ends(1, 0, true)));
        let response = encoder.encode_pair(&pair("the capital of France.", "the", "of"), 99).unwrap().0.chosen;
        let told: Vec<usize> = (0..response.ids.len()).filter(|at| response.in_spans.as_ref().unwrap()[*at]).collect();
        assert_eq!(told, std::iter::once(own).chain(response.start..response.ids.len()).collect::<Vec<_>>());
    }
    // Another system prompt moves the place where a prompt is its own.
    let mut encoder = encoder_of("llama-2", options());
    encoder.tell_places(None, Some(ends(1, 0, false)));
    assert_eq!(picked(&encoder, &messages).0, [275]); // `▁the`
    encoder.set_system(Some("of France.".into()));
    let first = picked(&encoder, &messages).0;
    assert_eq!(first.len(), 1);
    let first = encoder.decode(&first, true).unwrap(); // `the`, which is several tokens without a space before it
    assert!(!first.trim().is_empty() && "the".starts_with(first.trim()), "{first:?}");
}

#[test]
fn a_system_prompt_is_nobodys_span() {
    let with_system = TextOptions { system: Some("of France.".into()), ..options() };
    let (user, all) = picked(&telling("llama-2", with_system, Spans::User), &[Message::new("user", " the capital \n")]);
    assert_eq!(user.iter().filter(|id| FRANCE.contains(id)).count(), 0);
    assert_eq!(all.iter().filter(|id| FRANCE.contains(id)).count(), 2);
    assert!(user.ends_with(&[275, 336]), "{user:?}");
}

#[test]
fn a_response_is_the_assistants_and_truncation_cuts_the_spans_with_the_tokens() {
    let long = pair("the capital of France.", "of France.", "the capital");
    for (max_length, mask) in [(99, [0, 1, 1, 1, 1, 1, 0, 0, 0, 0].as_slice()), (4, &[0, 1, 1, 0])] {
        let user = telling("plain", options(), Spans::User).encode_pair(&long, max_length).unwrap().0.chosen;
        let assistant = telling("plain", options(), Spans::Assistant).encode_pair(&long, max_length).unwrap().0.chosen;
        let plain = encoder_of("plain", options()).encode_pair(&long, max_length).unwrap().0.chosen;
        assert_eq!((&user.ids, user.start, plain.in_spans), (&plain.ids, plain.start, None));
        assert_eq!(user.in_spans.unwrap(), mask.iter().map(|bit| *bit == 1).collect::<Vec<_>>());
        let start = assistant.start;
        assert_eq!(assistant.in_spans.unwrap(), (0..plain.ids.len()).map(|at| at >= start).collect::<Vec<_>>());
    }
    let prompt = [Message::new("user", "the")];
    let generated = |spans| telling("plain", options(), spans).encode_prompt(&prompt).unwrap().spans.unwrap().generated;
    assert!(generated(Spans::Assistant) && !generated(Spans::User));
}

/// Whether the tokenizer puts BOS in front and whether the template writes it: what is rendered is kept, and there is one BOS
/// where either does.
#[test]
fn bos_is_there_once_where_the_tokenizer_or_the_template_puts_it() {
    let messages = [Message::new("user", "the capital")];
    for (adds_bos, writes_bos, expected) in [
        (true, true, &[1, 275, 336][..]),
        (true, false, &[1, 275, 336]),
        (false, true, &[1, 275, 336]),
        (false, false, &[275, 336]),
    ] {
        let template = if writes_bos { "{{ bos_token }}{{ messages[0].content }}" } else { "{{ messages[0].content }}" };
        let encoder = encoder_of(template, TextOptions { adds_bos, ..options() });
        assert_eq!(encoder.encode_prompt(&messages).unwrap().ids, expected, "{adds_bos}, {writes_bos}");
        let (encoded, _) = encoder.encode_pair(&pair("the capital", "of", "."), 99).unwrap();
        assert_eq!(encoded.chosen.ids[..expected.len()], *expected, "{adds_bos}, {writes_bos}");
        assert_eq!(encoder.encode_text("the capital").unwrap(), [275, 336]);
        // A prompt that loses its beginning keeps BOS, whoever put it there.
        let (cut, _) = encoder.encode_pair(&pair("the capital of France.", "of", "."), 3).unwrap();
        let kept: &[u32] = if adds_bos || writes_bos { &[1, 475, 281] } else { &[335, 475, 281] };
        assert_eq!(cut.chosen.ids, kept, "{adds_bos}, {writes_bos}");
    }
}

#[test]
fn a_response_is_what_the_template_writes() {
    let chosen = |template: &str, options, response: &str| {
        let encoder = encoder_of(template, options);
        let (encoded, _) = encoder.encode_pair(&pair("the", response, "."), 999).unwrap();
        encoder.decode(&encoded.chosen.ids[encoded.chosen.start - 1..], false).unwrap()
    };
    // Llama 2 writes a space before and behind, and strips the words.
    assert_eq!(chosen("llama-2", options(), " of\n"), "] of </s>");
    assert_eq!(chosen("vicuna", options(), "of"), ": of</s>");
    let no_space = "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST]' ~ m.content ~ '[/INST]' }}\
        {%- else %}{{- m.content ~ eos_token }}{%- endif %}{%- endfor %}";
    assert!(chosen(no_space, options(), "of").ends_with("]of</s>"));
    // The authors' form stays.
    let space = TextOptions { response_prefix: ResponsePrefix::Text(" ".into()), ..options() };
    assert!(chosen(no_space, space.clone(), "of").ends_with("] of</s>"));
    assert_eq!(chosen("llama-2", space, " of"), "]  of</s>");
}

#[test]
fn the_templates_own_end_of_turn_closes_a_response_and_ends_generation() {
    let template = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|user|>{% endif %}{% endfor %}";
    let encoder = encoder_of(template, options());
    assert_eq!(encoder.eos_ids(), [2, 3]);
    assert!(encoder.is_eos(3) && encoder.follows_template());
    let (encoded, _) = encoder.encode_pair(&pair("the", " capital", " capital</s>"), 99).unwrap();
    assert_eq!(encoded.chosen.ids, [1, 275, 336, 3]);
    assert_eq!(encoded.rejected.ids, [1, 275, 336, 2]);
    // Where the user says the prefix, the tokenizer's end closes the response.
    let encoder = encoder_of(template, TextOptions { response_prefix: ResponsePrefix::Text(" ".into()), ..options() });
    assert_eq!(encoder.encode_pair(&pair("the", "capital", "of"), 99).unwrap().0.chosen.ids, [1, 275, 336, 2]);
    assert!(encoder.is_eos(3) && !encoder.follows_template());
}

#[test]
fn a_system_prompt_goes_into_the_first_user_turn_where_that_is_asked_for() {
    let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}\
        {% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    let in_user = TextOptions { system: Some("Be brief.".into()), system_in_user: true, ..options() };
    let encoder = encoder_of(refuses, in_user);
    let text = |messages: &[(&str, &str)]| {
        let messages: Vec<_> = messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        encoder.prompt_text(&messages).unwrap()
    };
    assert_eq!(text(&[("user", "Hi")]), "<user>Be brief.\n\nHi");
    // A conversation's own system prompt comes before the encoder's.
    assert_eq!(text(&[("system", "S"), ("user", "Hi"), ("user", "Ho")]), "<user>S\n\nHi<user>Ho");
    assert_eq!(text(&[("system", "S"), ("assistant", "Hi")]), "<user>S<assistant>Hi");
    assert!(!encoder.drops_system(&[Message::new("user", "Hi")]).unwrap());
}

#[test]
fn a_row_whose_system_prompt_is_refused_is_named() {
    let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}";
    let mut with_system = pair("the", "of", ".");
    with_system.prompt.insert(0, Message::new("system", "S"));
    let problem = argument(encoder_of(refuses, options()).encode_pair(&with_system, 99));
    assert_eq!(problem, "row 7: chat template test takes no system prompt (it says: no)");
}

#[test]
fn the_end_of_a_turn_comes_off_with_the_white_space_that_the_template_writes_before_it() {
    for template in ["llama-2", "vicuna", "plain"] {
        let encoder = encoder_of(template, options());
        let (encoded, _) = encoder.encode_pair(&pair("the", "of", "."), 999).unwrap();
        let mut response = encoded.chosen.clone();
        encoder.drop_end(&mut response).unwrap();
        assert_eq!(response.ids[response.start..], [281], "{template}");
        // A truncated response has no end.
        encoder.drop_end(&mut response).unwrap();
        assert_eq!(response.ids[response.start..], [281], "{template}");
    }
}
