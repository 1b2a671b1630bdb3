//! From a cell to the turns of a conversation. A cell is text, a whole dialogue in one text (`\n\nHuman: …\n\nAssistant: …`), one
//! message, or a list of messages. A message names its role and its content by the keys of any common format, and its content
//! can be a list of parts. What a pair takes from the turns is decided in `conversation`.

use serde_json::{Map, Value};

use super::message::Message;
use super::table::kind;

pub(super) const SYSTEM: &str = "system";
pub(super) const USER: &str = "user";
pub(super) const ASSISTANT: &str = "assistant";

/// Keys of a message's role and of its content; the first that a message has is used.
const ROLE: [&str; 4] = ["role", "from", "speaker", "author"];
const CONTENT: [&str; 4] = ["content", "value", "text", "message"];

/// Keys under which an object holds a list of messages.
const MESSAGES: [&str; 3] = ["messages", "conversation", "conversations"];

/// Keys under which an object that is no message holds a text.
const TEXT: [&str; 5] = ["text", "content", "value", "answer", "full_text"];

/// Names of roles in lower case, and the role that each stands for.
const ROLES: [(&str, &str); 11] = [
    (SYSTEM, SYSTEM),
    ("developer", SYSTEM),
    (USER, USER),
    ("human", USER),
    ("prompter", USER),
    (ASSISTANT, ASSISTANT),
    ("gpt", ASSISTANT),
    ("chatgpt", ASSISTANT),
    ("model", ASSISTANT),
    ("bot", ASSISTANT),
    ("chatbot", ASSISTANT),
];

/// What begins a turn in a dialogue that is one text.
const MARKS: [(&str, &str); 2] = [("Human:", USER), ("Assistant:", ASSISTANT)];

/// What a cell holds.
pub(super) enum Turns {
    /// Plain text, which is one message of whatever role its column has.
    Text(String),
    /// Messages with roles of their own; none if the cell is empty.
    Messages(Vec<Message>),
}

impl Turns {
    /// Reads a cell; `what` names it in the reason why it cannot be read.
    pub(super) fn of(what: &str, cell: &Value) -> Result<Self, String> {
        match cell {
            Value::Null => Ok(Self::Messages(Vec::new())),
            Value::String(text) => match encoded(text) {
                Some(list) => Self::of(what, &list),
                None => Ok(dialogue(text).map_or_else(|| Self::Text(text.clone()), Self::Messages)),
            },
            Value::Array(list) => match list.as_slice() {
                [one @ (Value::String(_) | Value::Array(_))] => Self::of(what, one),
                list => {
                    let messages = list.iter().enumerate().map(|(index, value)| message(what, index, value));
                    messages.collect::<Result<_, _>>().map(Self::Messages)
                }
            },
            Value::Object(_) if is_message(cell) => Ok(Self::Messages(vec![message(what, 0, cell)?])),
            Value::Object(object) => match first(object, &MESSAGES).or_else(|| first(object, &TEXT)) {
                Some(inner) => Self::of(what, inner),
                None => Err(format!("the {what} is one object without {}: expected text or a list of messages", MESSAGES[0])),
            },
            other => Err(format!("the {what} is {}: expected text or a list of messages", kind(other))),
        }
    }

    /// Returns the messages; plain text is one of `role`.
    pub(super) fn into_messages(self, role: &str) -> Vec<Message> {
        match self {
            Self::Text(content) => vec![Message::new(role, content)],
            Self::Messages(messages) => messages,
        }
    }
}

/// Whether a value is a message: it has a role and a content.
pub(super) fn is_message(value: &Value) -> bool {
    let Value::Object(object) = value else { return false };
    first(object, &ROLE).is_some_and(Value::is_string) && first(object, &CONTENT).is_some()
}

/// Whether a cell holds a conversation, so that it can stand without a prompt.
pub(super) fn is_conversation(cell: &Value) -> bool {
    match cell {
        Value::String(text) => dialogue(text).is_some() || encoded(text).is_some(),
        Value::Array(list) => list.iter().all(|value| value.is_object() || value.is_array()),
        Value::Object(object) => is_message(cell) || first(object, &MESSAGES).is_some(),
        _ => false,
    }
}

