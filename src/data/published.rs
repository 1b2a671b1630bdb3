//! Published data sets by name: where each comes from, and which part of it a name means. Files of the web are kept in bipo's cache
//! directory; those of the hub in the hub's own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format::{self, WantedFormat};
use super::hub_files;
use super::input::Input;
use super::rows::{ColumnNames, Columns};
use crate::hub::cache_dir::cache_dir;
use crate::hub::options::FetchOptions;
use crate::machine::files::write_atomic;
use crate::{Error, Result};

/// A data set that is downloaded when it is first used.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Name that the user writes in place of a path.
    pub name: &'static str,
    /// Description on one line, for help texts.
    pub description: &'static str,
    origin: Origin,
    parts: SetParts,
    rows: SetRows,
}

/// What the rows of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetRows {
    Pairs,
    Questions,
    Prompts,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// Folder on the web, and a file in it; `{}` in the file stands for the part.
    Web(&'static str, &'static str),
    Hub {
        repo: &'static str,
        /// A commit where other code names one, so that the name always means the same bytes.
        revision: Option<&'static str>,
        file: &'static str,
    },
}

/// The parts that a set has, of which the user names one.
#[derive(Debug, PartialEq, Eq)]
enum SetParts {
    One,
    /// Files, such as `persona-extraversion`.
    Files,
    /// The rows of a concept: `steereval:L1_1`.
    Concepts,
    /// The rows of a concept, to be paired with those without it: `axbench-concept500:7`.
    Labelled,
}

/// Returns every published data set that bipo knows by name.
pub fn published() -> &'static [Published] {
    PUBLISHED
}

/// Returns the names of the published sets that are read for their prompts, as the user writes them.
pub fn prompt_sets() -> Vec<String> {
    let has_prompts =
        |set: &&Published| set.rows == SetRows::Prompts || matches!(set.parts, SetParts::Concepts | SetParts::Labelled);
    published().iter().filter(has_prompts).map(Published::form).collect()
}

/// The `data/` folder of one commit of the authors' repository, so that a name always means the same bytes.
const AUTHORS: &str = "https://raw.githubusercontent.com/CaoYuanpu/BiPO/a577418426088a51c2bc6d8d7251554f896e4298/data";
/// The data of contrastive activation addition (arXiv 2312.06681).
const CAA: &str = "https://raw.githubusercontent.com/nrimsky/CAA/main/datasets";
/// One commit of the personas of arXiv 2212.09251.
const PERSONAS: &str = "https://raw.githubusercontent.com/anthropics/evals/84fcc677e52e1902d696c32cd1a6b663e70d3993/persona";
const TIMEOUT: Duration = Duration::from_secs(120);

