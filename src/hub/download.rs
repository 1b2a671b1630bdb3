//! Downloads of files from the hub. hf-hub downloads and resumes them; this file adds what hf-hub lacks: a timeout for silent
//! servers, a check of each file's size and hash, and a check that no name leads out of the cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiError};
use hf_hub::{CacheRepo, Repo};

use super::failure::{DownloadFailure, Step};
use super::options::{DownloadProgress, OnDownload};
use crate::Error;
use crate::machine::files::{is_sha256, sha256};
use crate::machine::panics::caught;

/// Extension that hf-hub gives a file while it is being downloaded.
const PARTIAL: &str = "part";

/// A repository whose files are being downloaded.
pub(crate) struct Fetch {
    pub api: Api,
    pub repo: Repo,
    pub cache: CacheRepo,
    pub progress: Option<OnDownload>,
    /// How long a server may send nothing before the download fails.
    pub patience: Duration,
}

impl Fetch {
    /// Returns the commit of the repository and the names of its files.
    pub fn listing(&self) -> Result<(String, Vec<String>), DownloadFailure> {
        let (api, repo) = (self.api.clone(), self.repo.clone());
        let info = watched(self.patience, Step::Listing, move |_| api.repo(repo).info())?;
        if !is_plain(&info.sha) {
            return Err(DownloadFailure::Failed(format!("its commit is {:?}: expected a hash", info.sha)));
        }
        Ok((info.sha, info.siblings.into_iter().map(|file| file.rfilename).collect()))
    }

    /// Returns the path of a file of the snapshot, and downloads the file unless it exists.
    pub fn get(&self, snapshot: &Path, name: &str) -> Result<PathBuf, DownloadFailure> {
        let path = snapshot.join(name);
        if path.exists() {
            return Ok(path);
        }
        let (api, repo) = (self.api.clone(), self.repo.clone());
        let url = api.repo(repo.clone()).url(name);
        let asked = api.clone();
        let stated = watched(self.patience, Step::File, move |_| asked.metadata(&url))?;
        // The ETag and the commit become parts of a path in the cache.
        if !is_plain(stated.etag()) || !is_plain(stated.commit_hash()) {
            return Err(DownloadFailure::Failed(format!("{name} has no usable ETag and commit")));
        }
        let blob = self.cache.blob_path(stated.etag());
        let partial = blob.with_extension(PARTIAL);
        // A partial file of full length cannot be resumed: it was never renamed, or belongs to another file.
        if std::fs::metadata(&partial).is_ok_and(|partial| partial.len() >= stated.size() as u64) {
            std::fs::remove_file(&partial)
                .map_err(|error| DownloadFailure::Failed(format!("writing to the cache: {error}")))?;
        }
        let (file, told) = (name.to_owned(), self.progress.map(|OnDownload(make)| make()));
        watched(self.patience, Step::File, move |watched| {
            api.repo(repo).download_with_progress(&file, Watched { told, ..watched })
        })?;
        match damage(&blob, stated.etag(), stated.size() as u64) {
            None => Ok(path),
            Some(damage) => {
                // A damaged file in the cache would be taken for a good one by the next run.
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_file(&blob);
                Err(DownloadFailure::Failed(format!("{name} came damaged ({damage}); run again to fetch it anew")))
            }
        }
    }
}

/// Whether a name is safe as part of a path: it does not lead out of its folder.
fn is_plain(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// Describes what is wrong with a downloaded file, if anything. Large files have their SHA-256 as ETag.
fn damage(blob: &Path, etag: &str, size: u64) -> Option<String> {
    // On a system without symbolic links, hf-hub stores the file under its own name, and there is no blob to check.
    let found = std::fs::metadata(blob).ok()?.len();
    if found != size {
        return Some(format!("{found} bytes, where the hub says {size}"));
    }
    let differs = is_sha256(etag) && sha256(blob).is_ok_and(|hash| !hash.eq_ignore_ascii_case(etag));
    differs.then(|| "its SHA-256 is another than the hub says".to_owned())
}

/// Returns how long a server may be silent: `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, and a minute by default.
pub(super) fn patience() -> Result<Duration, Error> {
    let set = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().filter(|seconds| !seconds.is_empty());
    match set.as_deref().map(str::parse) {
        None => Ok(Duration::from_secs(60)),
        Some(Ok(seconds @ 1..=86400)) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(Error::argument("HF_HUB_DOWNLOAD_TIMEOUT: expected seconds from 1 to 86400")),
    }
}

/// Runs `work` on its own thread and returns its result. Fails if no progress is reported for `patience`; the thread cannot be
/// stopped and then lasts until the process ends.
fn watched<T: Send + 'static>(
    patience: Duration,
    step: Step,
    work: impl FnOnce(Watched) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, DownloadFailure> {
    let (sender, receiver) = mpsc::channel();
    let beats = Arc::new(AtomicU64::new(0));
    let given = Watched { beats: beats.clone(), told: None };
    std::thread::spawn(move || sender.send(caught(|| work(given))).ok());
    let mut seen = 0;
    loop {
        match receiver.recv_timeout(patience) {
            Ok(Some(result)) => return result.map_err(|error| DownloadFailure::of(error, step)),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                return Err(DownloadFailure::Failed(
                    "the cache in HF_HOME is in disorder, or the answer makes no sense".to_owned(),
                ));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = beats.load(Ordering::Relaxed);
        if now == seen {
            let silence = patience.as_secs();
            return Err(DownloadFailure::Unreachable(format!(
                "no byte came for {silence} s; run again to go on where it stopped"
            )));
        }
        seen = now;
    }
}

/// Counts the reports of progress, and passes them on if somebody is to be told.
struct Watched {
    beats: Arc<AtomicU64>,
    told: Option<Box<dyn DownloadProgress>>,
}

impl Watched {
    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress for Watched {
    fn init(&mut self, size: usize, name: &str) {
        self.beat();
        if let Some(told) = &mut self.told {
            told.begin(size, name);
        }
    }

    fn update(&mut self, size: usize) {
        self.beat();
        if let Some(told) = &mut self.told {
            told.advance(size);
        }
    }

    fn finish(&mut self) {
        if let Some(told) = &mut self.told {
            told.finish();
        }
    }
}