/// Returns the list of messages that a text is the JSON of, as cells of CSV files have it.
fn encoded(text: &str) -> Option<Value> {
    let text = text.trim();
    let value: Value =
        if text.starts_with("[{") && text.ends_with("}]") { serde_json::from_str(text).ok()? } else { return None };
    value.as_array().is_some_and(|list| list.iter().all(is_message)).then_some(value)
}

/// Whether a text is a dialogue that ends where the assistant's answer goes.
pub(super) fn is_open(cell: &Value) -> bool {
    cell.as_str().is_some_and(|text| text.trim_end().ends_with("\n\nAssistant:") && dialogue(text).is_some())
}

/// Whether a cell holds a conversation with the user's turns.
pub(super) fn is_whole_conversation(cell: &Value) -> bool {
    let turns = Turns::of("cell", cell).map(|turns| turns.into_messages(ASSISTANT));
    turns.is_ok_and(|turns| turns.iter().any(|message| message.role == USER))
}

/// Returns the earlier turns of a cell that lists them as couples of a question and its answer, or as messages.
pub(super) fn history(cell: &Value) -> Result<Vec<Message>, String> {
    let couples = cell.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_array));
    let Some(couples) = couples else { return Turns::of("history", cell).map(|turns| turns.into_messages(USER)) };
    let roles = [USER, ASSISTANT].into_iter().cycle();
    let turns = couples.iter().flat_map(|couple| couple.as_array().into_iter().flatten()).zip(roles);
    let turn = |(text, role): (&Value, &str)| {
        let text = text.as_str().ok_or_else(|| format!("the history holds {}: expected couples of texts", kind(text)))?;
        Ok(Message::new(role, text))
    };
    turns.map(turn).collect()
}

/// Splits a text at its turns. Returns `None` unless the text begins with a turn of the human. The last turn is left out if it
/// is an assistant's without text, where the answer goes.
fn dialogue(text: &str) -> Option<Vec<Message>> {
    let (mut role, mut rest) = turn(text.trim_start()).filter(|(role, _)| *role == USER)?;
    let mut messages = Vec::new();
    loop {
        let next = rest.match_indices("\n\n").find_map(|(at, gap)| Some((at, turn(&rest[at + gap.len()..])?)));
        let content = next.map_or(rest, |(at, _)| &rest[..at]);
        messages.push(Message::new(role, content.strip_prefix(' ').unwrap_or(content)));
        let Some((_, after)) = next else { break };
        (role, rest) = after;
    }
    let is_open = |last: &Message| last.role == ASSISTANT && last.content.trim().is_empty();
    messages.pop_if(|last| is_open(last));
    // A text with a single turn, such as "Human: hello", may be anything unless the empty line stands in front.
    (text.starts_with("\n\n") || text.contains("\n\nAssistant:")).then_some(messages)
}

fn turn(text: &str) -> Option<(&'static str, &str)> {
    MARKS.into_iter().find_map(|(mark, role)| Some((role, text.strip_prefix(mark)?)))
}

fn message(what: &str, index: usize, value: &Value) -> Result<Message, String> {
    let lacks = |key: &str| format!("message {index} of the {what} has no text in {key}: expected role and content");
    let field = |keys: &[&str]| value.as_object().and_then(|object| first(object, keys));
    let name = field(&ROLE).and_then(Value::as_str).ok_or_else(|| lacks("role"))?;
    let content = field(&CONTENT).and_then(text_of).ok_or_else(|| lacks("content"))?;
    let role = ROLES.into_iter().find(|(known, _)| name.trim().eq_ignore_ascii_case(known));
    let (_, role) =
        role.ok_or_else(|| format!("message {index} of the {what} has role {name}: expected {SYSTEM}, {USER} or {ASSISTANT}"))?;
    Ok(Message::new(role, content))
}

/// Returns the text of a content: itself, or its parts one behind the other.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(part) => part.get("text")?.as_str().map(str::to_owned),
        _ => None,
    }
}

fn first<'a>(object: &'a Map<String, Value>, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().find_map(|key| object.get(*key)).filter(|value| !value.is_null())
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
