//! Tests of `turns`.

use serde_json::json;

use super::*;

fn turns(cell: Value) -> Vec<(String, String)> {
    let messages = Turns::of("cell", &cell).unwrap_or_else(|reason| panic!("{reason}")).into_messages(USER);
    messages.into_iter().map(|message| (message.role, message.content)).collect()
}

fn expected(turns: &[(&str, &str)]) -> Vec<(String, String)> {
    turns.iter().map(|(role, content)| (role.to_string(), content.to_string())).collect()
}

#[test]
fn messages_of_every_spelling_are_the_same_conversation() {
    let right = expected(&[("system", "s"), ("user", "q"), ("assistant", "a")]);
    for cell in [
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]),
        json!([{"role": "developer", "content": "s"}, {"role": "User", "content": "q"}, {"role": "model", "content": "a"}]),
        json!([{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]),
        json!([{"role": "system", "content": ["s"]}, {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]),
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
        json!(
            r#"[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]"#
        ),
        json!([[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]]),
    ] {
        assert_eq!(turns(cell.clone()), right, "{cell}");
    }
}

#[test]
fn lists_of_one_and_objects_with_a_text_are_that_text() {
    for cell in [json!("q"), json!(["q"]), json!([["q"]]), json!({"text": "q"}), json!({"role": "user", "content": "q"})] {
        assert_eq!(turns(cell.clone()), expected(&[("user", "q")]), "{cell}");
    }
}

#[test]
fn dialogues_are_split_at_their_turns() {
    let hh = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A\n\nB\n\nAssistant: C\n\nD";
    let right = expected(&[("user", "Hi"), ("assistant", "Yes?"), ("user", "A\n\nB"), ("assistant", "C\n\nD")]);
    assert_eq!(turns(json!(hh)), right);
    assert_eq!(turns(json!(hh.trim_start())), right);
    // The place of the answer is no turn.
    assert_eq!(turns(json!("\n\nHuman: Hi\n\nAssistant:")), expected(&[("user", "Hi")]));
    // A text of another kind is left as it is.
    for text in ["[{\"a\": 1}]", "[{]", "Human: hello", "\n\nAssistant: a", "The Human: q\n\nAssistant: a", " q "] {
        assert_eq!(turns(json!(text)), expected(&[("user", text)]), "{text}");
    }
}

#[test]
fn what_has_no_text_is_named() {
    let reason = |cell: Value| Turns::of("cell", &cell).err().unwrap();
    assert_eq!(reason(json!(3)), "the cell is a number: expected text or a list of messages");
    assert_eq!(reason(json!({"a": 1})), "the cell is one object without messages: expected text or a list of messages");
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]);
    assert_eq!(reason(image), "message 0 of the cell has no text in content: expected role and content");
    let tool = json!([{"role": "tool", "content": "x"}]);
    assert_eq!(reason(tool), "message 0 of the cell has role tool: expected system, user or assistant");
}
