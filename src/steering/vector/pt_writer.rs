//! Writes what `torch.save(value, path)` writes for one f32 tensor, or for dicts with tensors, texts and numbers in them, so that
//! `torch.load(path, weights_only=True)` reads it: a zip archive of stored entries, of which one is a small pickle. Other programs
//! expect a bare tensor as a vector; lm-evaluation-harness expects dicts.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{Error, Result};

/// PyTorch aligns each entry to this many bytes, so that storages can be memory-mapped.
const ALIGNMENT: u16 = 64;

/// Name of the folder inside the archive. PyTorch reads any name, and writes this one if the file has no name.
const FOLDER: &str = "archive";

/// A value of Python.
#[derive(Debug, Clone)]
pub(crate) enum Pickled<'a> {
    None,
    Text(&'a str),
    Number(f64),
    /// A contiguous f32 tensor of one dimension.
    Tensor(&'a [f32]),
    Dict(Vec<(String, Self)>),
}

pub(super) fn to_bytes(v: &[f32], path: &Path) -> Result<Vec<u8>> {
    archive(&Pickled::Tensor(v), path)
}

/// The bytes of a file with this value. `path` is only used in messages.
///
/// # Errors
/// A tensor has more elements than the file can say.
pub(crate) fn archive(value: &Pickled, path: &Path) -> Result<Vec<u8>> {
    let mut storages = Vec::new();
    // PROTO 2, the value, STOP
    let pickle = [b"\x80\x02".to_vec(), pickle(value, &mut storages, path)?, b".".to_vec()].concat();
    let mut entries = vec![("data.pkl".to_owned(), pickle), ("byteorder".to_owned(), b"little".to_vec())];
    let data = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect();
    entries.extend(storages.iter().enumerate().map(|(key, v)| (format!("data/{key}"), data(v))));
    // This is the version of the archive format, without which torch.load fails.
    entries.push(("version".to_owned(), b"3\n".to_vec()));
    zipped(&entries).map_err(|error| Error::write(path, error.into()))
}

fn zipped(entries: &[(String, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    for (name, bytes) in entries {
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// Pickles a value in the opcodes of protocol 2, and adds its tensors to `storages`, in the order of their keys.
fn pickle<'a>(value: &Pickled<'a>, storages: &mut Vec<&'a [f32]>, path: &Path) -> Result<Vec<u8>> {
    Ok(match value {
        Pickled::None => b"N".to_vec(),
        Pickled::Text(value) => text(value),
        // BINFLOAT
        Pickled::Number(value) => [b"G", &value.to_be_bytes()[..]].concat(),
        Pickled::Dict(items) => {
            // EMPTY_DICT, MARK, the keys and values, SETITEMS
            let mut out = b"}(".to_vec();
            for (key, value) in items {
                out.extend(text(key));
                out.extend(pickle(value, storages, path)?);
            }
            out.push(b'u');
            out
        }
        Pickled::Tensor(v) => {
            let numel = i32::try_from(v.len()).map_err(|_| {
                Error::Argument(format!("{}: hidden size {} is more than a .pt file of bipo holds", path.display(), v.len()))
            })?;
            storages.push(v);
            tensor(storages.len() - 1, numel)
        }
    })
}

/// BINUNICODE
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Pickles `_rebuild_tensor_v2(('storage', FloatStorage, key, 'cpu', numel), 0, (numel,), (1,), False, OrderedDict())`.
fn tensor(key: usize, numel: i32) -> Vec<u8> {
    let numel = [b"J", &numel.to_le_bytes()[..]].concat();
    let parts: [&[u8]; 13] = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(", // GLOBAL, MARK
        b"(",                                    // MARK
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text(&key.to_string()),
        &text("cpu"),
        &numel,
        b"tQ",    // TUPLE, BINPERSID: the storage
        b"K\x00", // BININT1 0: its offset
        &numel,
        b"\x85K\x01\x85\x89", // TUPLE1: the size; BININT1 1, TUPLE1: the stride; NEWFALSE: requires_grad
        b"ccollections\nOrderedDict\n)R", // GLOBAL, EMPTY_TUPLE, REDUCE: no hooks
        b"tR",                // TUPLE, REDUCE
    ];
    parts.concat()
}
