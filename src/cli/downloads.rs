//! The progress bar of a download. It looks as hf-hub draws it, and is shown on a terminal alone.

use bipo::hub::options::{DownloadProgress, FetchOptions, OnDownload};
use hf_hub::api::Progress;
use indicatif::ProgressBar;

/// Draws a bar for each file that is downloaded.
pub const DRAWN: OnDownload = OnDownload(|| Box::new(DownloadBar(ProgressBar::new(0))));

/// How a data set is fetched: with a bar for each file.
pub fn fetch_options(offline: bool) -> FetchOptions {
    FetchOptions { offline, progress: Some(DRAWN) }
}

struct DownloadBar(ProgressBar);

impl DownloadProgress for DownloadBar {
    fn begin(&mut self, bytes: usize, name: &str) {
        Progress::init(&mut self.0, bytes, name);
    }

    fn advance(&mut self, bytes: usize) {
        Progress::update(&mut self.0, bytes);
    }

    fn finish(&mut self) {
        Progress::finish(&mut self.0);
    }
}
