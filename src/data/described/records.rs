//! The file of pairs: a pair a line, with what made it and what was dropped since the line before. So the file alone says where an
//! interrupted run goes on, and how much was dropped in all.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checks::{Reason, is_near_copy, words};
use super::config::{PairsConfig, PlacedQuestion, Recipe};
use crate::machine::files::read_input;
use crate::machine::lines::LineFile;
use crate::{Error, Result};

/// Largest size of the file in bytes.
const LARGEST_FILE: u64 = 1 << 30;

/// A line of the file. Its first three columns are those of a pair.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PairRecord {
    pub question: String,
    pub chosen: String,
    pub rejected: String,
    pub made: LineOrigin,
    /// What was dropped since the line before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<Reason, usize>,
}

/// What made a line: a recipe, and the place of its question in the lists of questions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LineOrigin {
    #[serde(flatten)]
    pub recipe: Recipe,
    pub batch: usize,
    pub index: usize,
}

/// Reads the whole lines of a file that may not exist.
pub(super) fn read_lines(path: &Path, recipe: &Recipe) -> Result<Vec<PairRecord>> {
    let bytes = match read_input(path, LARGEST_FILE) {
        Ok(bytes) => bytes,
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let wrong =
        |index: usize, problem: &str| Error::malformed(path, format!("line {} {problem}: name another file", index + 1));
    if whole == 0 && !bytes.is_empty() && !bytes.starts_with(BEGINNING) {
        return Err(wrong(0, NOT_OURS));
    }
    let lines = bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let read = |(index, line): (usize, &[u8])| {
        let line: PairRecord = serde_json::from_slice(line).map_err(|_| wrong(index, NOT_OURS))?;
        match &line.made.recipe == recipe {
            true => Ok(line),
            false => Err(wrong(index, &format!("was made by another command, of {}", line.made.recipe))),
        }
    };
    lines.map(read).collect()
}

/// Beginning of every line, by which an incomplete line is told apart from a file of something else.
const BEGINNING: &[u8] = br#"{"question":""#;

const NOT_OURS: &str = "is no pair of this command";

/// The file of a run under way, and what it counted.
pub(super) struct PairsFile<'a> {
    config: &'a PairsConfig,
    output: LineFile,
    /// Every line of the file.
    pub lines: Vec<PairRecord>,
    /// What was dropped since the last line.
    since: BTreeMap<Reason, usize>,
    /// What was dropped in all.
    pub dropped: BTreeMap<Reason, usize>,
}

impl<'a> PairsFile<'a> {
    /// Goes on behind `lines`. An incomplete line behind them is removed.
    pub fn begin(config: &'a PairsConfig, lines: Vec<PairRecord>) -> Result<Self> {
        let mut record = Self {
            config,
            output: LineFile::new(&config.output),
            lines: Vec::new(),
            since: BTreeMap::new(),
            dropped: BTreeMap::new(),
        };
        if !lines.is_empty() {
            let bytes: Result<Vec<Vec<u8>>> = lines.iter().map(|line| record.bytes(line)).collect();
            record.output.add(&bytes?.concat())?;
        }
        for (reason, count) in lines.iter().flat_map(|line| &line.dropped) {
            *record.dropped.entry(*reason).or_default() += count;
        }
        Ok(Self { lines, ..record })
    }

    /// Number of pairs that are still to be made.
    pub fn missing(&self) -> usize {
        self.config.pairs.saturating_sub(self.lines.len())
    }

    /// Counts a question that gives no pair.
    pub fn drop(&mut self, reason: Reason) {
        *self.since.entry(reason).or_default() += 1;
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Writes a pair, unless a reason or the likeness of its answers speaks against it.
    pub fn settle(&mut self, question: &PlacedQuestion, answers: Result<(String, String), Reason>) -> Result<()> {
        let (chosen, rejected) = match answers {
            Ok((chosen, rejected)) if is_near_copy(&words(&chosen), &words(&rejected)) => {
                self.drop(Reason::Alike);
                return Ok(());
            }
            Ok(answers) => answers,
            Err(reason) => {
                self.drop(reason);
                return Ok(());
            }
        };
        let made = LineOrigin { recipe: self.config.recipe.clone(), batch: question.batch, index: question.index };
        let line =
            PairRecord { question: question.text.clone(), chosen, rejected, made, dropped: std::mem::take(&mut self.since) };
        self.output.add(&self.bytes(&line)?)?;
        self.lines.push(line);
        Ok(())
    }

    fn bytes(&self, line: &PairRecord) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(line).map_err(|error| Error::write(&self.config.output, error.into()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
