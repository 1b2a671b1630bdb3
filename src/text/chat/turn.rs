//! What a template does with an answer, a system prompt and a thought, found by rendering short conversations: the text that it
//! writes around the assistant's words, whether it drops a system prompt, and whether a prompt ends inside `<think>`.

use serde_json::Value;

use super::{ChatTemplate, Until};
use crate::Result;
use crate::data::Message;

/// The text that a template writes around the assistant's words, the same in every conversation that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssistantTurn {
    /// Text between the prompt and the words.
    pub before: String,
    /// Text behind the words.
    pub after: String,
    /// White space around the words that is left out.
    pub trim: Trim,
}

/// White space around a text that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// No white space is left out.
    Nothing,
    /// White space at the beginning.
    Start,
    /// White space at the end.
    End,
    /// White space at both ends.
    Both,
}

impl Trim {
    /// Returns the text without that white space.
    pub fn of(self, text: &str) -> &str {
        match self {
            Self::Nothing => text,
            Self::Start => text.trim_start(),
            Self::End => text.trim_end(),
            Self::Both => text.trim(),
        }
    }
}

/// An answer that no template writes by itself.
const ANSWER: &str = "\u{f0000}answer\u{f0001}";

/// The tags around a thought.
pub const THINK: [&str; 2] = ["<think>", "</think>"];

/// The variables that switch thinking off: most templates read the first, Granite's and DeepSeek's the second.
const THINKING: [&str; 2] = ["enable_thinking", "thinking"];

impl ChatTemplate {
    /// Returns what the template writes around the assistant's words; `None` where a question is not the beginning of the whole
    /// conversation, where the template puts a thought in, or where conversations differ.
    pub(crate) fn assistant_turn(&self) -> Option<AssistantTurn> {
        let question = [Message::new("user", "Hi")];
        let (before, after) = self.around(&question)?;
        if THINK.iter().any(|tag| before.contains(tag)) {
            return None;
        }
        let turns = [("user", "How?"), ("assistant", "So."), ("user", "And why?\nSay it.")];
        let with_system = [("system", "Be brief."), ("user", "How?")];
        for prompt in [&turns[..], &with_system] {
            let prompt: Vec<_> = prompt.iter().map(|(role, content)| Message::new(*role, *content)).collect();
            // A template may refuse a system prompt, or put it into the last turn alone.
            if self.around(&prompt).is_some_and(|around| around != (before.clone(), after.clone())) {
                return None;
            }
        }
        let spaced = format!("  {ANSWER}\n ");
        let written = self.written(&question, &spaced)?;
        let trim = [Trim::Nothing, Trim::Start, Trim::End, Trim::Both]
            .into_iter()
            .find(|trim| written == format!("{before}{}{after}", trim.of(&spaced)))?;
        Some(AssistantTurn { before, after, trim })
    }

    /// Returns what the template writes behind the assistant's words, whatever it writes before them.
    pub(crate) fn end_of_turn(&self) -> Option<String> {
        let conversation = [Message::new("user", "Hi"), Message::new("assistant", ANSWER)];
        let text = self.try_render(&conversation, Until::LastMessage).ok()?;
        text.rsplit_once(ANSWER).map(|(_, after)| after.to_owned())
    }

    /// Whether the conversation begins with a system prompt that changes nothing of what the template writes.
    ///
    /// # Errors
    /// The template refuses the conversation.
    pub fn drops_system(&self, messages: &[Message]) -> Result<bool> {
        match messages {
            [first, rest @ ..] if first.is_system() => {
                let with_system = self.render(messages)?;
                Ok(self.try_render(rest, Until::Answer).is_ok_and(|without| without == with_system))
            }
            _ => Ok(false),
        }
    }

    /// Switches thinking off where prompts end inside a thought, by the variable that the template reads for it, unless such a
    /// variable is set. Returns whether prompts still end inside a thought.
    pub(crate) fn close_thought(&mut self) -> bool {
        let Some(true) = self.ends_in_thought() else { return false };
        if THINKING.iter().any(|name| self.variables.contains_key(*name)) {
            return true;
        }
        for name in THINKING {
            self.variables.insert(name.to_owned(), Value::Bool(false));
            if self.ends_in_thought() == Some(false) {
                return false;
            }
            self.variables.remove(name);
        }
        true
    }

    /// Whether a prompt ends inside a thought; `None` where the template refuses the prompt.
    fn ends_in_thought(&self) -> Option<bool> {
        let prompt = self.try_render(&[Message::new("user", "Hi")], Until::Answer).ok()?;
        Some(leaves_thought_open(&prompt))
    }

    /// Whether the prompt of a conversation ends inside a thought, which an answer then goes on with.
    ///
    /// # Errors
    /// The template refuses the conversation.
    pub fn opens_thought(&self, messages: &[Message]) -> Result<bool> {
        let prompt = self.render(messages)?;
        // What is said of thoughts in the messages themselves opens none.
        let said = messages.last().map_or("", |message| message.content.trim());
        let behind = prompt.rfind(said).filter(|_| !said.is_empty()).map_or(0, |at| at + said.len());
        Ok(leaves_thought_open(&prompt[behind..]))
    }

    /// The text around [`ANSWER`] behind a prompt.
    fn around(&self, prompt: &[Message]) -> Option<(String, String)> {
        let written = self.written(prompt, ANSWER)?;
        let (before, after) = written.split_once(ANSWER)?;
        Some((before.to_owned(), after.to_owned()))
    }

    /// What the template writes behind a prompt for an answer; `None` where the prompt does not begin the conversation.
    fn written(&self, prompt: &[Message], answer: &str) -> Option<String> {
        let conversation: Vec<_> = prompt.iter().cloned().chain([Message::new("assistant", answer)]).collect();
        let whole = self.try_render(&conversation, Until::LastMessage).ok()?;
        let prompt = self.try_render(prompt, Until::Answer).ok()?;
        whole.strip_prefix(&prompt).map(str::to_owned)
    }
}

fn leaves_thought_open(text: &str) -> bool {
    let [open, close] = THINK;
    text.rfind(open).is_some_and(|at| !text[at..].contains(close))
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
