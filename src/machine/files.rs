//! Reading and writing whole files. A file is written under a temporary name beside its own, flushed to disk and renamed, so
//! that no reader ever sees half of it. A file that the user named is read within a limit of size.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::{Error, Result};

/// Replaces the content of `path` with `bytes`. On an error the old file is unchanged. Temporary files beside it whose writers died
/// are removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    remove_abandoned(folder(path));
    let write = || -> std::io::Result<()> {
        draft(folder(path), bytes)?.persist(path)?;
        Ok(())
    };
    write().map_err(|source| not_written(path, source))
}

/// Prefix of the name of every temporary file and directory.
const DRAFT: &str = ".bipo-draft-";

/// How long a temporary file may be empty while its writer is alive.
const A_MOMENT: Duration = Duration::from_secs(60);

/// Number of random letters and digits behind the prefix.
const RANDOM: usize = 6;

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(DRAFT).rand_bytes(RANDOM);
    builder
}

/// Whether a file has the name of a temporary one.
fn is_draft(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(DRAFT));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Writes `bytes` to a temporary file in `dir` and flushes it to disk.
pub(crate) fn draft(dir: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut builder = builder();
    if let Some(permissions) = permissions() {
        builder.permissions(permissions);
    }
    let mut file = builder.tempfile_in(dir).map_err(without_path)?;
    // The lock tells `remove_abandoned` that the writer is alive. A file system without locks is no error.
    let _ = file.as_file().try_lock();
    // These errors name no path, and the caller adds the path that the user knows.
    file.as_file_mut().write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// A temporary directory, and its lock, which tells [`remove_abandoned`] that the writer is alive.
pub(crate) struct DraftDir {
    dir: TempDir,
    _lock: Option<File>,
}

impl DraftDir {
    /// Makes a temporary directory in `parent`, which is removed with all that it holds unless it is published.
    pub fn new(parent: &Path) -> std::io::Result<Self> {
        let dir = builder().tempdir_in(parent).map_err(without_path)?;
        // A file system without locks is no error.
        let lock = File::open(dir.path()).ok().filter(|dir| dir.try_lock().is_ok());
        Ok(Self { dir, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the directory the name `dir`, which may be that of an empty directory.
    pub(crate) fn publish(self, dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => std::fs::rename(self.path(), dir)?,
        }
        // Its name is gone, so there is nothing to clean up.
        let _ = self.dir.keep();
        Ok(())
    }
}

/// Returns an error of tempfile without the path of the temporary file, which means nothing to the user.
fn without_path(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => IoError::new(error.kind(), reason.to_owned()),
        None => error,
    }
}

/// Removes temporary files and directories whose writers died, which are those that no process has locked.
pub fn remove_abandoned(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.filter(|entry| is_draft(&entry.file_name())).map(|entry| entry.path()) {
        let Ok(found) = path.symlink_metadata() else { continue };
        let is_empty = match found.is_dir() {
            true => path.read_dir().is_ok_and(|mut entries| entries.next().is_none()),
            false => found.len() == 0,
        };
        // Each is empty for a moment before it is locked.
        let is_new = found.modified().is_ok_and(|made| made.elapsed().is_ok_and(|age| age < A_MOMENT));
        if (is_empty && is_new) || found.is_symlink() || !File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            continue;
        }
        // What cannot be removed does no harm.
        let _ = if found.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

/// Makes the error of writing `path`; the message says if the directory no longer exists.
pub(crate) fn not_written(path: &Path, source: std::io::Error) -> Error {
    let dir = folder(path);
    if source.kind() == std::io::ErrorKind::NotFound && !dir.is_dir() {
        let problem = format!("the directory {} is no longer there", dir.display());
        return Error::write(path, std::io::Error::new(source.kind(), problem));
    }
    Error::write(path, source)
}

/// Flushes the names in a directory to disk.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    // On other systems a directory cannot be opened as a file.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Removes a file, if it exists.
///
/// # Errors
/// The file cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::write(path, source)),
        _ => Ok(()),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Largest size in bytes of a text file such as a configuration, a template or prompts.
pub const LARGEST_TEXT: u64 = 64 << 20;

/// Opens a regular file for reading. Pipes and devices are refused, since reading from them could take forever.
///
/// # Errors
/// The file does not exist, or it is a directory, a pipe or a device.
pub fn open_input(path: &Path) -> Result<File> {
    let read = |source| Error::read(path, source);
    let kind = std::fs::metadata(path).map_err(read)?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a pipe or a device" };
        return Err(read(IoError::new(ErrorKind::InvalidInput, format!("it is {found}: expected a file"))));
    }
    File::open(path).map_err(read)
}

/// Reads the bytes of a file that has at most `most` bytes.
///
/// # Errors
/// [`open_input`] fails, or the file has more than `most` bytes.
pub fn read_input(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The size in the file's metadata can change before the read, and is 0 for some files, so the read itself is limited.
    open_input(path)?.take(most + 1).read_to_end(&mut bytes).map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > most {
        return Err(Error::malformed(path, format!("more than {} MiB, too large for what is expected here", most >> 20)));
    }
    Ok(bytes)
}

/// Reads a text file of at most [`LARGEST_TEXT`] bytes, without the byte-order mark that it may begin with.
///
/// # Errors
/// [`read_input`] fails, or the file is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read_input(path, LARGEST_TEXT)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::malformed(path, "not UTF-8 text: save the file as UTF-8"))?;
    Ok(if without_bom(&text).len() < text.len() { without_bom(&text).to_owned() } else { text })
}

/// Returns a text without the byte-order mark that editors on Windows put at its beginning.
pub fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Refuses a path that cannot become a file, before a costly computation: a file without a name is made beside it. Nothing is
/// removed.
///
/// # Errors
/// The path is a directory, a link, a pipe or a device, or its folder does not exist or cannot be written to.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = folder(path);
    // A file is made beside it and takes its name: a pipe, a device or a link would be replaced.
    let is_special = path.symlink_metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
    let problem = match (path.is_dir(), folder.is_dir()) {
        (true, _) => "it is a directory: name a file".to_owned(),
        _ if is_special => "it is a link, a pipe or a device: name a file".to_owned(),
        (_, false) => format!("{} is no directory: make it first", folder.display()),
        (false, true) => return check_folder(folder).map_err(|source| Error::write(path, source)),
    };
    Err(Error::Argument(format!("cannot write {}: {problem}", path.display())))
}

