//! One turn of a conversation, as data sets have it and chat templates render it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Text of the message.
    pub content: String,
}

impl Message {
    /// Creates a message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// Reads an object with `role` and `content`, a text or a list of parts of type text, as OpenAI's interface has them.
    ///
    /// # Errors
    /// The value is no such object; the error is worded as the end of a message.
    pub fn from_json(value: &Value) -> Result<Self, &'static str> {
        let role = value.get("role").and_then(Value::as_str).ok_or("expected an object with role and content")?;
        // OpenAI's newer name of the system role.
        let role = if role == "developer" { "system" } else { role };
        let content = match value.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
                let texts: Option<Vec<String>> = parts.iter().map(text).collect();
                texts.ok_or("only parts of type text are understood")?.concat()
            }
            Some(Value::Null) | None if role == "assistant" => String::new(),
            _ => return Err("content must be a text, or a list of parts of type text"),
        };
        Ok(Self::new(role, content))
    }

    /// Whether this is the system prompt.
    pub fn is_system(&self) -> bool {
        self.role == "system"
    }
}
