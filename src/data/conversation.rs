//! One pair from the cells of a row. A response is text, or a whole conversation that ends in it; text counts as a conversation
//! of one message, so that one rule serves both. What both conversations begin with is the prompt.

use serde_json::Value;

use super::message::Message;
use super::pair::Pair;
use super::turns::{ASSISTANT, SYSTEM, Turns, USER, history, is_open};

/// The cells that a prompt is made of; a null cell adds nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct PromptCells<'a> {
    pub system: &'a Value,
    pub history: &'a Value,
    pub prompt: &'a Value,
    /// What the prompt is about, put on a line behind it.
    pub input: &'a Value,
}

impl PromptCells<'_> {
    /// Joins the cells to one prompt.
    pub(super) fn prompt(&self) -> Result<RowPrompt, String> {
        Ok(RowPrompt { messages: self.messages()?, is_continued: is_open(self.prompt) })
    }

    fn messages(&self) -> Result<Vec<Message>, String> {
        let mut messages = history(self.history)?;
        messages.extend(Turns::of("question", self.prompt)?.into_messages(USER));
        if let Value::String(input) = self.input
            && !input.trim().is_empty()
            && let Some(question) = messages.last_mut()
        {
            question.content = match question.content.trim() {
                "" => input.clone(),
                _ => format!("{}\n{input}", question.content),
            };
        }
        let system = match Turns::of("system prompt", self.system)? {
            Turns::Text(text) if text.trim().is_empty() => Vec::new(),
            turns => turns.into_messages(SYSTEM),
        };
        let has_own = messages.first().is_some_and(Message::is_system);
        Ok(if has_own { messages } else { [system, messages].concat() })
    }
}

/// What a row's own columns say of the prompt.
#[derive(Debug, Clone)]
pub(super) struct RowPrompt {
    /// The conversation; none if the responses are whole conversations.
    pub messages: Vec<Message>,
    /// Whether the responses continue the prompt's text, so that a space in front of them only parts the two.
    pub is_continued: bool,
}

/// Makes the pair of a row, or returns the reason why the row gives no pair.
pub(super) fn pair(row: usize, given: &RowPrompt, chosen: &Value, rejected: &Value) -> Result<Pair, String> {
    let chosen = Turns::of("chosen response", chosen)?.into_messages(ASSISTANT);
    let rejected = Turns::of("rejected response", rejected)?.into_messages(ASSISTANT);

    // The last message is always the response, even if both conversations end with the same message.
    let shorter = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared = chosen.iter().zip(&rejected).take(shorter).take_while(|(chosen, rejected)| is_same(chosen, rejected)).count();
    let (shared, chosen) = chosen.split_at(shared);
    let chosen = response("chosen response", chosen)?;
    let rejected = response("rejected response", rejected.get(shared.len()..).unwrap_or_default())?;
    let prompt = join(&given.messages, shared)?;
    let [chosen, rejected] = [chosen, rejected].map(|text| match text.strip_prefix(' ') {
        Some(bare) if given.is_continued => bare.to_owned(),
        _ => text,
    });

    match prompt.last() {
        None => return Err("the question is missing".to_string()),
        Some(last) if last.is_system() => return Err("the question is missing".to_string()),
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

/// Whether two messages differ in white space at most.
fn is_same(a: &Message, b: &Message) -> bool {
    a.role == b.role && (a.content == b.content || a.content.split_whitespace().eq(b.content.split_whitespace()))
}

/// Joins the prompt of its own column with the messages that both responses begin with. One may be a part of the other: the
/// first turn or the end, with or without the system prompt. They must not contradict each other.
fn join(given: &[Message], shared: &[Message]) -> Result<Vec<Message>, String> {
    let (system, asked) = without_system(given);
    let (own_system, told) = without_system(shared);
    let is_at = |whole: &[Message], part: &[Message], at: usize| whole[at..].iter().zip(part).all(|(a, b)| is_same(a, b));
    let holds = |whole: &[Message], part: &[Message]| (0..=whole.len() - part.len()).any(|at| is_at(whole, part, at));
    let turns = match asked.len().checked_sub(told.len()) {
        // The conversations tell more, or the same.
        None | Some(0) if holds(told, asked) => told,
        Some(more) if is_at(asked, told, more) => asked,
        // The column goes on to the response.
        Some(_) if is_at(asked, told, 0) => told,
        _ => return Err("the prompt is not what the two conversations begin with".to_string()),
    };
    let system = if own_system.is_empty() { system } else { own_system };
    Ok([system, turns].concat())
}

fn without_system(messages: &[Message]) -> (&[Message], &[Message]) {
    messages.split_at(messages.iter().take_while(|message| message.is_system()).count())
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

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
