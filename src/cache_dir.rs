//! Where bipo keeps what it downloads by itself. Not the hub's cache: files from the hub stay in the hub's own.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, Result};

/// bipo's cache directory: `$BIPO_CACHE`, else `$XDG_CACHE_HOME/bipo`, else `~/.cache/bipo`. It may not exist yet.
pub fn cache_dir() -> Result<PathBuf> {
    choose(std::env::var_os("BIPO_CACHE"), std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir())
        .ok_or_else(|| Error::Argument("no home directory for downloads: set BIPO_CACHE to a directory".to_string()))
}

fn choose(bipo: Option<OsString>, xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(dir) = bipo.filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir));
    }
    // The XDG specification has relative paths ignored.
    if let Some(dir) = xdg.map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Some(dir.join("bipo"));
    }
    home.filter(|dir| !dir.as_os_str().is_empty()).map(|dir| dir.join(".cache").join("bipo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variable_wins_over_xdg_and_xdg_over_home() {
        let home = || Some(PathBuf::from("/home/a"));
        assert_eq!(choose(Some("/b".into()), Some("/x".into()), home()), Some(PathBuf::from("/b")));
        assert_eq!(choose(None, Some("/x".into()), home()), Some(PathBuf::from("/x/bipo")));
        assert_eq!(choose(None, None, home()), Some(PathBuf::from("/home/a/.cache/bipo")));
    }

    #[test]
    fn empty_variables_and_relative_xdg_count_as_unset() {
        let home = || Some(PathBuf::from("/home/a"));
        assert_eq!(choose(Some("".into()), Some("".into()), home()), Some(PathBuf::from("/home/a/.cache/bipo")));
        assert_eq!(choose(None, Some("cache".into()), home()), Some(PathBuf::from("/home/a/.cache/bipo")));
        assert_eq!(choose(None, None, None), None);
    }
}
