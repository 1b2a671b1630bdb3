//! Writes what `torch.save(tensor, path)` writes for one f32 tensor, so that `torch.load(path, weights_only=True)` reads it: a
//! zip archive of stored entries with a pickle of about a hundred bytes. Other programs expect such a bare tensor.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{Error, Result};

/// PyTorch aligns each entry to this many bytes, so that storages can be memory-mapped.
const ALIGNMENT: u16 = 64;

/// Name of the folder inside the archive. PyTorch reads any name, and writes this one if the file has no name.
const FOLDER: &str = "archive";

pub(super) fn to_bytes(v: &[f32], path: &Path) -> Result<Vec<u8>> {
    let numel = i32::try_from(v.len()).map_err(|_| {
        Error::Argument(format!("{}: hidden size {} is more than a .pt file of bipo holds", path.display(), v.len()))
    })?;
    let data: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
    let entries = [
        ("data.pkl", pickle(numel)),
        ("byteorder", b"little".to_vec()),
        ("data/0", data),
        // This is the version of the archive format, without which torch.load fails.
        ("version", b"3\n".to_vec()),
    ];
    archive(&entries).map_err(|error| Error::write(path, error.into()))
}

fn archive(entries: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    for (name, bytes) in entries {
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// Pickles `_rebuild_tensor_v2(('storage', FloatStorage, '0', 'cpu', numel), 0, (numel,), (1,), False, OrderedDict())` in the
/// opcodes of protocol 2.
fn pickle(numel: i32) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let numel = [b"J", &numel.to_le_bytes()[..]].concat();
    let parts: [&[u8]; 13] = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(", // PROTO 2, GLOBAL, MARK
        b"(",                                            // MARK
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &numel,
        b"tQ",    // TUPLE, BINPERSID: the storage
        b"K\x00", // BININT1 0: its offset
        &numel,
        b"\x85K\x01\x85\x89", // TUPLE1: the size; BININT1 1, TUPLE1: the stride; NEWFALSE: requires_grad
        b"ccollections\nOrderedDict\n)R", // GLOBAL, EMPTY_TUPLE, REDUCE: no hooks
        b"tR.",               // TUPLE, REDUCE, STOP
    ];
    parts.concat()
}
