//! One file to read: where its bytes are, how they are opened, and their hash. What they mean is decided elsewhere, in `format`.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use sha2::Sha256;

use crate::machine::files::open_input;
use crate::{Error, Result};

/// Largest size of a data file in bytes.
const LARGEST_FILE: u64 = 4 << 30;

/// A file to read: bytes at hand under the name of a file, or a path.
pub(super) enum Input {
    Bytes(PathBuf, Vec<u8>),
    File(PathBuf),
}

impl Input {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Bytes(path, _) | Self::File(path) => path,
        }
    }

    /// Opens the content, and returns its length in bytes too.
    pub(super) fn open(&self) -> Result<(Box<dyn Read>, u64)> {
        let path = match self {
            Self::Bytes(_, bytes) => return Ok((Box::new(Cursor::new(bytes.clone())), bytes.len() as u64)),
            Self::File(path) => path,
        };
        let file = open_input(path)?;
        let length = file.metadata().map_err(|source| Error::read(path, source))?.len();
        if length > LARGEST_FILE {
            return Err(Error::malformed(path, format!("more than {} GiB: split the file", LARGEST_FILE >> 30)));
        }
        Ok((Box::new(file), length))
    }

    /// Adds the bytes of the file to a hash, without holding them in memory.
    pub(super) fn hash(&self, hash: &mut Sha256) -> Result<()> {
        let (mut content, _) = self.open()?;
        std::io::copy(&mut content, hash).map(drop).map_err(|source| Error::read(self.path(), source))
    }
}