/// Makes a file without a name in a directory.
///
/// # Errors
/// The directory does not exist or cannot be written to.
pub fn check_folder(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(folder).map(drop).map_err(without_path)
}

/// Does what [`check_folder`] does in a directory that may not exist yet: then in the one that it would be made in.
///
/// # Errors
/// The directory cannot be written to, or it cannot be made.
pub fn check_future_folder(folder: &Path) -> std::io::Result<()> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    check_folder(existing)
}

/// Whether a text is a SHA-256 in hex.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the SHA-256 of a file in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let hashed = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    hashed.map_err(|source| Error::read(path, source))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Size of a piece of [`sampled_sha256`], and how many pieces a large file has.
const PIECE: u64 = 1 << 20;
const PIECES: u64 = 64;

/// Returns the SHA-256 in hex of a file's length and of 64 pieces of 1 MiB, spread evenly over it from its first byte to its last;
/// of the whole content of a file that is no larger than these. It tells files that were made apart, in a moment also where they are
/// as large as a model; a change of some bytes between two pieces it does not see.
pub fn sampled_sha256(path: &Path) -> Result<String> {
    let hash = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut hash = Sha256::new_with_prefix(len.to_le_bytes());
        if len <= PIECE * PIECES {
            std::io::copy(&mut file, &mut hash)?;
        } else {
            for piece in 0..PIECES {
                let start = u128::from(len - PIECE) * u128::from(piece) / u128::from(PIECES - 1);
                file.seek(SeekFrom::Start(start as u64))?;
                std::io::copy(&mut Read::by_ref(&mut file).take(PIECE), &mut hash)?;
            }
        }
        Ok(format!("{:x}", hash.finalize()))
    };
    hash().map_err(|source| Error::read(path, source))
}

/// Returns the mode of an ordinary new file, to which the umask applies. tempfile's default mode is private to the user.
#[cfg(unix)]
fn permissions() -> Option<std::fs::Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(std::fs::Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn permissions() -> Option<std::fs::Permissions> {
    None
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
