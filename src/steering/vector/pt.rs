//! PyTorch's `.pt` files: a bare tensor, a Parameter, or a dict with `v` and `config` as the Python scripts write it. The
//! pickle is read as data: a few constructors are recognised by name, and nothing is ever called.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use candle_core::pickle::{Object, Stack};

use super::Metadata;
use super::contents::{FileVectors, LARGEST_FILE};
use crate::machine::error::reason;
use crate::{Error, Result};

/// The place of a tensor in the archive.
struct PickledTensor {
    class: String,
    key: String,
    offset: usize,
    len: usize,
    stride: usize,
}

pub(super) fn legacy(path: &Path) -> Error {
    Error::malformed(
        path,
        "not a zip archive: it is broken, a bare pickle, or of PyTorch's legacy format; load it in Python and save it again with torch.save",
    )
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(FileVectors, Metadata)> {
    let broken = |problem: String| Error::malformed(path, format!("not a .pt file that bipo reads: {problem}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(error.to_string()))?;
    let mut names = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned()));
    let pickle = names.find(|name| name.ends_with("/data.pkl") || name == "data.pkl");
    let pickle = pickle.ok_or_else(|| broken("no data.pkl inside".into()))?;
    drop(names);
    let folder = pickle.trim_end_matches("data.pkl").to_owned();
    let has_byteorder = archive.index_for_name(&format!("{folder}byteorder")).is_some();
    let mut entry = |name: &str| -> Result<Vec<u8>> {
        let file = archive.by_name(name).map_err(|error| broken(format!("{name}: {error}")))?;
        let mut data = Vec::new();
        file.take(LARGEST_FILE).read_to_end(&mut data).map_err(|error| broken(format!("{name}: {error}")))?;
        Ok(data)
    };
    if has_byteorder && entry(&format!("{folder}byteorder"))? != b"little" {
        return Err(broken("its numbers are big endian: save it on a little endian machine".into()));
    }
    let object = unpickle(&entry(&pickle)?).map_err(broken)?;
    let tensor = match &object {
        Object::Dict(_) => value(&object, "v").ok_or_else(|| broken("its dict has no key \"v\"".into()))?,
        other => other,
    };
    let stored = stored(tensor).ok_or_else(|| broken("expected one tensor of rank 1, or a dict with \"v\"".into()))?;
    let data = entry(&format!("{folder}data/{}", stored.key))?;
    let v = floats(&stored, &data).ok_or_else(|| broken("its tensor reaches past its storage, or is no float".into()))?;
    let layer = value(&object, "config").and_then(layer_of).or_else(|| layer_of(&object));
    let vectors = match layer {
        Some(layer) => FileVectors::Placed(BTreeMap::from([(layer, v)])),
        None => FileVectors::Unplaced(v),
    };
    Ok((vectors, Metadata::default()))
}

/// Largest size of a pickle; that of a vector has a few hundred bytes. candle nests objects in boxes and clones a memo entry at
/// each use, so that without limits a hostile pickle would exhaust the stack or the memory.
const MAX_PICKLE_BYTES: usize = 16 << 10;
const MAX_NODES: usize = 1024;
const MAX_DEPTH: usize = 32;

/// Runs candle's unpickler one operation at a time, and checks the limits after each. Classes are only names, nothing is
/// called.
fn unpickle(data: &[u8]) -> Result<Object, String> {
    if data.len() > MAX_PICKLE_BYTES {
        return Err(TOO_MUCH.into());
    }
    let mut rest = data;
    let mut stack = Stack::empty();
    loop {
        match rest {
            // candle's BINUNICODE allocates the stated length before it reads the text.
            [b'X', a, b, c, d, text @ ..] if u32::from_le_bytes([*a, *b, *c, *d]) as usize > text.len() => {
                return Err("a string is longer than its file".into());
            }
            // candle's LONG1 shifts by eight bits for each byte, however many there are.
            [0x8a, bytes, ..] if *bytes > 8 => return Err("a number has more than 64 bits".into()),
            _ => {}
        }
        let done = stack.read(&mut rest).map_err(|error| reason(&error))?;
        if let Some(top) = stack.stack().last() {
            measure(top, 0, &mut 0)?;
        }
        if done {
            return stack.finalize().map_err(|error| reason(&error));
        }
    }
}

const TOO_MUCH: &str = "it holds more than a steering vector; expected one tensor of rank 1, or a dict with \"v\"";

fn measure(object: &Object, depth: usize, nodes: &mut usize) -> Result<(), String> {
    *nodes += 1;
    if depth > MAX_DEPTH || *nodes > MAX_NODES {
        return Err(TOO_MUCH.into());
    }
    let mut inner = |object| measure(object, depth + 1, nodes);
    match object {
        Object::Tuple(items) | Object::List(items) => items.iter().try_for_each(inner),
        Object::Dict(items) => items.iter().flat_map(|(key, value)| [key, value]).try_for_each(inner),
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            inner(callable)?;
            inner(args)
        }
        Object::PersistentLoad(id) => inner(id),
        _ => Ok(()),
    }
}

