//! What was said, by whom, and what steered it: what the model is asked next, and what `/save` writes.

use bipo::data::Message;
use bipo::steering::condition::Verdict;
use bipo::text::thought::ThoughtPiece;
use serde::Serialize;
use serde_json::Value;

/// A conversation, without its system prompt.
#[derive(Debug, Default)]
pub struct Conversation {
    said: Vec<Said>,
}

/// A message of the conversation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Said {
    pub role: &'static str,
    pub content: String,
    /// What the model wrote before its answer, between the tags of a thought.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thought: String,
    /// What steered an answer and why it ended; none of a question.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

/// How an answer came about.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    pub steering: Steered,
    /// `stop`, `length`, `not_finite`, or `interrupted` by the user.
    pub finish_reason: Value,
}

/// What steered an answer.
#[derive(Debug, Clone, Serialize)]
pub struct Steered {
    /// The vectors, FILE[:SCALE] each; none is the untouched model.
    pub vectors: Vec<String>,
    pub layers: Vec<usize>,
    pub magnitude: f32,
    /// Dose of the answer, ‖m·v‖/‖h‖.
    pub dose: f64,
    /// What `--when` said of the conversation up to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Verdict>,
}

impl Said {
    /// An answer without a word yet.
    pub fn unsaid() -> Self {
        Self { role: "assistant", ..Self::default() }
    }

    /// Whether it has no word yet.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.thought.is_empty()
    }

    pub fn take(&mut self, piece: ThoughtPiece) {
        match piece {
            ThoughtPiece::Thought(text) => self.thought += &text,
            ThoughtPiece::Answer(text) => self.content += &text,
        }
    }
}

impl Conversation {
    /// The messages with one more question, as the model gets them.
    pub fn with_question(&self, question: &str) -> Vec<Message> {
        asked(&self.said, question)
    }

    /// The last question and the messages up to it; none where nothing was asked yet.
    pub fn last_question(&self) -> Option<(&str, Vec<Message>)> {
        let last = self.said.iter().rposition(|said| said.role == "user")?;
        let question = &self.said[last].content;
        Some((question, asked(&self.said[..last], question)))
    }

    /// Takes a question and its answer.
    pub fn push(&mut self, question: String, answer: Said) {
        self.said.push(Said { role: "user", content: question, ..Said::default() });
        self.said.push(answer);
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Returns the conversation as `/save` writes it, the system prompt in front.
    pub fn to_json(&self, model: &str, system: Option<&str>) -> serde_json::Result<Vec<u8>> {
        let system = system.map(|system| Said { role: "system", content: system.to_owned(), ..Said::default() });
        let messages = system.iter().chain(&self.said).collect();
        let mut text = serde_json::to_vec_pretty(&SavedConversation { schema_version: 1, model, messages })?;
        text.push(b'\n');
        Ok(text)
    }
}

/// A file of `/save`.
#[derive(Serialize)]
struct SavedConversation<'a> {
    schema_version: u32,
    model: &'a str,
    messages: Vec<&'a Said>,
}

/// What was said, and a question behind it.
fn asked(before: &[Said], question: &str) -> Vec<Message> {
    let said = before.iter().map(|said| Message::new(said.role, &said.content));
    said.chain([Message::new("user", question)]).collect()
}
