//! A file of weights as a memory map. What is in the file is read by `weights` and `gguf`.

// Memory maps: nothing in the language keeps others from changing the file.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// Maps a file for reading.
pub(super) fn map_file(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    // SAFETY: a memory map is sound while nobody changes the file; weights are written once, by a download.
    unsafe { Mmap::map(&file) }.map_err(|source| Error::read(path, source))
}

/// What to say of a file that is a stand-in for the weights, as a clone without Git LFS leaves it.
pub(super) fn git_lfs_pointer(head: &[u8]) -> Option<&'static str> {
    head.starts_with(b"version ").then_some("a Git LFS pointer, not the weights: run `git lfs pull` in its folder")
}
