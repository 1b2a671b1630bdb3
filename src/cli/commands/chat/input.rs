//! Where the lines of the user come from: a terminal, where they can be edited and recalled, or a file or pipe, line by line.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use bipo::hub::cache_dir::cache_dir;
use bipo::{Error, Result};
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::terminal::Log;

/// Lines that the history holds.
const HISTORY: usize = 1000;

/// Name of the history's file in bipo's cache directory.
const HISTORY_FILE: &str = "chat_history";

type Editor = rustyline::Editor<(), FileHistory>;

/// The source of lines.
pub enum LineSource {
    Terminal {
        editor: Box<Editor>,
        /// File of the history; none where there is no cache directory.
        file: Option<PathBuf>,
    },
    /// Standard input as it comes.
    Stream,
}

/// What the user did.
pub enum UserInput {
    /// Wrote a line, or thought better of it, which leaves an empty one.
    Line(String),
    End,
}

impl LineSource {
    /// Lines of the terminal, where standard input and output are one, else of standard input.
    pub fn open(log: Log) -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Stream);
        }
        let config = Config::builder().max_history_size(HISTORY)?.auto_add_history(true).build();
        let mut editor = Box::new(Editor::with_config(config)?);
        let file = cache_dir().ok().map(|dir| dir.join(HISTORY_FILE));
        if let Some(Err(error)) = file.as_ref().filter(|file| file.exists()).map(|file| editor.load_history(file)) {
            log.detail(format!("the history of questions was not read: {error}"));
        }
        Ok(Self::Terminal { editor, file })
    }

    /// Whether the user sits at a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Waits for the next line. Only a terminal shows `prompt`.
    ///
    /// # Errors
    /// A line is not text, which is the library's error; any other one is the end of all lines.
    pub fn next(&mut self, prompt: &str) -> anyhow::Result<UserInput> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(UserInput::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(UserInput::Line(String::new())),
                Err(ReadlineError::Eof) => Ok(UserInput::End),
                Err(error) => Err(error.into()),
            },
            Self::Stream => {
                let mut line = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut line);
                match read? {
                    0 => Ok(UserInput::End),
                    _ => Ok(UserInput::Line(text_of(line)?)),
                }
            }
        }
    }

    /// Keeps the history for the next conversation.
    pub fn close(self, log: Log) {
        let Self::Terminal { mut editor, file: Some(file) } = self else { return };
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| editor.append_history(&file)) {
            log.detail(format!("the history of questions was not kept: {error}"));
        }
    }
}

/// Puts the terminal back as it is now when it is called: a signal may end the process while a line is edited.
pub fn restorer() -> impl Fn() + Send + 'static {
    #[cfg(unix)]
    let mode = rustix::termios::tcgetattr(io::stdin()).ok();
    move || {
        #[cfg(unix)]
        if let Some(mode) = &mode {
            // Nothing can be done about a terminal that has gone.
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, mode);
        }
    }
}

fn text_of(line: Vec<u8>) -> Result<String> {
    String::from_utf8(line).map_err(|_| Error::Argument("a line of standard input is not UTF-8 text".into()))
}
