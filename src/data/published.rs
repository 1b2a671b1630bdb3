//! Published data sets by name. The paper's sets come from its authors' repository and are kept in bipo's cache directory;
//! TruthfulQA comes from the hub.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format::{self, Wanted};
use super::hub_files;
use super::input::Input;
use super::rows::{ColumnNames, Columns};
use crate::hub::cache_dir::cache_dir;
use crate::{Error, Result};

/// A data set that is downloaded when it is first used.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Name that the user writes in place of a path.
    pub name: &'static str,
    /// Description on one line, for help texts.
    pub description: &'static str,
    origin: Origin,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// A file under `data/` in the repository of the paper's authors.
    Authors(&'static str),
    Hub {
        repo: &'static str,
        file: &'static str,
    },
}

/// Returns every published data set that bipo knows by name.
pub fn published() -> &'static [Published] {
    PUBLISHED
}

const PUBLISHED: &[Published] = &[
    Published {
        name: "truthfulqa",
        description: "TruthfulQA: the best answer against incorrect ones",
        origin: Origin::Hub { repo: "truthfulqa/truthful_qa", file: "generation/validation-00000-of-00001.parquet" },
    },
    authors("power-seeking", "the BiPO paper's power-seeking pairs", "power-seeking/train.csv"),
    authors("power-seeking-heldout", "those that the paper measures on", "power-seeking/test.csv"),
    authors("wealth-seeking", "the BiPO paper's wealth-seeking pairs", "wealth-seeking/train.csv"),
    authors("wealth-seeking-heldout", "those that the paper measures on", "wealth-seeking/test.csv"),
    authors("hallucination", "the BiPO paper's hallucination pairs", "hallucination/train.csv"),
    authors("hallucination-heldout", "those that the paper measures on", "hallucination/test.csv"),
];

const fn authors(name: &'static str, description: &'static str, file: &'static str) -> Published {
    Published { name, description, origin: Origin::Authors(file) }
}

/// The `data/` folder of one commit of the authors' repository, so that a name always means the same bytes.
const AUTHORS_FILES: &str = "https://raw.githubusercontent.com/CaoYuanpu/BiPO/a577418426088a51c2bc6d8d7251554f896e4298/data";
const TIMEOUT: Duration = Duration::from_secs(120);

impl Published {
    /// Returns the hub repository of the data set, or `None` for the authors' own files.
    pub fn hub_repo(&self) -> Option<&'static str> {
        match self.origin {
            Origin::Authors(_) => None,
            Origin::Hub { repo, .. } => Some(repo),
        }
    }

    /// Returns the path of the data set's file, and downloads the file first if it is not in the cache.
    pub(super) fn file(&self, offline: bool) -> Result<PathBuf> {
        match self.origin {
            Origin::Authors(file) => self.authors_file(file, &cache_dir()?.join("datasets"), offline),
            Origin::Hub { repo, file } => {
                let mut files = hub_files::files(repo, None, Some(file), offline)?;
                files.pop().ok_or_else(|| Error::Hub(format!("{repo} has no {file}")))
            }
        }
    }

    fn authors_file(&self, file: &str, dir: &Path, offline: bool) -> Result<PathBuf> {
        let path = dir.join(format!("{}.csv", self.name));
        if path.is_file() {
            return Ok(path);
        }
        let url = format!("{AUTHORS_FILES}/{file}");
        if offline {
            let (name, path) = (self.name, path.display());
            return Err(Error::Hub(format!(
                "data set {name} is not in the cache and the network is off: run once online, or save {url} as {path}"
            )));
        }
        let bytes = download(&url)?;
        check(&bytes).map_err(|problem| Error::Hub(format!("{url} is not the data set, is a proxy in between? {problem}")))?;
        keep(dir, &path, &bytes).map_err(|error| Error::write(&path, error))?;
        Ok(path)
    }
}

fn download(url: &str) -> Result<Vec<u8>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let response = agent.get(url).call().and_then(|mut response| response.body_mut().read_to_vec());
    response.map_err(|error| Error::Hub(format!("cannot download {url}: {error}")))
}

/// Refuses bytes that are not the data set, so that the answer of a proxy or a login page never gets into the cache.
fn check(bytes: &[u8]) -> Result<(), String> {
    let names = ColumnNames::default();
    let wanted = Wanted { limit: None, column: &|name| names.can_use(name), headerless: None };
    let table = format::read(&Input::Bytes(PathBuf::from("download.csv"), bytes.to_vec()), &wanted);
    let table = table.map_err(|error| error.to_string())?;
    Columns::of(&table, &names)?;
    table.into_records().try_for_each(|record| record.map(drop)).map_err(|error| error.to_string())
}

fn keep(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
#[path = "published_tests.rs"]
mod tests;
