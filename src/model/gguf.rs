//! Reads a GGUF file safely: candle parses it, this file refuses beforehand what would make it panic or allocate without bound,
//! and afterwards what points past the end of the file. Tensor names and layouts stay as the file has them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{Device, Tensor};
use memmap2::Mmap;

use super::gguf_parts::GgufPart;
use super::mapped::{git_lfs_pointer, map_file};
use super::refused;
use crate::machine::error::{Error, Result, reason};
use crate::ops::encoding::Encoding;

/// Array elements of all metadata together: candle holds 32 bytes for each.
const MAX_ELEMENTS: u64 = 1 << 24;

/// Arrays of arrays of arrays: nothing writes more.
const MAX_DEPTH: usize = 4;

/// An open GGUF model: the headers of its file, or of all parts that it is split into, and where to read tensors.
pub(crate) struct Gguf {
    /// The parts in order. The first has the metadata of the model.
    parts: Vec<OpenPart>,
    /// Index of the part of each tensor.
    part_of: HashMap<String, usize>,
}

struct OpenPart {
    path: PathBuf,
    map: Arc<Mmap>,
    content: Content,
}

/// A tensor's place in its file, and how it is encoded.
pub(crate) struct StoredAt<'a> {
    pub path: &'a Path,
    pub map: &'a Arc<Mmap>,
    pub encoding: Encoding,
    pub range: Range<usize>,
}

impl Gguf {
    /// Returns the files of the parts in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// Opens a file. If it is one of several parts, the others are opened, too, from the same folder.
    pub fn open(path: &Path) -> Result<Self> {
        let part = OpenPart::open(path)?;
        let parts = match part.metadata().size(SPLIT_COUNT)? {
            Some(count @ 2..) => open_parts(part, count)?,
            _ => vec![part],
        };
        let mut part_of = HashMap::new();
        for (index, part) in parts.iter().enumerate() {
            for name in part.content.tensor_infos.keys() {
                if part_of.insert(name.clone(), index).is_some() {
                    return Err(Error::malformed(&part.path, format!("tensor `{name}` is in another part, too")));
                }
            }
        }
        let gguf = Self { parts, part_of };
        let first = gguf.first();
        match first.metadata().size(SPLIT_TENSORS)?.filter(|_| gguf.parts.len() > 1) {
            Some(count) if count != gguf.part_of.len() => {
                let problem = format!("its parts have {} tensors, expected {count}", gguf.part_of.len());
                Err(Error::malformed(&first.path, problem))
            }
            _ => Ok(gguf),
        }
    }

    fn first(&self) -> &OpenPart {
        &self.parts[0]
    }

    /// The file, or the first of its parts.
    pub fn path(&self) -> &Path {
        &self.first().path
    }

    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.first().content.metadata
    }

    /// Names of all tensors, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.part_of.keys().map(String::as_str)
    }

    /// Shape by GGUF name, outermost dimension first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.parts[*self.part_of.get(name)?].content.tensor_infos.get(name).map(|info| info.shape.dims())
    }

    /// Decodes one tensor: f32, on the CPU.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let StoredAt { path, map, encoding, range } = self.place(name)?;
        let shape = self.shape(name).unwrap_or_default();
        let elements = shape.iter().product();
        if encoding.row_bytes(elements) != Some(range.len()) {
            return Err(Error::malformed(path, format!("tensor `{name}`: {elements} elements are not whole blocks")));
        }
        let mut data = vec![0f32; elements];
        encoding.decode(&map[range], &mut data);
        Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
    }

    /// How a tensor is encoded and which bytes of which file hold it, by its GGUF name.
    pub fn place(&self, name: &str) -> Result<StoredAt<'_>> {
        let missing = || Error::malformed(self.path(), format!("missing tensor `{name}`"));
        let OpenPart { path, map, content } = &self.parts[*self.part_of.get(name).ok_or_else(missing)?];
        let info = content.tensor_infos.get(name).ok_or_else(missing)?;
        let start = content.tensor_data_offset.saturating_add(info.offset);
        let end = end_of(content, info).filter(|end| *end <= map.len() as u64);
        let end = end.ok_or_else(|| Error::malformed(path, format!("tensor `{name}` ends past the file's end")))?;
        Ok(StoredAt { path, map, encoding: info.ggml_dtype.into(), range: start as usize..end as usize })
    }
}

