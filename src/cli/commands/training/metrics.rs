//! `metrics.jsonl`: a line a step, as it comes. A run that is resumed keeps the lines of the steps that its checkpoint has
//! done, and cuts off what came after.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bipo::train::StepRecord;
use bipo::{Error, Result};
use serde_json::json;

use crate::terminal::Log;

/// The most that a line may take: a batch of millions of rows.
const LONGEST_LINE: u64 = 64 << 20;

/// The metrics file of a run, and the steps that it holds.
pub struct Metrics {
    path: PathBuf,
    file: File,
    pub steps: Vec<StepRecord>,
}

impl Metrics {
    /// The file of `dir` with the lines of the first `steps` steps; a new one where that is none.
    pub fn open(dir: &Path, steps: usize, log: Log) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let failed = |source| Error::write(&path, source);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let (records, len) = first_records(&file, steps).map_err(failed)?;
        if records.len() < steps {
            let found = records.len();
            log.warn(format!(
                "{} has lines of {found} of the {steps} steps done: the others are lost; begin anew with --overwrite if you need them",
                path.display()
            ));
        }
        file.set_len(len).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok(Self { path, file, steps: records })
    }

    /// Appends a line.
    pub fn push(&mut self, record: &StepRecord) -> Result<()> {
        let line = format!("{}\n", json!(record));
        self.file.write_all(line.as_bytes()).map_err(|source| Error::write(&self.path, source))?;
        self.steps.push(record.clone());
        Ok(())
    }

    /// Flushes it to disk: a checkpoint counts on its lines.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| Error::write(&self.path, source))
    }
}

/// The records of steps 1, 2, … up to `steps`, as far as they are there, and the length of their lines.
fn first_records(file: &File, steps: usize) -> std::io::Result<(Vec<StepRecord>, u64)> {
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let (mut records, mut len) = (Vec::new(), 0);
    while records.len() < steps {
        line.clear();
        let read = match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let record: Option<StepRecord> = serde_json::from_slice(&line).ok();
        match record.filter(|record| record.step == records.len() + 1 && line.ends_with(b"\n")) {
            Some(record) => records.push(record),
            None => break,
        }
        len += read as u64;
    }
    Ok((records, len))
}
