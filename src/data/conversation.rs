//! One pair from three cells. A cell is text or, as in `trl`, a list of `{role, content}` messages; a text is the list of
//! one message, so that one rule serves both. Whole conversations share their beginning: it is the prompt.

use serde_json::Value;

use super::{Pair, json};
use crate::chat::Message;

const USER: &str = "user";
const ASSISTANT: &str = "assistant";

/// The pair, or why there is none. A null prompt is an absent one.
pub(super) fn pair(row: usize, prompt: &Value, chosen: &Value, rejected: &Value) -> Result<Pair, String> {
    let given = messages("question", prompt, USER)?;
    let chosen = messages("chosen response", chosen, ASSISTANT)?;
    let rejected = messages("rejected response", rejected, ASSISTANT)?;

    // The last message is the response, also where both are equal.
    let shorter = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared = chosen.iter().zip(&rejected).take(shorter).take_while(|(chosen, rejected)| chosen == rejected).count();
    let (shared, chosen) = chosen.split_at(shared);
    let chosen = response("chosen response", chosen)?;
    let rejected = response("rejected response", rejected.get(shared.len()..).unwrap_or_default())?;
    let prompt = join(given, shared)?;

    match prompt.last() {
        None => return Err("the question is missing".to_string()),
        Some(last) if last.role != USER => {
            return Err(format!("the prompt ends in a message of role {}: expected {USER}", last.role));
        }
        Some(last) if last.content.trim().is_empty() => return Err("the question is empty".to_string()),
        Some(_) => {}
    }
    if chosen.trim() == rejected.trim() {
        return Err("the two responses are equal".to_string());
    }
    Ok(Pair { row, prompt, chosen, rejected })
}

/// The prompt that is given and the one that the responses begin with may repeat one another, not contradict.
fn join(given: Vec<Message>, shared: &[Message]) -> Result<Vec<Message>, String> {
    if shared.is_empty() || given.ends_with(shared) {
        return Ok(given);
    }
    if shared.ends_with(&given) {
        return Ok(shared.to_vec());
    }
    Err("the prompt is not what the two conversations begin with".to_string())
}

fn response(what: &str, messages: &[Message]) -> Result<String, String> {
    match messages {
        [] => Err(format!("the {what} is missing")),
        [last] if last.role != ASSISTANT => Err(format!("the {what} is a message of role {}: expected {ASSISTANT}", last.role)),
        [last] if last.content.trim().is_empty() => Err(format!("the {what} is empty")),
        [last] => Ok(last.content.clone()),
        more => Err(format!("the two conversations part before the {what}: {} messages follow, expected 1", more.len())),
    }
}

fn messages(what: &str, cell: &Value, role: &str) -> Result<Vec<Message>, String> {
    match cell {
        Value::Null => Ok(Vec::new()),
        Value::String(content) => Ok(vec![Message { role: role.to_string(), content: content.clone() }]),
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| message(what, index, value)).collect(),
        other => Err(format!("the {what} is {}: expected text or a list of messages", json::kind(other))),
    }
}

fn message(what: &str, index: usize, value: &Value) -> Result<Message, String> {
    let text = |key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.ok_or_else(|| format!("message {index} of the {what} has no text in {key}: expected role and content"))
    };
    let (role, content) = (text("role")?, text("content")?);
    if !["system", USER, ASSISTANT].contains(&role) {
        return Err(format!("message {index} of the {what} has role {role}: expected system, {USER} or {ASSISTANT}"));
    }
    Ok(Message { role: role.to_string(), content: content.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(content: &str) -> Value {
        json!({"role": "user", "content": content})
    }

    fn assistant(content: &str) -> Value {
        json!({"role": "assistant", "content": content})
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
    fn unusable_rows_have_a_reason() {
        let reason = |prompt: Value, chosen: Value, rejected: Value| pair(0, &prompt, &chosen, &rejected).unwrap_err();
        assert_eq!(reason(json!(" \n"), json!("a"), json!("b")), "the question is empty");
        assert_eq!(reason(json!(null), json!("a"), json!("b")), "the question is missing");
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
}
