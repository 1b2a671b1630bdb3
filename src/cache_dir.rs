//! Where bipo keeps what it downloads by itself: a small model, published data sets. The hub's cache is not here; hf-hub keeps
//! that.

use std::path::PathBuf;

/// bipo's cache directory: `$BIPO_CACHE`, else `$XDG_CACHE_HOME/bipo`, else `$HOME/.cache/bipo`. It may not exist yet.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("BIPO_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("bipo")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("bipo")))
}