/// Keys of a part of a split model: how many parts there are, which one it is (0-based), and how many tensors all parts have.
const SPLIT_COUNT: &str = "split.count";
const SPLIT_NUMBER: &str = "split.no";
const SPLIT_TENSORS: &str = "split.tensors.count";

/// Opens the other parts of a model, and checks that they are all there, each in its place.
fn open_parts(one: OpenPart, count: usize) -> Result<Vec<OpenPart>> {
    let Some(name) = GgufPart::of(&one.path).filter(|name| name.count == count) else {
        let problem =
            format!("it is one of {count} parts: expected a name that says which one, as NAME-00001-of-{count:05}.gguf");
        return Err(Error::malformed(&one.path, problem));
    };
    if let Some((index, missing)) = name.all().enumerate().find(|(_, path)| !path.is_file()) {
        let file = missing.file_name().unwrap_or_default().to_string_lossy();
        let problem = format!("part {} of {count} is missing: expected {file} beside it", index + 1);
        return Err(Error::malformed(&one.path, problem));
    }
    let mut one = Some(one);
    let open = |(index, path): (usize, PathBuf)| {
        let part = match one.take_if(|_| index + 1 == name.number) {
            Some(part) => part,
            None => OpenPart::open(&path)?,
        };
        let metadata = part.metadata();
        for (key, expected) in [(SPLIT_COUNT, count), (SPLIT_NUMBER, index)] {
            let found = metadata.size(key)?;
            if found != Some(expected) {
                let found = found.map_or("is missing".to_owned(), |found| format!("is {found}"));
                let problem = format!("key `{key}` {found}, but the file's name says {expected}: download it again");
                return Err(Error::malformed(&path, problem));
            }
        }
        Ok(part)
    };
    name.all().enumerate().map(open).collect()
}

impl OpenPart {
    fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::read(path, source);
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let architecture = check_metadata(&mut reader, length).map_err(|problem| Error::malformed(path, problem))?;
        reader.seek(SeekFrom::Start(0)).map_err(read)?;
        let content = Content::read(&mut reader).map_err(|error| {
            // A family that is refused may have tensors of a type that is not read either.
            let refused = architecture.as_deref().and_then(|name| refused::problem(name, None));
            Error::malformed(path, refused.unwrap_or_else(|| header_problem(&error)))
        })?;
        check_extents(&content, length).map_err(|problem| Error::malformed(path, problem))?;
        Ok(Self { path: path.to_path_buf(), map: Arc::new(map_file(path)?), content })
    }

    fn metadata(&self) -> GgufMetadata<'_> {
        GgufMetadata::new(&self.content.metadata, &self.path)
    }
}

fn header_problem(error: &candle_core::Error) -> String {
    let reason = reason(error);
    if reason.contains("unknown dtype") {
        return format!("{reason}: expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K");
    }
    format!("cannot be read as GGUF: {reason}")
}

/// Each tensor must have elements and lie inside the file. Names the one that ends last.
fn check_extents(content: &Content, length: u64) -> Result<(), String> {
    if let Some((name, info)) = content.tensor_infos.iter().find(|(_, info)| info.shape.dims().contains(&0)) {
        return Err(format!("tensor `{name}` of shape {:?} has no elements: the file is broken", info.shape.dims()));
    }
    let ends = content.tensor_infos.iter().map(|(name, info)| (end_of(content, info).unwrap_or(u64::MAX), name));
    match ends.max() {
        Some((end, name)) if end > length => {
            Err(format!("tensor `{name}` ends past the file's {length} bytes: it is truncated or broken; download it again"))
        }
        _ => Ok(()),
    }
}

