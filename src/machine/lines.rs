//! A file of lines that grows while they are computed, and holds whole lines at any time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::files::{not_written, write_atomic};
use crate::{Error, Result};

/// A file that begins with the first lines that are added, which replace what was there before.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    /// The file, and its bytes, once it has begun.
    begun: Option<(File, u64)>,
}

impl LineFile {
    /// Touches nothing yet: a file of this name stays as it is until there is something to replace it with.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), begun: None }
    }

    /// Whether lines were added.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Adds whole lines, each with its line feed.
    ///
    /// # Errors
    /// The lines cannot be written. Those that the file had before are still there.
    pub fn add(&mut self, lines: &[u8]) -> Result<()> {
        let Some((file, bytes)) = &mut self.begun else {
            write_atomic(&self.path, lines)?;
            let file = OpenOptions::new().append(true).open(&self.path).map_err(|source| Error::write(&self.path, source))?;
            self.begun = Some((file, lines.len() as u64));
            return Ok(());
        };
        if let Err(source) = file.write_all(lines) {
            // A line that is cut would not be read. Nothing more can be done where this fails, too.
            let _ = file.set_len(*bytes);
            return Err(not_written(&self.path, source));
        }
        *bytes += lines.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
