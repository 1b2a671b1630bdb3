//! The file of scores. Each score is appended as a line of JSON when it comes, so that an interrupted run can continue without
//! paying for a score twice.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::files::read_input;
use crate::{Error, Result};

/// Largest size of the file in bytes.
const LARGEST_FILE: u64 = 1 << 30;

/// A line of the file, as it is written.
#[derive(Debug, Serialize)]
pub(super) struct VerdictRecord<'a> {
    /// Hash of model, rubric, prompt and text.
    pub key: &'a str,
    pub judge_model: &'a str,
    pub rubric: &'a str,
    pub prompt: &'a str,
    pub text: &'a str,
    pub score: u8,
}

/// The part of a line that is read back.
#[derive(Deserialize)]
struct Scored {
    key: String,
    score: u8,
}

/// Highest grade of any rubric.
const HIGHEST: u8 = 4;

/// Beginning of every line, by which an incomplete line is told apart from a file of something else.
const BEGINNING: &str = r#"{"key":""#;

/// An open file of scores.
#[derive(Debug)]
pub(super) struct Results {
    path: PathBuf,
    file: File,
}

impl Results {
    /// Opens or creates the file, and reads its scores. An incomplete last line is removed.
    pub fn open(path: &Path) -> Result<(Self, HashMap<String, u8>)> {
        let bytes = match read_input(path, LARGEST_FILE) {
            Ok(bytes) => bytes,
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = &bytes[whole..];
        if !BEGINNING.as_bytes().starts_with(&rest[..rest.len().min(BEGINNING.len())]) {
            return Err(not_ours(path, bytes[..whole].iter().filter(|byte| **byte == b'\n').count()));
        }
        let mut scores = HashMap::new();
        for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let scored: Scored = serde_json::from_slice(line).map_err(|_| not_ours(path, index))?;
            if scored.score > HIGHEST {
                return Err(not_ours(path, index));
            }
            scores.insert(scored.key, scored.score);
        }
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let file = opened.and_then(|file| {
            if !rest.is_empty() {
                file.set_len(whole as u64)?;
            }
            Ok(file)
        });
        Ok((Self { path: path.to_owned(), file: file.map_err(|source| Error::write(path, source))? }, scores))
    }

    /// Appends a line.
    pub fn add(&mut self, record: &VerdictRecord) -> Result<()> {
        let written = serde_json::to_string(record).map_err(std::io::Error::from);
        let written = written.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| Error::write(&self.path, source))
    }
}

fn not_ours(path: &Path, index: usize) -> Error {
    let problem = "is no result of a judge: expected {\"key\": …, \"score\": 0 to 4}; name another file";
    Error::malformed(path, format!("line {} {problem}", index + 1))
}
