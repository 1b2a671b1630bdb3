//! Names of the parts of a model that is split into several GGUF files, as llama.cpp's `gguf-split` writes them:
//! `NAME-00001-of-00003.gguf`. Opens no file.

use std::path::{Path, PathBuf};

/// Digits of each number in a part's name.
const DIGITS: usize = 5;

/// A part of a split model, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufPart {
    folder: PathBuf,
    stem: String,
    /// 1-based number of the part.
    pub number: usize,
    /// Number of all parts.
    pub count: usize,
}

impl GgufPart {
    /// Reads the name of a file; `None` if it is not that of a part.
    pub fn of(path: &Path) -> Option<Self> {
        let (name, extension) = path.file_name()?.to_str()?.rsplit_once('.')?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parsed = |digits: &str| digits.parse().ok().filter(|_| digits.len() == DIGITS);
        let part = Self {
            folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            stem: stem.to_owned(),
            number: parsed(number)?,
            count: parsed(count)?,
        };
        (extension == "gguf" && (1..=part.count).contains(&part.number)).then_some(part)
    }

    /// Returns the paths of all parts, in order.
    pub fn all(&self) -> impl Iterator<Item = PathBuf> {
        (1..=self.count).map(|number| self.folder.join(format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.count)))
    }

    /// Returns the path of the first part.
    pub fn first(&self) -> PathBuf {
        self.all().next().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "gguf_parts_tests.rs"]
mod tests;
