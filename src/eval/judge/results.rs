//! Scores that are paid for: one line of JSON each, appended as it comes, so that a run that was cut off goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::files::read_input;
use crate::{Error, Result};

/// The most that the scores of a sweep may take.
const LARGEST_FILE: u64 = 1 << 30;

/// A line.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    /// Of model, rubric, prompt and text.
    pub key: &'a str,
    pub judge_model: &'a str,
    pub rubric: &'a str,
    pub prompt: &'a str,
    pub text: &'a str,
    pub score: u8,
}

/// What is read back of one.
#[derive(Deserialize)]
struct Scored {
    key: String,
    score: u8,
}

/// How a line begins: tells one that was cut off from a file of something else.
const BEGINNING: &str = r#"{"key":""#;

/// The file of a run.
#[derive(Debug)]
pub(super) struct Results {
    path: PathBuf,
    file: File,
}

impl Results {
    /// Opens or makes the file, and reads the scores that it has. A last line that was cut off is taken away.
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
            if !(1..=4).contains(&scored.score) {
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
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let written = serde_json::to_string(record).map_err(std::io::Error::from);
        let written = written.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| Error::write(&self.path, source))
    }
}

fn not_ours(path: &Path, index: usize) -> Error {
    let problem = "is no result of a judge: expected {\"key\": …, \"score\": 1 to 4}; name another file";
    Error::malformed(path, format!("line {} {problem}", index + 1))
}
