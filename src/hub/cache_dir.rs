//! The directory for files that bipo downloads by itself. It is not the hub's cache: files from the hub stay there.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, Result};

/// Returns bipo's cache directory: `$BIPO_CACHE`, else `$XDG_CACHE_HOME/bipo`, else `~/.cache/bipo`. It may not exist yet.
pub fn cache_dir() -> Result<PathBuf> {
    choose(std::env::var_os("BIPO_CACHE"), std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir())
        .ok_or_else(|| Error::Argument("no home directory for downloads: set BIPO_CACHE to a directory".to_string()))
}

fn choose(bipo: Option<OsString>, xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(dir) = bipo.filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir));
    }
    // The XDG specification says that relative paths are to be ignored.
    if let Some(dir) = xdg.map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Some(dir.join("bipo"));
    }
    home.filter(|dir| !dir.as_os_str().is_empty()).map(|dir| dir.join(".cache").join("bipo"))
}

#[cfg(test)]
#[path = "cache_dir_tests.rs"]
mod tests;
