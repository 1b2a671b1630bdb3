//! How files are fetched from the hub: whether the network is used, and who is told how a download goes. The library draws
//! nothing; whoever has a screen gives an [`OnDownload`].

/// Whether the network is used, and who is told how downloads go.
#[derive(Debug, Clone, Copy, Default)]
pub struct FetchOptions {
    /// Whether the network is off (`HF_HUB_OFFLINE=1` does the same).
    pub offline: bool,
    /// Makes what is told how a download goes; `None` tells nobody.
    pub progress: Option<OnDownload>,
}

impl FetchOptions {
    /// Returns options that use nothing but the files of this machine.
    pub fn offline() -> Self {
        Self { offline: true, progress: None }
    }

    /// Whether the network is off, by these options or by the variable `HF_HUB_OFFLINE`.
    pub(crate) fn is_offline(&self) -> bool {
        let is_on = |value: String| !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "false" | "no" | "off");
        self.offline || std::env::var("HF_HUB_OFFLINE").is_ok_and(is_on)
    }
}

/// Makes a [`DownloadProgress`] for each file that is downloaded.
#[derive(Debug, Clone, Copy)]
pub struct OnDownload(pub fn() -> Box<dyn DownloadProgress>);

/// Is told how the download of one file goes.
pub trait DownloadProgress: Send {
    /// The download of the file `name` begins, which has `bytes` bytes.
    fn begin(&mut self, bytes: usize, name: &str);
    /// `bytes` more bytes have come.
    fn advance(&mut self, bytes: usize);
    /// The file is complete.
    fn finish(&mut self);
}