/// Offset at which a tensor's bytes end in the file.
fn end_of(content: &Content, info: &TensorInfo) -> Option<u64> {
    let elements = info.shape.dims().iter().copied().try_fold(1usize, usize::checked_mul)? as u64;
    let bytes = (elements / info.ggml_dtype.block_size() as u64).checked_mul(info.ggml_dtype.type_size() as u64)?;
    content.tensor_data_offset.checked_add(info.offset)?.checked_add(bytes)
}

/// Walks over the metadata, and keeps nothing of it but `general.architecture`, if that is a text. candle would divide by an
/// alignment of zero, and trusts the lengths of arrays.
fn check_metadata(reader: &mut BufReader<File>, length: u64) -> Result<Option<String>, String> {
    let mut head = Vec::new();
    reader.by_ref().take(8).read_to_end(&mut head).map_err(|error| error.to_string())?;
    let [b'G', b'G', b'U', b'F', version @ ..] = head.as_slice() else {
        return Err(git_lfs_pointer(&head).unwrap_or("not a GGUF file: it does not begin with `GGUF`").to_owned());
    };
    let version = version.try_into().map(u32::from_le_bytes).map_err(|_| TRUNCATED)?;
    if !(1..=3).contains(&version) {
        return Err(format!("GGUF version {version} is not supported: expected 1, 2 or 3"));
    }
    let mut walk = Walk { reader, remaining: length.saturating_sub(8), version, elements: 0 };
    let mut architecture = None;
    let _tensors = walk.length()?;
    for _ in 0..walk.length()? {
        let key = walk.key()?;
        let kind = walk.u32()?;
        match key.as_slice() {
            b"general.alignment" => walk.alignment(kind)?,
            b"general.architecture" if kind == TEXT => {
                architecture = Some(String::from_utf8_lossy(&walk.short_text()?).into_owned());
            }
            _ => walk.skip_value(kind, 0)?,
        }
    }
    Ok(architecture)
}

/// Type of a metadata value that is a text.
const TEXT: u32 = 8;

const TRUNCATED: &str = "the header ends early: the file is truncated or broken; download it again";

struct Walk<'a> {
    reader: &'a mut BufReader<File>,
    remaining: u64,
    version: u32,
    elements: u64,
}

impl Walk<'_> {
    fn take(&mut self, bytes: u64) -> Result<(), String> {
        self.remaining = self.remaining.checked_sub(bytes).ok_or(TRUNCATED)?;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// A count: 32 bits in the first version of the format, 64 since.
    fn length(&mut self) -> Result<u64, String> {
        if self.version == 1 { self.u32().map(u64::from) } else { self.bytes().map(u64::from_le_bytes) }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.take(bytes)?;
        let bytes = i64::try_from(bytes).map_err(|_| TRUNCATED)?;
        self.reader.seek_relative(bytes).map_err(|error| error.to_string())
    }

    /// The key of an entry.
    fn key(&mut self) -> Result<Vec<u8>, String> {
        let mut key = self.short_text()?;
        // candle strips trailing zeros too.
        while key.last() == Some(&0) {
            key.pop();
        }
        Ok(key)
    }

    /// A text; one longer than any that matters here comes back empty.
    fn short_text(&mut self) -> Result<Vec<u8>, String> {
        let length = self.length()?;
        if length > 256 {
            self.skip(length)?;
            return Ok(Vec::new());
        }
        self.take(length)?;
        let mut text = vec![0; length as usize];
        self.reader.read_exact(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn alignment(&mut self, kind: u32) -> Result<(), String> {
        let size = fixed_size(kind).ok_or("key `general.alignment`: expected a number")?;
        let mut zero = true;
        for _ in 0..size {
            zero &= self.bytes::<1>()? == [0];
        }
        if zero { Err("key `general.alignment`: expected a positive number, found 0".to_owned()) } else { Ok(()) }
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<(), String> {
        if let Some(size) = fixed_size(kind) {
            return self.skip(size);
        }
        match kind {
            TEXT => {
                let length = self.length()?;
                self.skip(length)
            }
            9 if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let count = self.length()?;
                self.elements = self.elements.saturating_add(count);
                if self.elements > MAX_ELEMENTS {
                    return Err(format!("more than {MAX_ELEMENTS} elements in arrays of metadata: the file is broken"));
                }
                if let Some(size) = fixed_size(kind) {
                    return self.skip(count.saturating_mul(size));
                }
                (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))
            }
            _ => Err(format!("metadata of unknown type {kind}: the file is broken")),
        }
    }
}

/// Bytes of a metadata value of this type, where they are fixed.
fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Looks up GGUF metadata by key, with errors that name the file and the key.
#[derive(Clone, Copy)]
pub(crate) struct GgufMetadata<'a> {
    map: &'a HashMap<String, Value>,
    pub path: &'a Path,
}

