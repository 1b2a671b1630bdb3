//! Where a data set comes from, as the user writes it: a path, a name, or `hf:owner/name[@revision][:split or file]`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::bundled::{Bundled, bundled};
use super::input::Input;
use super::published::{Published, PublishedPart, published};
use super::{format, hub_files};
use crate::hub::options::FetchOptions;
use crate::hub::repo_id::RepoId;
use crate::machine::error::closest_name;
use crate::{Error, Result};

/// The bundled set that is used when the user names no data set.
pub const DEFAULT_DATASET: &str = "cheerful";

const HUB_PREFIX: &str = "hf:";

/// The place that a data set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A data set that is compiled into the program.
    Bundled(&'static Bundled),
    /// A file on this machine.
    File(PathBuf),
    /// A data set repository on the Hugging Face hub.
    Hub {
        /// Repository id, `owner/name`.
        repo: String,
        /// Branch, tag or commit; `None` means `main`.
        revision: Option<String>,
        /// Split, `config/split` or file of the repository; `None` means `train`.
        part: Option<String>,
    },
    /// A data set that bipo knows by name and downloads when it is first used.
    Published(PublishedPart),
}

impl Source {
    /// Parses what the user wrote. An existing file takes precedence over a data set of the same name.
    ///
    /// # Errors
    /// The text names no file, and no data set of the hub or of those that bipo knows.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_among(text, |_| true)
    }

    /// Parses what the user wrote where pairs are wanted.
    ///
    /// # Errors
    /// As [`Self::parse`], or the named set has no pairs.
    pub fn parse_pairs(text: &str) -> Result<Self> {
        let source = Self::parse_among(text, |set| set.in_place_of_pairs().is_none())?;
        let other_rows = match &source {
            Self::Published(part) => part.set.in_place_of_pairs(),
            _ => None,
        };
        match other_rows {
            Some(rows) => Err(Error::Argument(format!("{text} has no pairs, but {rows}"))),
            None => Ok(source),
        }
    }

    /// Parses what the user wrote; where it names nothing, the error lists the published sets that fit.
    fn parse_among(text: &str, fits: fn(&Published) -> bool) -> Result<Self> {
        let path = Path::new(text);
        if path.exists() && !path.is_dir() {
            return Ok(Self::File(path.to_path_buf()));
        }
        if let Some(rest) = text.strip_prefix(HUB_PREFIX) {
            return parse_hub(text, rest);
        }
        if let Some(set) = bundled().iter().find(|set| set.name == text) {
            return Ok(Self::Bundled(set));
        }
        if let Some(part) = PublishedPart::parse(text)? {
            return Ok(Self::Published(part));
        }
        Err(Error::Argument(unknown(text, path, fits)))
    }

    /// Name of the data set in metadata, without the folders of this machine.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map_or_else(|| self.to_string(), |name| name.to_string_lossy().into_owned()),
            _ => self.to_string(),
        }
    }

    /// The concept whose rows are used, of a set with several.
    pub(super) fn concept(&self) -> Option<&str> {
        match self {
            Self::Published(part) => part.concept(),
            _ => None,
        }
    }

    /// Whether answers with a concept and without it stand in rows of their own.
    pub(super) fn is_labelled(&self) -> bool {
        matches!(self, Self::Published(part) if part.is_labelled())
    }

    /// Returns the files to read, and downloads those that are not on this machine.
    pub(super) fn files(&self, fetch: &FetchOptions) -> Result<Vec<Input>> {
        let paths = match self {
            Self::Bundled(set) => return Ok(vec![Input::Bytes(PathBuf::from(format!("{}.csv", set.name)), set.csv.into())]),
            Self::File(path) => vec![path.clone()],
            Self::Published(part) => vec![part.file(fetch)?],
            Self::Hub { repo, revision, part } => hub_files::files(repo, revision.as_deref(), part.as_deref(), fetch)?,
        };
        Ok(paths.into_iter().map(Input::File).collect())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled(set) => f.write_str(set.name),
            Self::Published(part) => part.fmt(f),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, revision, part } => {
                write!(f, "{HUB_PREFIX}{repo}")?;
                revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))?;
                part.as_ref().map_or(Ok(()), |part| write!(f, ":{part}"))
            }
        }
    }
}

fn parse_hub(text: &str, rest: &str) -> Result<Source> {
    let wrong = || Error::Argument(format!("{text} is not a hub data set: expected hf:owner/name[@revision][:split or file]"));
    let (name, part) = rest.split_once(':').map_or((rest, None), |(name, part)| (name, Some(part)));
    // The part after the colon becomes part of a path in the cache, so it must not lead out of its folder.
    let is_relative = |part: &str| part.split('/').all(|step| !step.is_empty() && step != "." && step != "..");
    let id = RepoId::parse(name).filter(|_| part.is_none_or(is_relative)).ok_or_else(wrong)?;
    Ok(Source::Hub { repo: id.repo, revision: id.revision, part: part.map(String::from) })
}

fn unknown(text: &str, path: &Path, fits: fn(&Published) -> bool) -> String {
    if path.is_dir() {
        return format!("{text} is a directory: expected a CSV, JSONL, JSON or Parquet file");
    }
    let has_extension = format::extension(path).is_some();
    if RepoId::parse(text).is_some() && !has_extension {
        return format!("no such file: {text}; for a data set of the hub write {HUB_PREFIX}{text}");
    }
    if text.contains(['/', '\\']) || has_extension {
        return format!("no such file: {text}");
    }
    let published = published().iter().filter(|set| fits(set)).map(Published::form);
    let names: Vec<String> = bundled().iter().map(|set| set.name.to_owned()).chain(published).collect();
    let hint =
        closest_name(text, names.iter().map(String::as_str)).map_or(":".to_string(), |name| format!(", did you mean {name}?"));
    format!("no data set {text:?}{hint} expected a file, {HUB_PREFIX}owner/name, or one of {}", names.join(", "))
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
