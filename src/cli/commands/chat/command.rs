//! What a line of the user is: a question, or a command with its value. Nothing is done here, and no file is looked at.

use std::path::PathBuf;

use bipo::steering::magnitudes::{MagnitudeChoice, UsualMagnitudes};
use bipo::{Error, Result};

/// The commands, with what they take and what they do.
pub const COMMANDS: [(&str, &str); 8] = [
    ("/m NUMBER", "steer by this magnitude from now on; without a value, say which it is"),
    ("/vector FILE[:SCALE]", "steer by this vector from now on; none takes it away; without a value, say which it is"),
    (
        "/system TEXT",
        "put this system prompt in front of the conversation; none takes it away; without a value, say which it is",
    ),
    (
        "/compare [LIST]",
        "answer the last question at each of these magnitudes [default: -2,0,2, or 0,1 where the vector is taken out], and leave the \
         conversation as it is",
    ),
    ("/reset", "begin a new conversation; vector, magnitude and system prompt stay"),
    ("/save FILE", "write the conversation, and what steered each answer, to this file as JSON"),
    ("/help", "show this list"),
    ("/quit", "end; so does Ctrl-D"),
];

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatLine {
    /// An empty line.
    Empty,
    Question(String),
    Magnitude(Option<f32>),
    /// The text has the form FILE[:SCALE].
    Vector(Change),
    System(Change),
    Compare(MagnitudeChoice),
    Reset,
    Save(PathBuf),
    Help,
    Quit,
}

/// A command about something that may be there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Say what is set.
    Show,
    /// Take away what is set.
    Remove,
    /// Set this in place of what was set.
    To(String),
}

impl ChatLine {
    /// # Errors
    /// The line begins with `/` but is no command, or its value is none.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(Self::Empty);
        }
        if !line.starts_with('/') {
            return Ok(Self::Question(line.to_owned()));
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let alone = |command: Self| match value {
            "" => Ok(command),
            _ => Err(Error::Argument(format!("{name} {value}: {name} takes no value"))),
        };
        match name {
            "/m" => magnitude(value).map(Self::Magnitude),
            "/vector" => Ok(Self::Vector(Change::of(value))),
            "/system" => Ok(Self::System(Change::of(value))),
            "/compare" if value.is_empty() => Ok(Self::Compare(MagnitudeChoice::Usual(UsualMagnitudes::Texts))),
            "/compare" => Ok(Self::Compare(value.parse()?)),
            "/reset" => alone(Self::Reset),
            "/save" if value.is_empty() => Err(Error::Argument("/save: name the file, such as /save talk.json".into())),
            "/save" => Ok(Self::Save(value.into())),
            "/help" => alone(Self::Help),
            "/quit" => alone(Self::Quit),
            _ => {
                let names = COMMANDS.map(|(usage, _)| usage.split(' ').next().unwrap_or(usage));
                Err(Error::Argument(format!("{name}: no such command; there are {}", names.join(", "))))
            }
        }
    }
}

impl Change {
    fn of(value: &str) -> Self {
        match value {
            "" => Self::Show,
            "none" => Self::Remove,
            value => Self::To(value.to_owned()),
        }
    }
}

fn magnitude(value: &str) -> Result<Option<f32>> {
    if value.is_empty() {
        return Ok(None);
    }
    let number = value.parse::<f32>().ok().filter(|number| number.is_finite());
    let expected = || Error::Argument(format!("/m {value}: expected a number, such as /m 1.5 or /m -2"));
    number.map(Some).ok_or_else(expected)
}

/// The list of commands, a line each.
pub fn help() -> String {
    let width = COMMANDS.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0);
    COMMANDS.iter().map(|(usage, what)| format!("{usage:width$}  {what}\n")).collect()
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