const PUBLISHED: &[Published] = &[
    hub("truthfulqa", "TruthfulQA: the best answer against incorrect ones", "truthfulqa/truthful_qa", None, TRUTHFULQA),
    web("power-seeking", "the BiPO paper's power-seeking pairs", AUTHORS, "power-seeking/train.csv"),
    web("power-seeking-heldout", "those that the paper measures on", AUTHORS, "power-seeking/test.csv"),
    web("wealth-seeking", "the BiPO paper's wealth-seeking pairs", AUTHORS, "wealth-seeking/train.csv"),
    web("wealth-seeking-heldout", "those that the paper measures on", AUTHORS, "wealth-seeking/test.csv"),
    web("hallucination", "the BiPO paper's hallucination pairs", AUTHORS, "hallucination/train.csv"),
    web("hallucination-heldout", "those that the paper measures on", AUTHORS, "hallucination/test.csv"),
    caa("caa-coordination", "generate/coordinate-other-ais/generate_dataset.json"),
    caa_heldout("caa-coordination-heldout", "test/coordinate-other-ais/test_dataset_ab.json"),
    caa("caa-corrigibility", "generate/corrigible-neutral-HHH/generate_dataset.json"),
    caa_heldout("caa-corrigibility-heldout", "test/corrigible-neutral-HHH/test_dataset_ab.json"),
    caa("caa-hallucination", "generate/hallucination/generate_dataset.json"),
    caa_heldout("caa-hallucination-heldout", "test/hallucination/test_dataset_ab.json"),
    caa("caa-myopic-reward", "generate/myopic-reward/generate_dataset.json"),
    caa_heldout("caa-myopic-reward-heldout", "test/myopic-reward/test_dataset_ab.json"),
    caa("caa-refusal", "generate/refusal/generate_dataset.json"),
    caa_heldout("caa-refusal-heldout", "test/refusal/test_dataset_ab.json"),
    caa("caa-survival-instinct", "generate/survival-instinct/generate_dataset.json"),
    caa_heldout("caa-survival-instinct-heldout", "test/survival-instinct/test_dataset_ab.json"),
    caa("caa-sycophancy", "generate/sycophancy/generate_dataset.json"),
    caa_heldout("caa-sycophancy-heldout", "test/sycophancy/test_dataset_ab.json"),
    Published {
        parts: SetParts::Files,
        ..web("persona", "Yes/No items of a persona, such as persona-extraversion", PERSONAS, "{}.jsonl")
    },
    Published {
        parts: SetParts::Concepts,
        ..hub("steereval", "SteerEval's pairs of a concept of personality", STEEREVAL, None, "personality/train.json")
    },
    Published {
        parts: SetParts::Concepts,
        ..hub("steereval-heldout", "those that SteerEval validates on", STEEREVAL, None, "personality/valid.json")
    },
    Published {
        parts: SetParts::Labelled,
        ..hub("axbench-concept500", "AxBench's answers with a concept and without", AXBENCH, AXBENCH_COMMIT, AXBENCH_FILE)
    },
    Published {
        rows: SetRows::Prompts,
        ..hub("alpacaeval", "AlpacaEval's instructions, as prompts", "tatsu-lab/alpaca_eval", None, "alpaca_eval.json")
    },
    Published {
        rows: SetRows::Questions,
        ..hub("mmlu", "MMLU's multiple-choice questions", "cais/mmlu", None, "all/test-00000-of-00001.parquet")
    },
    Published {
        rows: SetRows::Prompts,
        ..hub("gsm8k", "GSM8K's questions, as prompts", "openai/gsm8k", None, "main/test-00000-of-00001.parquet")
    },
];

const TRUTHFULQA: &str = "generation/validation-00000-of-00001.parquet";
const STEEREVAL: &str = "zjunlp/SteerEval";
const AXBENCH: &str = "pyvene/axbench-concept500";
const AXBENCH_COMMIT: Option<&str> = Some("ad8a5d60c4616b599c24dd6689f05f696ec610f3");
const AXBENCH_FILE: &str = "2b/l20/train/data.parquet";

const fn web(name: &'static str, description: &'static str, folder: &'static str, file: &'static str) -> Published {
    Published { name, description, origin: Origin::Web(folder, file), parts: SetParts::One, rows: SetRows::Pairs }
}

const fn caa(name: &'static str, file: &'static str) -> Published {
    web(name, "a behaviour of CAA, as A/B items", CAA, file)
}

const fn caa_heldout(name: &'static str, file: &'static str) -> Published {
    web(name, "those that CAA measures on", CAA, file)
}

const fn hub(
    name: &'static str,
    description: &'static str,
    repo: &'static str,
    revision: Option<&'static str>,
    file: &'static str,
) -> Published {
    let origin = Origin::Hub { repo, revision, file };
    Published { name, description, origin, parts: SetParts::One, rows: SetRows::Pairs }
}

/// A published data set, or the part of one, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPart {
    /// The set that is named.
    pub set: &'static Published,
    /// Name of the part, if the set has several.
    pub part: Option<String>,
}

impl fmt::Display for PublishedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.set.parts == SetParts::Files { '-' } else { ':' };
        f.write_str(self.set.name)?;
        self.part.as_ref().map_or(Ok(()), |part| write!(f, "{mark}{part}"))
    }
}

impl Published {
    /// Returns the hub repository of the data set, or `None` for a file of the web.
    pub(crate) fn hub_repo(&self) -> Option<&'static str> {
        match self.origin {
            Origin::Web(..) => None,
            Origin::Hub { repo, .. } => Some(repo),
        }
    }

    /// Returns what the set has in place of pairs; none if it has pairs.
    pub(super) fn in_place_of_pairs(&self) -> Option<&'static str> {
        match self.rows {
            SetRows::Pairs => None,
            SetRows::Questions => Some("multiple-choice questions, which are for an evaluation"),
            SetRows::Prompts => Some("prompts, which a model is to answer"),
        }
    }

    /// Returns how the user writes the name, such as `steereval:CONCEPT`.
    pub(super) fn form(&self) -> String {
        match self.parts {
            SetParts::One => self.name.to_owned(),
            SetParts::Files => format!("{}-NAME", self.name),
            SetParts::Concepts | SetParts::Labelled => format!("{}:CONCEPT", self.name),
        }
    }
}

