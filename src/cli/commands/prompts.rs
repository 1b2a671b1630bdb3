//! Prompts that the user names: read, and found to fit the model before its weights are read.

use std::io::Read;
use std::path::Path;

use bipo::data::{Message, PromptWithAnswer, PublishedPart, Source, is_prompt_table, load_prompts, prompt_of_row, prompt_sets};
use bipo::generate::Prompt;
use bipo::hub::options::FetchOptions;
use bipo::machine::files::{LARGEST_TEXT, read_input, without_bom};
use bipo::steering::positions::Positions;
use bipo::text::tokens::EncodedPrompt;
use bipo::{Error, Result};
use serde_json::Value;

use crate::args::PromptArgs;
use crate::terminal::Log;
use bipo::session::Session;

/// What is answered.
pub struct UserPrompt {
    /// What is shown of it: the last turn.
    pub text: String,
    /// The conversation up to the answer.
    pub messages: Vec<Message>,
    /// The number that answers it, where the set says so.
    pub answer: Option<f64>,
}

impl UserPrompt {
    /// A conversation of one turn.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), messages: vec![Message::new("user", text)], answer: None }
    }

    /// A conversation, with the number that answers it.
    fn of((messages, answer): PromptWithAnswer) -> Self {
        Self { text: messages.last().map_or_else(String::new, |last| last.content.clone()), messages, answer }
    }

    /// A row of a file of conversations: an object with `messages`.
    fn of_row(row: &Value) -> std::result::Result<Self, String> {
        let messages = row.get("messages").and_then(Value::as_array).ok_or("expected an object with \"messages\"")?;
        let messages = messages.iter().enumerate();
        let message = |(at, value)| Message::from_json(value).map_err(|what| format!("messages[{at}]: {what}"));
        let messages: Vec<Message> = messages.map(message).collect::<std::result::Result<_, _>>()?;
        match messages.last() {
            Some(last) if last.role == "user" => Ok(Self { text: last.content.clone(), messages, answer: None }),
            _ => Err("its messages must end with one of the user, which is answered".into()),
        }
    }
}

/// The prompts given one by one, or the first `limit` of a set or a file (`-` is standard input). Those of a table are a column, those
/// of other files lines; JSON lines that are objects have a prompt in a column or a conversation in `messages`, and where a file
/// is named `.jsonl` and one line has a prompt, each must.
pub fn read_questions(asked: &PromptArgs, limit: Option<usize>, fetch: &FetchOptions) -> Result<Vec<UserPrompt>> {
    let Some(path) = &asked.prompts else { return Ok(asked.prompt.iter().map(|text| UserPrompt::new(text)).collect()) };
    let name = path.to_str().filter(|name| *name != "-" && !path.exists());
    if let Some(part) = name.map(PublishedPart::parse).transpose()?.flatten() {
        return of_set(&Source::Published(part), limit, fetch);
    }
    if let Some(name) = name.filter(|name| !name.contains(['/', '\\']) && path.extension().is_none()) {
        return Err(Error::Argument(format!(
            "no file or set of prompts {name:?}: expected a file with a prompt a line, - for standard input, or one of {}",
            prompt_sets().join(", ")
        )));
    }
    if is_prompt_table(path) {
        return of_set(&Source::File(path.clone()), limit, fetch);
    }
    let text = read_all(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(at, line)| (at + 1, line, serde_json::from_str(line).ok()));
    let rows: Vec<(usize, &str, Option<Value>)> = rows.take(limit.unwrap_or(usize::MAX)).collect();
    if rows.is_empty() {
        return Err(Error::malformed(path, "no prompt in it: expected one a line"));
    }
    let of_line = |line: usize, question: std::result::Result<UserPrompt, String>| {
        question.map_err(|problem| Error::malformed(path, format!("line {line}: {problem}")))
    };
    if rows.iter().any(|(_, _, row)| row.as_ref().is_some_and(|row| row.get("messages").is_some())) {
        let expected = || "not JSON: expected an object with \"messages\", as another line has".to_owned();
        let conversation = |row: &Option<Value>| row.as_ref().ok_or_else(expected).and_then(UserPrompt::of_row);
        return rows.iter().map(|(line, _, row)| of_line(*line, conversation(row))).collect();
    }
    let prompt = |row: &Option<Value>| row.as_ref().and_then(Value::as_object).and_then(prompt_of_row);
    let mut prompts = rows.iter().map(|(_, _, row)| prompt(row));
    // A line of text may look like an object, unless the file's name says that each is one.
    let are_rows = match path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson") {
        true => prompts.any(|prompt| prompt.is_some()),
        false => prompts.all(|prompt| prompt.is_some()),
    };
    if !are_rows {
        return Ok(rows.iter().map(|(_, text, _)| UserPrompt::new(text)).collect());
    }
    let expected = || Err("expected a JSON object with a prompt, as another line has; mend or remove the line".to_owned());
    let question = |row: &Option<Value>| prompt(row).unwrap_or_else(expected).map(UserPrompt::of);
    rows.iter().map(|(line, _, row)| of_line(*line, question(row))).collect()
}

/// The prompts of a set, with the numbers that answer them.
fn of_set(source: &Source, limit: Option<usize>, fetch: &FetchOptions) -> Result<Vec<UserPrompt>> {
    let set = load_prompts(source, limit, fetch)?;
    Ok(set.prompts.into_iter().zip(set.answers).map(UserPrompt::of).collect())
}

/// The text of a file, or of standard input (`-`).
fn read_all(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes),
        _ => {
            bytes = read_input(path, LARGEST_TEXT)?;
            Ok(0)
        }
    };
    read.map_err(|source| Error::read(path, source))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::malformed(path, "not UTF-8 text: expected one prompt a line"))?;
    Ok(without_bom(&text).to_owned())
}

/// Encodes prompts, and refuses one that fills the context, or that a vector cannot reach, before the weights are read.
pub fn check_questions(opened: &Session, questions: &[UserPrompt], positions: Positions) -> Result<Vec<EncodedPrompt>> {
    let context = opened.config.max_position_embeddings;
    let check = |question: &UserPrompt| {
        let encoded = opened.encoder.encode_prompt(&question.messages)?;
        let tokens = encoded.ids.len();
        if tokens >= context {
            let problem = format!("the prompt has {tokens} tokens, but the model's context is {context}: shorten it");
            return Err(Error::Argument(problem));
        }
        if !Prompt::from(&encoded).is_steered(positions) {
            let problem = "no token of the prompt or after it would be steered: choose other --positions or --spans";
            return Err(Error::Argument(problem.into()));
        }
        Ok(encoded)
    };
    questions.iter().map(check).collect()
}

/// Says what the model sees of each prompt: the rendered text with its special tokens, and the token ids.
pub fn show_prompts(opened: &Session, prompts: &[EncodedPrompt], log: Log) -> Result<()> {
    for EncodedPrompt { ids, .. } in prompts {
        let text = opened.encoder.decode(ids, false)?;
        let listed: Vec<String> = ids.iter().map(u32::to_string).collect();
        log.info(format!("prompt of {} tokens: {text:?}\n  ids {}", ids.len(), listed.join(" ")));
    }
    Ok(())
}