impl<'a> GgufMetadata<'a> {
    pub fn new(map: &'a HashMap<String, Value>, path: &'a Path) -> Self {
        Self { map, path }
    }

    pub fn contains(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub fn required_text(&self, key: &str) -> Result<&'a str> {
        self.text(key)?.ok_or_else(|| Error::malformed(self.path, format!("missing key `{key}`")))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A whole number, or a list that repeats one (some writers give a value for each block).
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        let size = match value {
            Value::Array(values) => {
                let first = values.first().and_then(whole);
                first.filter(|_| values.iter().all(|value| whole(value) == first))
            }
            value => whole(value),
        };
        size.map(Some).ok_or_else(|| self.wrong(key, "a whole number, the same for every block"))
    }

    /// A list of flags; `None` where the key has anything else.
    pub fn flags(&self, key: &str) -> Option<Vec<bool>> {
        let Some(Value::Array(values)) = self.map.get(key) else { return None };
        values.iter().map(|value| if let Value::Bool(flag) = value { Some(*flag) } else { None }).collect()
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) => Ok(Some(f64::from(*value))),
            Some(Value::F64(value)) => Ok(Some(*value)),
            Some(value) => whole(value).map(|value| Some(value as f64)).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// A token id.
    pub fn id(&self, key: &str) -> Result<Option<u32>> {
        self.map.get(key).map(|value| id(value).ok_or_else(|| self.wrong(key, "a token id"))).transpose()
    }

    /// A list of values of any kind.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let text = |value: &'a Value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(self.wrong(key, "a list of strings")),
        };
        self.list(key)?.map(|values| values.iter().map(text).collect()).transpose()
    }

    /// A list of whole numbers.
    pub fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let number = |value: &Value| id(value).ok_or_else(|| self.wrong(key, "a list of whole numbers"));
        self.list(key)?.map(|values| values.iter().map(number).collect()).transpose()
    }

    /// The length of a list.
    pub fn count(&self, key: &str) -> Option<usize> {
        match self.map.get(key) {
            Some(Value::Array(values)) => Some(values.len()),
            _ => None,
        }
    }

    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::malformed(self.path, format!("key `{key}`: expected {expected}"))
    }
}

fn id(value: &Value) -> Option<u32> {
    whole(value).and_then(|value| value.try_into().ok())
}

fn whole(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(value) => Some(value.into()),
        Value::U16(value) => Some(value.into()),
        Value::U32(value) => value.try_into().ok(),
        Value::U64(value) => value.try_into().ok(),
        Value::I8(value) => value.try_into().ok(),
        Value::I16(value) => value.try_into().ok(),
        Value::I32(value) => value.try_into().ok(),
        Value::I64(value) => value.try_into().ok(),
        _ => None,
    }
}