/// Whether the name of a part can have this letter.
fn is_of_name(letter: char, parts: &SetParts) -> bool {
    letter.is_ascii_alphanumeric() || "-_".contains(letter) || (letter == '.' && !matches!(parts, SetParts::Files))
}

impl PublishedPart {
    /// Finds the set that a text names, with its part.
    ///
    /// # Errors
    /// The set has parts and the text names none.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        for set in published() {
            let rest = text.strip_prefix(set.name);
            let part = match (&set.parts, rest) {
                (_, None) => continue,
                (SetParts::One, Some("")) => return Ok(Some(Self { set, part: None })),
                (SetParts::One, _) => continue,
                (SetParts::Files, Some(rest)) => rest.strip_prefix('-'),
                (_, Some(rest)) => rest.strip_prefix(':'),
            };
            match part {
                // With a dot it would be the name of a file.
                Some(part) if !part.is_empty() && part.chars().all(|letter| is_of_name(letter, &set.parts)) => {
                    return Ok(Some(Self { set, part: Some(part.to_owned()) }));
                }
                None if rest != Some("") => {}
                _ => return Err(Error::Argument(format!("{text} names no part of the data set: write {}", set.form()))),
            }
        }
        Ok(None)
    }

    /// The concept whose rows are used, if the set has several.
    pub(super) fn concept(&self) -> Option<&str> {
        self.part.as_deref().filter(|_| self.set.parts != SetParts::Files)
    }

    /// Whether rows with a concept are to be paired with rows without it.
    pub(super) fn is_labelled(&self) -> bool {
        self.set.parts == SetParts::Labelled
    }

    /// Returns the path of the data set's file, and downloads the file first if it is not in the cache.
    pub(super) fn file(&self, fetch: &FetchOptions) -> Result<PathBuf> {
        match self.set.origin {
            Origin::Web(folder, file) => {
                let file = file.replace("{}", self.part.as_deref().unwrap_or_default());
                self.web_file(&format!("{folder}/{file}"), &cache_dir()?.join("datasets"), fetch)
            }
            Origin::Hub { repo, revision, file } => {
                let files = hub_files::files(repo, revision, Some(file), fetch);
                let mut files = files.map_err(|error| match error {
                    Error::Hub(problem) => Error::Hub(format!("{problem}; or save {file} of {repo} and give its path")),
                    error => error,
                })?;
                files.pop().ok_or_else(|| Error::Hub(format!("{repo} has no {file}")))
            }
        }
    }

    fn web_file(&self, url: &str, dir: &Path, fetch: &FetchOptions) -> Result<PathBuf> {
        let extension = format::extension(Path::new(url)).unwrap_or("csv");
        let name = format!("{self}.{extension}");
        let path = dir.join(&name);
        if path.is_file() {
            return Ok(path);
        }
        if fetch.is_offline() {
            return Err(Error::Hub(format!(
                "data set {self} is not in the cache and the network is off: run once online, or save {url} as {}",
                path.display()
            )));
        }
        let bytes = download(url)?;
        check(&name, &bytes)
            .map_err(|problem| Error::Hub(format!("{url} is not the data set, is a proxy in between? {problem}")))?;
        keep(dir, &path, &bytes)?;
        Ok(path)
    }
}

fn download(url: &str) -> Result<Vec<u8>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let response = agent.get(url).call().and_then(|mut response| response.body_mut().read_to_vec());
    response.map_err(|error| Error::Hub(format!("cannot download {url}: {error}")))
}

/// Refuses bytes that are not the data set, so that the answer of a proxy or a login page never gets into the cache.
fn check(name: &str, bytes: &[u8]) -> Result<(), String> {
    let names = ColumnNames::default();
    let wanted = WantedFormat { limit: None, column: &|name| names.can_use(name), headerless: None };
    let table = format::read(&Input::Bytes(PathBuf::from(name), bytes.to_vec()), &wanted);
    let table = table.map_err(|error| error.to_string())?;
    Columns::of(&table, &names)?;
    table.into_records().try_for_each(|record| record.map(drop)).map_err(|error| error.to_string())
}

fn keep(dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|source| Error::write(path, source))?;
    write_atomic(path, bytes)
}

#[cfg(test)]
#[path = "published_tests.rs"]
mod tests;
