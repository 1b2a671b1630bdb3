//! Tests of `conversation`.

use serde_json::json;

use super::*;

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

/// Makes the pair of a row that has no other columns.
fn pair(row: usize, prompt: &Value, chosen: &Value, rejected: &Value) -> Result<Pair, String> {
    super::pair(row, &of(&Value::Null, &Value::Null, prompt, &Value::Null)?, chosen, rejected)
}

fn of(system: &Value, history: &Value, prompt: &Value, input: &Value) -> Result<RowPrompt, String> {
    PromptCells { system, history, prompt, input }.prompt()
}

fn roles(pair: &Pair) -> Vec<(&str, &str)> {
    pair.prompt.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect()
}

#[test]
fn plain_texts_are_kept_with_their_white_space() {
    let pair = pair(7, &json!(" Why?\n"), &json!(" Because."), &json!("No. ")).unwrap();
    assert_eq!(pair.row, 7);
    assert_eq!(roles(&pair), [("user", " Why?\n")]);
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str()), (" Because.", "No. "));
}

#[test]
fn lists_with_an_explicit_prompt_are_one_conversation() {
    let prompt = json!([{"role": "system", "content": "Be kind."}, user("Hi"), assistant("Yes?"), user("Why?")]);
    let pair = pair(0, &prompt, &json!([assistant("a")]), &json!([assistant("b")])).unwrap();
    assert_eq!(roles(&pair), [("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")]);
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str()), ("a", "b"));
}

#[test]
fn shared_beginning_of_whole_conversations_is_the_prompt() {
    let chosen = json!([user("Hi"), assistant("Yes?"), user("Why?"), assistant("a")]);
    let rejected = json!([user("Hi"), assistant("Yes?"), user("Why?"), assistant("b")]);
    let pair = pair(0, &Value::Null, &chosen, &rejected).unwrap();
    assert_eq!(roles(&pair), [("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")]);
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str()), ("a", "b"));
}

#[test]
fn prompt_that_the_conversations_repeat_is_not_doubled() {
    let chosen = json!([user("Why?"), assistant("a")]);
    let rejected = json!([user("Why?"), assistant("b")]);
    assert_eq!(roles(&pair(0, &json!("Why?"), &chosen, &rejected).unwrap()), [("user", "Why?")]);
    let error = pair(0, &json!("When?"), &chosen, &rejected).unwrap_err();
    assert_eq!(error, "the prompt is not what the two conversations begin with");
}

#[test]
fn prompt_may_be_a_part_of_the_conversations_or_differ_in_white_space() {
    let talk = |answer: &str| json!([user("Hi\nthere"), assistant("Yes?"), user("Why?"), assistant(answer)]);
    let whole = [("user", "Hi\nthere"), ("assistant", "Yes?"), ("user", "Why?")];
    for prompt in
        [json!("Hi  there "), json!("Why?"), json!(" Yes? Why?"), json!([user("Hi\nthere"), assistant("Yes?"), user("Why?")])]
    {
        let result = pair(0, &prompt, &talk("a"), &talk("b"));
        match prompt.as_str() {
            Some(" Yes? Why?") => assert!(result.is_err()),
            _ => assert_eq!(roles(&result.unwrap()), whole, "{prompt}"),
        }
    }
    let with_response = json!([user("Hi there"), assistant("Yes?"), user("Why?"), assistant("a")]);
    assert_eq!(roles(&pair(0, &with_response, &talk("a"), &talk("b")).unwrap()), whole);
    let system = json!([{"role": "system", "content": "Be kind."}, user("Hi there")]);
    let pair = pair(0, &system, &talk("a"), &talk("b")).unwrap();
    assert_eq!(roles(&pair), [&[("system", "Be kind.")][..], &whole].concat());
}

