//! Data sets on the Hugging Face hub: which files of a repository make up a split, and their download into the hub's own cache.
//! The content of the files is read elsewhere, in `load`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::format;
use crate::hub::failure::DownloadFailure;
use crate::hub::options::FetchOptions;
use crate::hub::repo::Hub;
use crate::{Error, Result};

const DEFAULT_REVISION: &str = "main";
const DEFAULT_SPLIT: &str = "train";

/// The file of a repository that describes its data, and can divide it into configurations.
const CARD: &str = "README.md";

/// Returns the files of a split, in order. `part` is a file of the repository, a split or `config/split`, and `train` by
/// default. If the hub cannot be reached, the files of the cache are used.
pub(super) fn files(repo: &str, revision: Option<&str>, part: Option<&str>, fetch: &FetchOptions) -> Result<Vec<PathBuf>> {
    let revision = revision.unwrap_or(DEFAULT_REVISION);
    let named = Repo::with_revision(repo.to_string(), RepoType::Dataset, revision.to_string());
    let hub = Hub::from_env(fetch)?;
    let at_hand = || cached(&Cache::new(hub.cache.clone()), &named, part);
    if hub.offline {
        return at_hand();
    }
    let failure = match download(&hub, &named, part) {
        Ok(files) => return Ok(files),
        Err(failure) => failure,
    };
    if let Some(files) = at_hand().ok().filter(|_| matches!(failure, DownloadFailure::Unreachable(_))) {
        return Ok(files);
    }
    let page = format!("{}/datasets/{repo}", hub.endpoint);
    let what = format!("data set {repo} at {revision}");
    Err(match failure {
        DownloadFailure::Unknown => {
            Error::Argument(format!("the hub has no {what}: compare {page}; a private one needs HF_TOKEN"))
        }
        DownloadFailure::Denied => {
            Error::Argument(format!("the hub refuses {what}: accept its terms at {page}, and set HF_TOKEN"))
        }
        DownloadFailure::Unreachable(reason) | DownloadFailure::Failed(reason) => {
            Error::Hub(format!("cannot fetch {what}: {reason}; with the file at hand, give its path instead"))
        }
        DownloadFailure::Lacks(problem) => Error::Argument(problem),
        DownloadFailure::Other(error) => error,
    })
}

fn download(hub: &Hub, repo: &Repo, part: Option<&str>) -> Result<Vec<PathBuf>, DownloadFailure> {
    let fetch = hub.open(repo.clone())?;
    let (commit, mut names) = fetch.listing()?;
    // Each name becomes part of a path in the cache, so it must not lead out of its folder.
    names.retain(|name| stays_inside(name));
    let snapshot = fetch.cache.pointer_path(&commit);
    let card = if names.iter().any(|name| name == CARD) { fetch.get(&snapshot, CARD).ok() } else { None };
    let wanted =
        select(name_of(repo).as_str(), &names, part, has_configurations(card.as_deref())).map_err(DownloadFailure::Other)?;
    wanted.iter().map(|file| fetch.get(&snapshot, file)).collect()
}

fn name_of(repo: &Repo) -> String {
    repo.folder_name().trim_start_matches("datasets--").replacen("--", "/", 1)
}

fn stays_inside(name: &str) -> bool {
    name.split(['/', '\\']).all(|step| !step.is_empty() && step != "." && step != "..")
}

/// Returns the files of a split from the hub's cache alone.
fn cached(cache: &Cache, repo: &Repo, part: Option<&str>) -> Result<Vec<PathBuf>> {
    let name = name_of(repo);
    let absent = || {
        let what = part.map(|part| format!(":{part}")).unwrap_or_default();
        Error::Hub(format!("hf:{name}{what} is not in the hub's cache and the network is off: run once online"))
    };
    let folder = cache.path().join(repo.folder_name());
    let commit = std::fs::read_to_string(folder.join("refs").join(repo.revision()));
    // A revision that is no branch or tag is a commit.
    let commit = commit.as_deref().map_or(repo.revision(), str::trim);
    let snapshot = cache.repo(repo.clone()).pointer_path(commit);
    let mut names = Vec::new();
    list(&snapshot, &snapshot, &mut names);
    if names.is_empty() || part.is_some_and(|part| is_file(part) && !names.iter().any(|name| name == part)) {
        return Err(absent());
    }
    let has_configurations = has_configurations(Some(&snapshot.join(CARD)));
    Ok(select(&name, &names, part, has_configurations)?.into_iter().map(|file| snapshot.join(file)).collect())
}

