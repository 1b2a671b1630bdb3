//! The library's only error type. Each message is one line in lower case that names the file, the row or key, what was
//! expected, and what to do. The exit codes of the command line are derived here.
//!
//! Begin with [`Error`]. Which flag helps with an error is not said here, but by the program.

use std::path::PathBuf;

/// Result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, grouped by what the user can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument is wrong, or arguments do not fit together or the model.
    #[error("{0}")]
    Argument(String),
    /// A file was read, but its content is wrong.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the file, what was expected, and what to do.
        problem: String,
    },
    /// An input file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A download failed.
    #[error("{0}")]
    Hub(String),
    /// A request to a judge failed.
    #[error("the judge at {0}")]
    Judge(String),
    /// A model behind an endpoint gave no answer of use.
    #[error("the model at {0}")]
    Endpoint(String),
    /// A run needs more memory than is available.
    #[error("{0}")]
    Memory(String),
    /// A loss, gradient or activation is NaN or infinite.
    #[error("{0}")]
    NotFinite(String),
    /// A picture could not be drawn.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// The user interrupted the run, whose progress is saved.
    #[error("interrupted")]
    Interrupted,
    /// A job of several ranks ended, because one of them failed.
    #[error("{}", .0.line)]
    Ended(JobFailure),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(candle_core::Error),
}

/// Why a job of several ranks ended early, as its first rank says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// One line. It names the rank that failed, unless all ranks failed in the same way.
    pub line: String,
    /// Exit code of every rank.
    pub exit_code: u8,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        // CUDA and its matrix library report this under different names.
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name)) {
            let problem = "the device is out of memory: another program may use it";
            return Self::Memory(problem.into());
        }
        Self::Tensor(error)
    }
}

impl Error {
    /// Creates the error of a malformed input file.
    pub fn malformed(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), problem: one_line(&problem.into()) }
    }

    /// Creates the error of an input file that could not be read.
    pub fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    /// Creates the error of an output file that could not be written.
    pub fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Write { path: path.into(), source }
    }

    /// Creates the error of a wrong argument, whose message quotes the argument or a file.
    pub(crate) fn argument(problem: impl Into<String>) -> Self {
        Self::Argument(one_line(&problem.into()))
    }

    /// Returns the exit code of this error: 2 if arguments or input are wrong, 130 if the user interrupted, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Argument(_) | Self::Malformed { .. } | Self::Read { .. } => 2,
            Self::Interrupted => 130,
            Self::Ended(failure) => failure.exit_code,
            Self::Write { .. } | Self::Hub(_) | Self::Judge(_) | Self::Endpoint(_) | Self::Memory(_) => 1,
            Self::NotFinite(_) | Self::Draw(_) | Self::Tensor(_) => 1,
        }
    }
}

/// Largest number of characters of a message, since files can contain names of any length.
const LONGEST: usize = 1000;

/// Makes a text fit for a terminal: control characters are escaped, and the text is cut at [`LONGEST`] characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for (count, letter) in text.chars().enumerate() {
        match letter {
            _ if count == LONGEST => {
                line.push('…');
                break;
            }
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    line
}

/// Finds the name that a mistyped one is closest to by the Damerau-Levenshtein distance; returns `None` if no name is close.
pub(crate) fn closest_name<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&text.to_lowercase(), name);
    let (distance, name) = names.map(|name| (distance(name), name)).min()?;
    (distance <= name.len() / 2).then_some(name)
}

/// Returns the first line of candle's innermost error, without the paths and backtraces (with `RUST_BACKTRACE`) that wrap it.
pub(crate) fn reason(error: &candle_core::Error) -> String {
    innermost(error).to_string().lines().next().unwrap_or_default().to_owned()
}

fn innermost(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. }
        | candle_core::Error::WithPath { inner, .. }
        | candle_core::Error::Context { inner, .. } => innermost(inner),
        error => error,
    }
}

#[cfg(test)]
mod tests;
