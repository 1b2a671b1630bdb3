//! One pair from three cells. A cell is text or, as in `trl`, a list of `{role, content}` messages; text counts as a list of
//! one message, so that one rule serves both. If the responses are whole conversations, the part that they share is the prompt.

use serde_json::Value;

use super::pair::Pair;
use super::table::kind;
use crate::text::chat::Message;

const USER: &str = "user";
const ASSISTANT: &str = "assistant";

/// Makes the pair of a row, or returns the reason why the row gives no pair. A null `prompt` means that the row has no prompt.
pub(super) fn pair(row: usize, prompt: &Value, chosen: &Value, rejected: &Value) -> Result<Pair, String> {
    let given = messages("question", prompt, USER)?;
    let chosen = messages("chosen response", chosen, ASSISTANT)?;
    let rejected = messages("rejected response", rejected, ASSISTANT)?;

    // The last message is always the response, even if both conversations end with the same message.
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

/// Joins the prompt of its own column with the messages that both responses begin with. One may repeat the end of the other,
/// but they must not contradict each other.
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
        other => Err(format!("the {what} is {}: expected text or a list of messages", kind(other))),
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
#[path = "conversation_tests.rs"]
mod tests;