fn list(root: &Path, dir: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(root, &path, names);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            names.push(name.replace('\\', "/"));
        }
    }
}

/// Whether a data set's card divides its files into configurations, of which a user must choose one.
fn has_configurations(card: Option<&Path>) -> bool {
    let text = card.and_then(|card| std::fs::read_to_string(card).ok()).unwrap_or_default();
    let header = text.strip_prefix("---").and_then(|text| text.split("\n---").next()).unwrap_or_default();
    header.lines().any(|line| line.trim_end() == "configs:")
}

/// Selects the files of one split from all files of a repository, or the file that `part` names. Without configurations, the
/// files of the split in several folders are one split, as the library `datasets` has it.
fn select(repo: &str, names: &[String], part: Option<&str>, has_configurations: bool) -> Result<Vec<String>> {
    if let Some(file) = part.filter(|part| is_file(part)) {
        let there = names.iter().any(|name| name == file);
        let absent = || Error::Argument(format!("hf:{repo} has no file {file}: compare its page on the hub"));
        return if there { Ok(vec![file.to_owned()]) } else { Err(absent()) };
    }
    let mut splits: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names.iter().filter(|name| is_data(name)) {
        splits.entry(split_of(name)).or_default().push(name);
    }
    if splits.is_empty() {
        let known = format::EXTENSIONS.join(", ");
        return Err(Error::Argument(format!("hf:{repo} has no data files: expected {known}")));
    }
    let wanted = part.unwrap_or(DEFAULT_SPLIT);
    let exact = |split: &str| split == wanted || split.ends_with(&format!("/{wanted}"));
    let mut found: Vec<&str> = splits.keys().copied().filter(|split| exact(split)).collect();
    if found.is_empty() && part.is_none() && splits.len() == 1 {
        found.extend(splits.keys());
    }
    // The hub's own conversion to Parquet has a folder for each configuration, with numbered files.
    let is_numbered = |split: &&str| splits.get(*split).into_iter().flatten().any(|file| folder_of_numbered(file).is_some());
    match found.as_slice() {
        several if several.len() == 1 || !(several.is_empty() || has_configurations || several.iter().any(is_numbered)) => {
            let mut files: Vec<String> =
                several.iter().filter_map(|split| splits.get(split)).flatten().map(ToString::to_string).collect();
            files.sort();
            Ok(files)
        }
        [] => Err(Error::Argument(format!(
            "hf:{repo} has no split {wanted}: write hf:{repo}:SPLIT with one of {}",
            choices(splits.keys())
        ))),
        several => Err(Error::Argument(format!(
            "hf:{repo} has split {wanted} more than once: write hf:{repo}:SPLIT with one of {}",
            choices(several.iter())
        ))),
    }
}

fn choices<'a>(splits: impl Iterator<Item = &'a &'a str>) -> String {
    const SHOWN: usize = 12;
    let splits: Vec<&str> = splits.copied().collect();
    let more = if splits.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", splits.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "))
}

fn is_file(part: &str) -> bool {
    format::extension(Path::new(part)).is_some()
}

fn is_data(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    is_file(name) && !["dataset_infos.json", "dataset_dict.json", "state.json"].contains(&file)
}

/// Returns the split that a file belongs to: `data/train` for `data/train-00000-of-00002-1f3e.parquet`, and `default/train` for
/// `default/train/0000.parquet`. A file without such numbers is a split by itself.
fn split_of(name: &str) -> &str {
    if let Some(folder) = folder_of_numbered(name) {
        return folder;
    }
    let stem = stem(name);
    let Some((before, _)) = stem.rsplit_once("-of-") else { return stem };
    match before.rsplit_once('-') {
        Some((split, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => split,
        _ => stem,
    }
}

fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Returns the folder of a file whose name is a number of four digits.
fn folder_of_numbered(name: &str) -> Option<&str> {
    let (folder, file) = stem(name).rsplit_once('/')?;
    (file.len() == 4 && file.bytes().all(|byte| byte.is_ascii_digit())).then_some(folder)
}

#[cfg(test)]
#[path = "hub_files_tests.rs"]
mod tests;
