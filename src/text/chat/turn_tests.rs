//! Tests of `turn`, with templates of the kinds that models on the hub have (tests/fixtures/cases/templates).

use super::*;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source("test", source, Some("<s>"), Some("</s>")).unwrap()
}

fn case(name: &str) -> ChatTemplate {
    let path = format!("{}/tests/fixtures/cases/templates/{name}.jinja", env!("CARGO_MANIFEST_DIR"));
    ChatTemplate::from_file(path.as_ref(), Some("<s>"), Some("</s>")).unwrap()
}

fn builtin(name: &str) -> ChatTemplate {
    ChatTemplate::builtin(name, Some("<s>"), Some("</s>")).unwrap()
}

fn turn(before: &str, after: &str, trim: Trim) -> Option<AssistantTurn> {
    Some(AssistantTurn { before: before.into(), after: after.into(), trim })
}

#[test]
fn the_form_of_an_answer_is_what_the_template_writes_around_it() {
    assert_eq!(builtin("chatml").assistant_turn(), turn("", "<|im_end|>\n", Trim::Nothing));
    assert_eq!(builtin("zephyr").assistant_turn(), turn("", "</s>\n", Trim::Nothing));
    assert_eq!(builtin("llama-2").assistant_turn(), turn(" ", " </s>", Trim::Both));
    assert_eq!(builtin("vicuna").assistant_turn(), turn(" ", "</s>", Trim::Nothing));
    assert_eq!(case("response-prefix").assistant_turn(), turn("", "</s>", Trim::Nothing));
    assert_eq!(case("system-dropped").assistant_turn(), turn(" ", "</s>", Trim::Nothing));
    assert_eq!(case("system-in-data").assistant_turn(), turn("<assistant>", "\n", Trim::Nothing));
    let trims_end = "{% for m in messages %}[{{ m.role }}]{{ m.content.rstrip() }};{% endfor %}\
        {% if add_generation_prompt %}[assistant]{% endif %}";
    assert_eq!(template(trims_end).assistant_turn(), turn("", ";", Trim::End));
}

#[test]
fn a_template_without_a_consistent_form_gives_none() {
    let puts_a_thought_in = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>\n</think>{% endif %}\
        {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let differs_behind_turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{{ loop.index }}{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let says_user_alone = "{% for m in messages %}<user>{{ m.content }}</s>{% endfor %}<assistant>";
    let changes_the_words = "{% for m in messages %}{{ m.content | replace(' ', '') }};{% endfor %}";
    for source in [puts_a_thought_in, differs_behind_turns, says_user_alone, changes_the_words] {
        assert_eq!(template(source).assistant_turn(), None, "{source}");
    }
    assert_eq!(case("open-think").assistant_turn(), None);
    assert_eq!(template(says_user_alone).end_of_turn().unwrap(), "</s><assistant>");
}

#[test]
fn a_dropped_system_prompt_is_told_from_one_that_is_written() {
    let conversation = [Message::new("system", "S"), Message::new("user", "Hi")];
    assert!(case("system-dropped").drops_system(&conversation).unwrap());
    assert!(!case("system-dropped").drops_system(&conversation[1..]).unwrap());
    assert!(!builtin("chatml").drops_system(&conversation).unwrap());
    for (name, says) in [
        ("system-in-data", "System role not supported"),
        ("no-system-as-gemma-2", "there is no system role"),
        // It finds the user's turn in the wrong place before it looks at the role.
        ("no-system-as-mistral-v0.1", "roles must alternate"),
    ] {
        let error = case(name).drops_system(&conversation).unwrap_err().to_string();
        assert!(error.contains(&format!("takes no system prompt (it says: {says})")), "{error}");
        assert!(!case(name).drops_system(&conversation[1..]).unwrap());
        // A conversation that is wrong without it, too, is refused for another reason.
        let wrong = [&conversation[..], &conversation[1..]].concat();
        let error = case(name).render(&wrong).unwrap_or_else(|error| error.to_string());
        assert_eq!(error.contains("refuses the conversation: "), name != "system-in-data", "{error}");
    }
}

#[test]
fn the_form_of_an_answer_is_found_where_the_template_refuses_a_system_prompt() {
    let user = [Message::new("user", " Hi ")];
    let gemma = case("no-system-as-gemma-2");
    assert_eq!(gemma.render(&user).unwrap(), "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
    assert_eq!(gemma.assistant_turn(), turn("", "<end_of_turn>\n", Trim::Both));
    let mistral = case("no-system-as-mistral-v0.1");
    assert_eq!(mistral.render(&user).unwrap(), "<s>[INST]  Hi  [/INST]");
    assert_eq!(mistral.assistant_turn(), turn(" ", "</s>", Trim::Nothing));
}

#[test]
fn a_prompt_that_ends_inside_a_thought_is_closed_where_the_template_can() {
    let user = [Message::new("user", "Hi")];
    let mut closes = case("open-think");
    assert!(!closes.close_thought());
    let expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_eq!(closes.render(&user).unwrap(), expected);
    // What the user sets stands.
    let mut kept = case("open-think");
    kept.set_variables([("enable_thinking".to_owned(), Value::Bool(true))]);
    assert!(kept.close_thought());
    assert!(kept.render(&user).unwrap().ends_with("<think>\n"));
    // The second variable is read by others.
    let mut granite = template("{{ messages[0].content }}{% if thinking is not false %}<think>{% endif %}");
    assert!(!granite.close_thought());
    assert_eq!(granite.render(&user).unwrap(), "Hi");

    let mut always = template("{{ messages[0].content }}<think>\n{{ enable_thinking is defined }}");
    assert!(always.close_thought());
    assert_eq!(always.render(&user).unwrap(), "Hi<think>\nFalse");
    assert!(!builtin("chatml").close_thought());
}

#[test]
fn a_prompt_opens_a_thought_where_its_own_end_does() {
    let chat = |source: &str, content: &str| template(source).opens_thought(&[Message::new("user", content)]).unwrap();
    let sometimes = "{{ messages[-1].content }}|{{ '' if '/no_think' in messages[-1].content else '<think>\n' }}";
    assert!(chat(sometimes, "Hi") && !chat(sometimes, "Hi /no_think"));
    assert!(!chat("{{ messages[-1].content }}|", "What does <think> mean?"));
    assert!(!chat("{{ messages[-1].content }}|<think></think>", "Hi"));
}
