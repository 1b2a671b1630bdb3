//! The library's one error type. Each message is one line in lower case that names the file, the row or key, what was
//! expected, and what to do. The exit codes of the command line are derived here.

use std::path::PathBuf;

/// Result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument is wrong, or arguments do not fit together or the model.
    #[error("{0}")]
    Argument(String),
    /// A file was read, but its content is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, what was expected, what to do.
        problem: String,
    },
    /// An input file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A download failed.
    #[error("{0}")]
    Hub(String),
    /// A judge could not be asked.
    #[error("the judge at {0}")]
    Judge(String),
    /// A run takes more memory than there is.
    #[error("{0}")]
    Memory(String),
    /// A loss, gradient or activation is NaN or infinite.
    #[error("{0}")]
    NotFinite(String),
    /// A picture could not be drawn.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// The user interrupted; what was reached is saved.
    #[error("interrupted")]
    Interrupted,
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        // As CUDA and its matrix library say it.
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name)) {
            let problem = "the device is out of memory: another program may use it";
            return Self::Memory(problem.into());
        }
        Self::Tensor(error)
    }
}

impl Error {
    /// A malformed input file.
    pub fn malformed(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), problem: one_line(&problem.into()) }
    }

    /// An input file that could not be read.
    pub fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    /// An output file that could not be written.
    pub fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Write { path: path.into(), source }
    }

    /// A wrong argument, in words that quote it or a file.
    pub(crate) fn argument(problem: impl Into<String>) -> Self {
        Self::Argument(one_line(&problem.into()))
    }

    /// The exit code for this error: 2 where the arguments or the input are wrong, 130 when interrupted, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Argument(_) | Self::Malformed { .. } | Self::Read { .. } => 2,
            Self::Interrupted => 130,
            Self::Write { .. } | Self::Hub(_) | Self::Judge(_) | Self::Memory(_) => 1,
            Self::NotFinite(_) | Self::Draw(_) | Self::Tensor(_) => 1,
        }
    }
}

/// Characters of a message that are shown: a file can hold names of any length.
const LONGEST: usize = 1000;

/// What a message quotes from a file, fit for a terminal: control characters escaped, and no more than anyone reads.
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

/// The name that a mistyped one is nearest to, by Damerau and Levenshtein's distance; none where nothing comes near.
pub(crate) fn closest_name<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&text.to_lowercase(), name);
    let (distance, name) = names.map(|name| (distance(name), name)).min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// The first line of candle's innermost error: backtraces (where `RUST_BACKTRACE` is set) and paths are wrapped around it.
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
#[path = "error_tests.rs"]
mod tests;
