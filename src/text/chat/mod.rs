//! Chat templates: a conversation becomes the text of a prompt, by the tokenizer's own Jinja template, a built-in one or a
//! file. This room makes no token ids; `tokens` does.
//!
//! Begin with [`ChatTemplate::render`].

mod bounded;
mod builtin;
mod concat;
mod jinja;
mod limits;
mod python;
mod spans;
mod turn;

pub use spans::Content;
pub use turn::THINK;
pub(crate) use turn::{AssistantTurn, Trim};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bounded::RenderFailure;
use minijinja::value::merge_maps;
use minijinja::{Environment, context};
use serde_json::Value;

use crate::data::Message;
use crate::machine::files::{LARGEST_TEXT, read_input, without_bom};
use crate::{Error, Result};

/// A compiled template, and the special tokens and variables that it can refer to.
#[derive(Debug)]
pub struct ChatTemplate {
    name: String,
    environment: Arc<Environment<'static>>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    variables: BTreeMap<String, Value>,
    /// Why a rendering was given up. There is no other one then, since the thread of the first may still be taking memory.
    given_up: OnceLock<RenderFailure>,
}

/// What a rendering ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The place where the assistant's answer begins.
    Answer,
    /// The end of the last message.
    LastMessage,
}

impl ChatTemplate {
    /// Compiles the built-in template of this name. `bos_token` and `eos_token` are the tokenizer's; a token that is `None` is
    /// not written.
    pub(crate) fn builtin(name: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let Some(source) = builtin::source(name) else {
            let names = Self::builtin_names().collect::<Vec<_>>().join(", ");
            return Err(Error::Argument(format!("unknown chat template `{name}`: built in are {names}; or name a Jinja file")));
        };
        Self::from_source(name, source, bos_token, eos_token)
    }

    /// Returns the names of the built-in templates.
    pub(crate) fn builtin_names() -> impl Iterator<Item = &'static str> {
        builtin::TEMPLATES.iter().map(|(name, _)| *name)
    }

    /// Compiles a template from its Jinja text. `name` is its name in errors.
    ///
    /// # Errors
    /// The text is no Jinja template.
    pub fn from_source(name: &str, source: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let mut environment = jinja::environment();
        let source = jinja::without_generation_tags(&jinja::with_line_feeds(source));
        let (key, source) = (name.to_owned(), concat::with_python_text(&source).into_owned());
        let environment = bounded::run(move || environment.add_template_owned(key, source).map(|()| environment))
            .unwrap_or_else(|failure| Err(jinja::failed(failure)))
            .map_err(|error| jinja::broken(name, &error))?;
        Ok(Self {
            name: name.to_owned(),
            environment: Arc::new(environment),
            bos_token: bos_token.map(str::to_owned),
            eos_token: eos_token.map(str::to_owned),
            variables: BTreeMap::new(),
            given_up: OnceLock::new(),
        })
    }

    /// Passes these variables to the template from now on, as `chat_template_kwargs` does elsewhere.
    pub(crate) fn set_variables(&mut self, variables: impl IntoIterator<Item = (String, Value)>) {
        self.variables.extend(variables);
    }

    /// Compiles a template from a Jinja file, whose name without its folders is that of the template: clients of a server see it.
    pub(crate) fn from_file(path: &Path, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let bytes = read_input(path, LARGEST_TEXT)?;
        let source = String::from_utf8(bytes).map_err(|_| {
            Error::malformed(path, "not UTF-8 text: a chat template is a Jinja file, or one of the built-in names")
        })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::from_source(&name, without_bom(&source), bos_token, eos_token)
    }

    /// Returns the name of the template in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Renders the text of the prompt, up to the place where the assistant's answer begins.
    ///
    /// # Errors
    /// The template refuses the conversation, fails, or takes too long.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let error = match self.try_render(messages, Until::Answer) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let Some(refusal) = jinja::raised(&error) else {
            return Err(jinja::broken(&self.name, &error));
        };
        let refuses_system = match messages {
            [first, rest @ ..] => first.is_system() && self.try_render(rest, Until::Answer).is_ok(),
            [] => false,
        };
        Err(Error::argument(if refuses_system {
            format!("chat template {} takes no system prompt (it says: {refusal})", self.name)
        } else {
            format!("chat template {} refuses the conversation: {refusal}", self.name)
        }))
    }

    /// Renders like [`ChatTemplate::render`], and also returns the byte range of each message's content, in the order of the
    /// text. There are no ranges if no message is of `role`.
    ///
    /// # Errors
    /// `render` fails; or the template changes a content by more than the white space at its ends, leaves out a message of
    /// `role`, or writes text around the contents that depends on them.
    pub fn render_with_contents(&self, messages: &[Message], role: &str) -> Result<(String, Vec<Content>)> {
        let text = self.render(messages)?;
        if messages.iter().all(|message| message.role != role) {
            return Ok((text, Vec::new()));
        }
        let located = match self.try_render(&spans::marked(messages), Until::Answer) {
            Ok(marked) => spans::locate(&text, &marked, messages),
            Err(_) => None,
        };
        let Some(contents) = located else {
            return Err(Error::Argument(format!(
                "chat template {} does not write the messages' texts as they are, so those of the {role} cannot be told apart",
                self.name
            )));
        };
        let is_missing = |index: usize| !contents.iter().any(|content| content.message == index);
        match (0..messages.len()).find(|index| messages[*index].role == role && is_missing(*index)) {
            Some(index) => {
                Err(Error::Argument(format!("chat template {} leaves message {index} of the {role} out", self.name)))
            }
            None => Ok((text, contents)),
        }
    }

    fn try_render(&self, messages: &[Message], until: Until) -> Result<String, minijinja::Error> {
        if let Some(failure) = self.given_up.get() {
            return Err(jinja::failed(failure.clone()));
        }
        // Of two with the same name, the last counts.
        let context = merge_maps([
            self.special_tokens(),
            context! { tools => (), documents => () },
            minijinja::Value::from_serialize(&self.variables),
            context! { messages => messages, add_generation_prompt => until == Until::Answer },
        ]);
        let (name, environment) = (self.name.clone(), Arc::clone(&self.environment));
        let render = move || -> Result<String, minijinja::Error> {
            let mut prompt = jinja::LimitedText::default();
            environment.get_template(&name)?.render_captured_to(context, &mut prompt)?;
            Ok(prompt.into_string())
        };
        bounded::run(render).unwrap_or_else(|failure| {
            if matches!(failure, RenderFailure::Exhausted(_)) {
                self.given_up.get_or_init(|| failure.clone());
            }
            Err(jinja::failed(failure))
        })
    }

    /// Returns the special tokens that exist. The others must be undefined, since templates test `bos_token is defined`.
    fn special_tokens(&self) -> minijinja::Value {
        let tokens = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        tokens.into_iter().filter_map(|(name, token)| Some((name, token.as_deref()?))).collect()
    }
}

/// Returns the chat template in a `tokenizer_config.json`: a text, or the template called `default` in a list of named
/// templates.
pub fn chat_template_of(tokenizer_config: &Value) -> Option<String> {
    match tokenizer_config.get("chat_template")? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
            default.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
