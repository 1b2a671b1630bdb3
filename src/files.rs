//! Writing a file so that nobody ever sees half of it: a temporary name beside it, flushed to disk, then renamed. And what
//! identifies one that was read.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Replaces `path` by `bytes`; on an error the old file is as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bipo-");
        if let Some(permissions) = permissions() {
            builder.permissions(permissions);
        }
        let mut file = builder.tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::write(path, source))
}

/// Refuses a path that cannot become a file: cheap to know before anything costly.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = match (path.is_dir(), folder.is_dir()) {
        (true, _) => "it is a directory: name a file".to_owned(),
        (_, false) => format!("{} is no directory: make it first", folder.display()),
        (false, true) => return Ok(()),
    };
    Err(Error::Argument(format!("cannot write {}: {problem}", path.display())))
}

/// SHA-256 of a file in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let hashed = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    hashed.map_err(|source| Error::read(path, source))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Temporary files are private; results have the mode of any new file, so the umask applies.
#[cfg(unix)]
fn permissions() -> Option<std::fs::Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(std::fs::Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn permissions() -> Option<std::fs::Permissions> {
    None
}
