//! A data file as a stream of UTF-8 text: gzip is unpacked, a byte-order mark is dropped, and UTF-16 becomes UTF-8. What the text
//! says is read elsewhere, in `format` and its readers.

use std::io::{BufRead, BufReader, Cursor, Error as IoError, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::input::Input;
use crate::{Error, Result};

/// Number of bytes from the beginning of a file that are looked at to find its format.
pub(super) const HEAD: usize = 64 << 10;

/// Bytes that a compressed file may unpack to; the larger of this and [`UNPACKED_TIMES`] the file's length is the limit.
pub(super) const UNPACKED: u64 = 256 << 20;
pub(super) const UNPACKED_TIMES: u64 = 50;

const GZIP: &[u8] = b"\x1f\x8b";

/// The bytes of a file, unpacked if they were gzip.
pub(super) struct ByteStream {
    /// The first bytes, at most [`HEAD`] of them; they are part of what follows.
    pub head: Vec<u8>,
    /// Whether the file is compressed with gzip.
    pub is_gzip: bool,
    rest: Box<dyn Read>,
}

impl ByteStream {
    pub(super) fn open(input: &Input) -> Result<Self> {
        let read = |source| read_error(input.path(), source);
        let (mut raw, length) = input.open()?;
        let head = head_of(&mut raw).map_err(read)?;
        if !head.starts_with(GZIP) {
            return Ok(Self { head, is_gzip: false, rest: raw });
        }
        let most = UNPACKED.max(UNPACKED_TIMES.saturating_mul(length));
        let packed = Cursor::new(head).chain(raw);
        let mut unpacked = UnpackedStream { decoder: MultiGzDecoder::new(packed), most, left: most };
        let head = head_of(&mut unpacked).map_err(read)?;
        Ok(Self { head, is_gzip: true, rest: Box::new(unpacked) })
    }

    /// Returns the whole content as UTF-8, without a byte-order mark.
    ///
    /// # Errors
    /// The file is UTF-16 that cannot be decoded. Bytes that are not UTF-8 are found by whoever reads the text.
    pub(super) fn into_text(self, path: &Path) -> Result<Box<dyn BufRead>> {
        let Self { mut head, mut rest, .. } = self;
        match TextEncoding::of(&head) {
            TextEncoding::Utf8 { mark } => {
                head.drain(..mark);
                Ok(Box::new(BufReader::with_capacity(HEAD, Cursor::new(head).chain(rest))))
            }
            TextEncoding::Utf16(unit) => {
                rest.read_to_end(&mut head).map_err(|source| read_error(path, source))?;
                let units = head.chunks(2).map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or(0)]));
                let text: Result<String, _> = char::decode_utf16(units).collect();
                let text = text.map_err(|_| Error::malformed(path, "not valid UTF-16: save the file as UTF-8"))?;
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Ok(Box::new(Cursor::new(text.into_bytes())))
            }
        }
    }
}

enum TextEncoding {
    Utf8 { mark: usize },
    Utf16(fn([u8; 2]) -> u16),
}

impl TextEncoding {
    /// The byte-order mark tells the encoding. Without one, zero bytes in the first characters tell UTF-16, since data
    /// files begin with ASCII characters.
    fn of(head: &[u8]) -> Self {
        match head {
            [0xef, 0xbb, 0xbf, ..] => Self::Utf8 { mark: 3 },
            [0xff, 0xfe, ..] => Self::Utf16(u16::from_le_bytes),
            [0xfe, 0xff, ..] => Self::Utf16(u16::from_be_bytes),
            [first, 0, second, 0, ..] if *first > 0 && *second > 0 => Self::Utf16(u16::from_le_bytes),
            [0, first, 0, second, ..] if *first > 0 && *second > 0 => Self::Utf16(u16::from_be_bytes),
            _ => Self::Utf8 { mark: 0 },
        }
    }
}

/// Makes the error of a file that cannot be read to its end: the system's, or that of the decoder of gzip.
pub(super) fn read_error(path: &Path, error: IoError) -> Error {
    if error.raw_os_error().is_some() { Error::read(path, error) } else { Error::malformed(path, error.to_string()) }
}

fn head_of(reader: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// An unpacking reader that ends in an error where a small file would become a very large one.
struct UnpackedStream<R> {
    decoder: MultiGzDecoder<R>,
    most: u64,
    left: u64,
}

impl<R: Read> Read for UnpackedStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.decoder.read(buffer).map_err(|error| match error.raw_os_error() {
            Some(_) => error,
            None => IoError::new(ErrorKind::InvalidData, format!("broken gzip data, {error}: fetch or write the file again")),
        })?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(IoError::new(ErrorKind::InvalidData, swollen(self.most))),
        }
        Ok(count)
    }
}

/// Says that a file unpacks to more than `most` bytes.
pub(super) fn swollen(most: u64) -> String {
    format!("unpacks to more than {} MiB, out of all proportion to its length: is it damaged?", most >> 20)
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