#[test]
fn earlier_turns_that_differ_in_white_space_are_shared() {
    let chosen = json!([user("Hi"), assistant("Yes? "), user("Why?"), assistant("a")]);
    let rejected = json!([user("Hi"), assistant("Yes?"), user("Why? "), assistant("b")]);
    let pair = pair(0, &Value::Null, &chosen, &rejected).unwrap();
    assert_eq!(roles(&pair), [("user", "Hi"), ("assistant", "Yes? "), ("user", "Why?")]);
}

#[test]
fn system_history_and_input_become_parts_of_the_prompt() {
    let prompt = |system: Value, history: Value, prompt: Value, input: Value| {
        let prompt = of(&system, &history, &prompt, &input).unwrap();
        let parts = prompt.messages.into_iter().map(|message| (message.role, message.content));
        parts.collect::<Vec<_>>()
    };
    let message = |role: &str, content: &str| (role.to_owned(), content.to_owned());
    let all = prompt(json!("Be kind."), json!([["Hi", "Yes?"]]), json!("Add."), json!("1 2"));
    assert_eq!(
        all,
        [message("system", "Be kind."), message("user", "Hi"), message("assistant", "Yes?"), message("user", "Add.\n1 2")]
    );
    assert_eq!(prompt(json!(" "), json!([]), json!("Add."), json!("")), [message("user", "Add.")]);
    assert_eq!(prompt(json!(null), json!(null), json!(""), json!("1 2")), [message("user", "1 2")]);
    let own = json!([{"role": "developer", "content": "Be brief."}, user("Hi")]);
    assert_eq!(
        prompt(json!("Be kind."), json!(null), own, json!(null)),
        [message("system", "Be brief."), message("user", "Hi")]
    );
}

#[test]
fn space_in_front_of_a_response_that_continues_the_prompt_is_no_part_of_it() {
    let open = json!("\n\nHuman: Why?\n\nAssistant:");
    let pair = pair(0, &open, &json!(" Because."), &json!("  No.")).unwrap();
    assert_eq!(roles(&pair), [("user", "Why?")]);
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str()), ("Because.", " No."));
}

#[test]
fn unusable_rows_have_a_reason() {
    let reason = |prompt: Value, chosen: Value, rejected: Value| pair(0, &prompt, &chosen, &rejected).unwrap_err();
    assert_eq!(reason(json!(" \n"), json!("a"), json!("b")), "the question is empty");
    assert_eq!(reason(json!(null), json!("a"), json!("b")), "the question is missing");
    let system = json!([{"role": "system", "content": "Be kind."}]);
    assert_eq!(reason(system, json!("a"), json!("b")), "the question is missing");
    assert_eq!(reason(json!("q"), json!("\t"), json!("b")), "the chosen response is empty");
    assert_eq!(reason(json!("q"), json!("a"), json!(null)), "the rejected response is missing");
    assert_eq!(reason(json!("q"), json!("a"), json!("a ")), "the two responses are equal");
    assert_eq!(
        reason(json!("q"), json!(3), json!("a")),
        "the chosen response is a number: expected text or a list of messages"
    );
    let same = json!([user("q"), assistant("a")]);
    assert_eq!(reason(json!(null), same.clone(), same), "the two responses are equal");
    assert_eq!(
        reason(json!([user("q"), assistant("so")]), json!([assistant("a")]), json!([assistant("b")])),
        "the prompt ends in a message of role assistant: expected user"
    );
    assert_eq!(
        reason(json!(null), json!([user("q"), assistant("a")]), json!([user("r"), assistant("a")])),
        "the two conversations part before the chosen response: 2 messages follow, expected 1"
    );
    assert_eq!(
        reason(json!("q"), json!([{"role": "tool", "content": "a"}]), json!("b")),
        "message 0 of the chosen response has role tool: expected system, user or assistant"
    );
    assert_eq!(
        reason(json!("q"), json!([{"role": "assistant", "content": [1]}]), json!("b")),
        "message 0 of the chosen response has no text in content: expected role and content"
    );
}
