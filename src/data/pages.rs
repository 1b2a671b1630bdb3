//! What the headers of a Parquet file's pages state: unpacked lengths and numbers of values, in Thrift's compact protocol. They
//! are read before the decoder allocates what they state. No page is decoded here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::file::metadata::ColumnChunkMetaData;

/// Deepest nesting of structures; the statistics of a page are nested two deep.
const MAX_DEPTH: usize = 8;

/// What the headers of some pages state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// Number of bytes of the unpacked pages.
    pub bytes: u64,
    /// Number of values: one per row, or one per item of a list. Entries of dictionaries count too.
    pub values: u64,
}

/// Adds up what the pages of a column chunk of `file` hold. The chunk is read into memory for that.
///
/// # Errors
/// A page's header is broken, or the chunk or one of its pages does not lie within the file.
pub(super) fn of_chunk(file: &mut File, chunk: &ColumnChunkMetaData) -> Result<Pages, String> {
    let name = chunk.column_path().string();
    let broken = || format!("the pages of column {name} are broken: fetch or write the file again");
    let bytes = bytes_of(file, chunk).ok_or_else(broken)?;
    let mut rest = bytes.as_slice();
    let mut sum = Pages::default();
    while !rest.is_empty() {
        let mut header = Compact { rest };
        let (page, packed) = header.page_header().ok_or_else(broken)?;
        sum = Pages { bytes: sum.bytes.saturating_add(page.bytes), values: sum.values.saturating_add(page.values) };
        rest = usize::try_from(packed).ok().and_then(|packed| header.rest.get(packed..)).ok_or_else(broken)?;
    }
    Ok(sum)
}

fn bytes_of(file: &mut File, chunk: &ColumnChunkMetaData) -> Option<Vec<u8>> {
    // The crate's `byte_range` would panic on a negative offset or length.
    let start = u64::try_from(chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset())).ok()?;
    let length = u64::try_from(chunk.compressed_size()).ok()?;
    if start.checked_add(length)? > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).ok()?);
    file.seek(SeekFrom::Start(start)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}

/// A reader of Thrift's compact protocol that skips the values that are not needed.
struct Compact<'a> {
    rest: &'a [u8],
}

impl Compact<'_> {
    /// Returns what a page holds, and its length in the file. Field 2 of the header is the unpacked length, field 3 the length
    /// in the file. Fields 5, 7 and 8 are the headers of the kinds of pages, whose field 1 is the number of values.
    fn page_header(&mut self) -> Option<(Pages, u64)> {
        let (mut lengths, mut values) = ([None; 2], 0_u64);
        let mut id = 0;
        while let Some((kind, next)) = self.field(id)? {
            id = next;
            match (id, kind) {
                (2 | 3, 5) => lengths[id as usize - 2] = Some(self.unsigned()?),
                (5 | 7 | 8, 12) => values = values.saturating_add(self.first_number()?),
                _ => self.skip(kind, 0)?,
            }
        }
        Some((Pages { bytes: lengths[0]?, values }, lengths[1]?))
    }

    /// Returns field 1 of a structure.
    fn first_number(&mut self) -> Option<u64> {
        let (mut number, mut id) = (None, 0);
        while let Some((kind, next)) = self.field(id)? {
            id = next;
            match (id, kind) {
                (1, 5) => number = Some(self.unsigned()?),
                _ => self.skip(kind, 1)?,
            }
        }
        number
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a signed number, and refuses a negative one.
    fn unsigned(&mut self) -> Option<u64> {
        let zigzag = self.varint()?;
        (zigzag & 1 == 0).then_some(zigzag >> 1)
    }

    /// Returns the type and number of the next field, or `Some(None)` at the end of the structure.
    fn field(&mut self, last: i64) -> Option<Option<(u8, i64)>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        let id = match head >> 4 {
            0 => {
                let zigzag = self.varint()?;
                (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
            }
            delta => last.checked_add(i64::from(delta))?,
        };
        Some(Some((head & 0x0f, id)))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.rest = self.rest.get(8..)?,
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.rest = self.rest.get(length..)?;
            }
            12 => {
                let mut id = 0;
                while let Some((kind, next)) = self.field(id)? {
                    id = next;
                    self.skip(kind, depth + 1)?;
                }
            }
            // Lists, sets and maps do not occur in the headers of pages.
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