fn value<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    let Object::Dict(entries) = object else { return None };
    entries.iter().find(|(name, _)| matches!(name, Object::Unicode(name) if name == key)).map(|(_, value)| value)
}

fn layer_of(config: &Object) -> Option<usize> {
    ["layer_idx", "layer"].iter().find_map(|key| value(config, key)).and_then(integer)
}

fn integer(object: &Object) -> Option<usize> {
    match object {
        Object::Int(i) => usize::try_from(*i).ok(),
        Object::Long(i) => usize::try_from(*i).ok(),
        _ => None,
    }
}

/// Finds the tensor in `_rebuild_tensor_v2(storage, offset, size, stride, …)`, which may be inside `_rebuild_parameter`.
fn stored(object: &Object) -> Option<PickledTensor> {
    let Object::Reduce { callable, args } = object else { return None };
    let (Object::Class { class_name, .. }, Object::Tuple(args)) = (callable.as_ref(), args.as_ref()) else { return None };
    match (class_name.as_str(), args.as_slice()) {
        ("_rebuild_parameter", [inner, ..]) => stored(inner),
        ("_rebuild_tensor_v2", [Object::PersistentLoad(id), offset, Object::Tuple(size), Object::Tuple(stride), ..]) => {
            let Object::Tuple(id) = id.as_ref() else { return None };
            let [_, Object::Class { class_name, .. }, Object::Unicode(key), ..] = id.as_slice() else { return None };
            let axes: Option<Vec<(usize, usize)>> =
                size.iter().zip(stride).map(|(n, s)| Some((integer(n)?, integer(s)?))).collect();
            let long: Vec<(usize, usize)> = axes?.into_iter().filter(|(n, _)| *n != 1).collect();
            let [(len, stride)] = long.as_slice() else { return None };
            Some(PickledTensor {
                class: class_name.clone(),
                key: key.clone(),
                offset: integer(offset)?,
                len: *len,
                stride: *stride,
            })
        }
        _ => None,
    }
}

fn floats(stored: &PickledTensor, data: &[u8]) -> Option<Vec<f32>> {
    let (size, decode): (usize, fn(&[u8]) -> f32) = match stored.class.as_str() {
        "FloatStorage" => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        "DoubleStorage" => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        "HalfStorage" => (2, |b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()),
        "BFloat16Storage" => (2, |b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        _ => return None,
    };
    if stored.len > data.len() {
        return None;
    }
    let element = |i: usize| {
        let start = stored.offset.checked_add(i.checked_mul(stored.stride)?)?.checked_mul(size)?;
        data.get(start..start.checked_add(size)?).map(decode)
    };
    (0..stored.len).map(element).collect()
}

#[cfg(test)]
#[path = "pt_tests.rs"]
mod tests;
