//! The Jinja environment that Hugging Face chat templates expect: trimmed blocks, Python's text and string methods, `raise_exception`,
//! `strftime_now`, `tojson` without HTML escapes, loop controls, `{% generation %}`. It limits a template's instructions and
//! output.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::Write as _;
use std::io;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};
use serde::Serialize;

use super::bounded::RenderFailure;
use super::{limits, python};
use crate::machine::bytes::{Bytes, RENDERING_BYTES, address_space_limit};

/// Largest number of instructions of a rendering; a conversation of a thousand turns takes a few hundred thousand.
const MAX_INSTRUCTIONS: u64 = 2_000_000;
/// Largest size of a prompt in bytes, far more than any model's context.
const MAX_PROMPT_BYTES: usize = 16 << 20;

/// Creates the environment, without any template.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(write_as_python);
    environment.set_unknown_method_callback(python_method);
    environment.set_fuel(Some(MAX_INSTRUCTIONS));
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.add_filter(
        "string",
        |value: &Value| if value.as_str().is_some() { value.clone() } else { python::text(value).into() },
    );
    environment.add_test("iterable", |value: &Value| python::is_iterable(value));
    // Without debug information an error keeps no values, so that they are dropped on the thread with the large stack.
    environment.set_debug(false);
    limits::guard(&mut environment);
    environment
}

/// Returns the source with line feeds as the only ends of lines, as Jinja in Python reads it.
pub fn with_line_feeds(source: &str) -> Cow<'_, str> {
    if source.contains('\r') { source.replace("\r\n", "\n").replace('\r', "\n").into() } else { source.into() }
}

/// Replaces `{% generation %}` … `{% endgeneration %}`, which only mark the assistant's words, by `{% if true %}` … `{% endif
/// %}`. White space control and line numbers stay.
pub fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        result.push_str(before);
        let word_at = tag.find(|c: char| c != '-' && c != '+' && !c.is_whitespace()).unwrap_or(tag.len());
        let (control, body) = tag.split_at(word_at);
        let word_end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
        let (word, after) = body.split_at(word_end);
        let closes = after.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
        result.push_str(control);
        result.push_str(match word {
            "generation" if closes => "if true",
            "endgeneration" if closes => "endif",
            other => other,
        });
        rest = after;
    }
    result + rest
}

/// Returns the message of `raise_exception`, if the template called it.
pub fn raised(error: &Error) -> Option<&str> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Some(message);
        }
        source = cause.source();
    }
    None
}

/// Describes an error on one line, with its line in the template.
pub fn describe(error: &Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::OutOfFuel => format!("still running after {MAX_INSTRUCTIONS} instructions"),
        ErrorKind::WriteFailure => format!("writes more than {} MiB", MAX_PROMPT_BYTES >> 20),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    format!("{line}{problem}")
}

/// Output of a template, up to [`MAX_PROMPT_BYTES`].
#[derive(Default)]
pub struct LimitedText(Vec<u8>);

impl LimitedText {
    /// Returns the text. The engine only writes UTF-8.
    pub fn into_string(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl io::Write for LimitedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Converts a failure to an error of the engine.
pub fn failed(failure: RenderFailure) -> Error {
    let problem = match failure {
        RenderFailure::Exhausted(problem) => problem,
        RenderFailure::Panicked => "an expression that the engine cannot evaluate".to_owned(),
        RenderFailure::NoThread(reason) => {
            return Error::new(ErrorKind::InvalidOperation, "no thread").with_source(NoThread(reason));
        }
    };
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// The error of a rendering that could not begin, with the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("no thread: {0}")]
struct NoThread(String);

/// Returns the error of a template that is no refusal of its own.
pub fn broken(name: &str, error: &Error) -> crate::Error {
    if let Some(NoThread(reason)) = error.source().and_then(|source| source.downcast_ref()) {
        return no_thread(reason, address_space_limit());
    }
    crate::Error::malformed(format!("chat template {name}"), describe(error))
}

/// The error of a thread that the system does not start. The system gives the same reason for a lack of addresses and for a limit
/// on the number of processes.
pub fn no_thread(reason: &str, addresses: Option<Bytes>) -> crate::Error {
    crate::Error::Memory(match addresses {
        Some(limit) => format!(
            "not enough memory: a chat template needs a thread and {} MiB of addresses for a while, and the limit on addresses is \
             {limit}: {reason}: use fewer threads, or raise the limit (ulimit -v)",
            RENDERING_BYTES >> 20
        ),
        None => format!(
            "a chat template needs a thread, and the system starts none: {reason}: end other processes, or raise the limit on \
             their number (ulimit -u)"
        ),
    })
}

/// Calls a Python method of a string, list or dict.
fn python_method(state: &State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    // The crate's `count` never ends for the empty text; Python finds the empty text around every character.
    if let ("count", Some(text), [sought]) = (method, value.as_str(), arguments)
        && sought.as_str() == Some("")
    {
        return Ok(Value::from(text.chars().count() + 1));
    }
    if let ("format", Some(text)) = (method, value.as_str()) {
        limits::check_format(text)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Source of an error of `raise_exception`, by which it is told apart from other errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    // For a format that chrono does not know, `write!` returns an error, but `to_string` would panic.
    write!(text, "{}", chrono::Local::now().format(format))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("strftime_now cannot format `{format}`")))?;
    Ok(text)
}

/// Writes constants, numbers, lists and dicts as Python does, and everything else as minijinja does.
fn write_as_python(out: &mut Output, state: &State, value: &Value) -> Result<(), Error> {
    use ValueKind::{Bool, Iterable, Map, None, Number, Seq};
    match value.kind() {
        None | Bool | Number | Seq | Iterable | Map => Ok(python::write(out, value)?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Returns what Python's `json.dumps(value, ensure_ascii=False, indent=indent)` returns.
fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent = kwargs.get::<Option<usize>>("indent")?.map(|width| " ".repeat(width.min(16)));
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        Some(indent) => {
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, OneLine)),
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let json = String::from_utf8_lossy(&json).into_owned();
    Ok(if ascii { escape_non_ascii(&json) } else { json })
}

fn escape_non_ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\u{unit:04x}")),
        }
    }
    escaped
}

/// A JSON formatter with Python's default separators: a space after each comma and colon.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
