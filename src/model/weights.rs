//! One tensor of a checkpoint at a time, by its Hugging Face name, in the layout and type that the decoder wants: read and
//! converted, or left where it is, in the memory-mapped file. Keeps no tensor itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::Value;
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::architecture::Family;
use super::checkpoint::Checkpoint;
use super::gguf::{Gguf, GgufMetadata};
use super::mapped::{git_lfs_pointer, map_file};
use super::names::gguf_name;
use super::random::{self, MadeOn};
use crate::error::{Error, Result};
use crate::ops::encoding::Encoding;
use crate::ops::weight::{Bytes, HostWeight, RowOrder, Weight};

/// Where the frozen matrices of a model are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// In memory, in the model's dtype; mapped where the file has them so. On the CPU.
    Dense,
    /// In the mapped file, as it has them, decoded whenever they are used. On the CPU.
    Stored,
    /// As candle's tensors: on any device.
    Tensors,
}

/// The open weights of a checkpoint.
pub struct Weights(WeightSource);

enum WeightSource {
    Shards { shards: Vec<OpenShard>, shard_of: HashMap<String, usize> },
    Gguf(Gguf),
    Random(MadeOn),
}

struct OpenShard {
    path: PathBuf,
    map: Arc<Mmap>,
    tensors: HashMap<String, (Dtype, Vec<usize>, Range<usize>)>,
}

/// A tensor's place in its file.
struct StoredTensor<'a> {
    path: &'a Path,
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    order: RowOrder,
    map: &'a Arc<Mmap>,
    range: Range<usize>,
}

impl Weights {
    /// Opens a checkpoint's weights: reads and checks the headers, no tensor yet.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        let paths = match checkpoint {
            Checkpoint::Gguf { path, .. } => return Gguf::open(path).map(|file| Self(WeightSource::Gguf(file))),
            Checkpoint::Safetensors { shards, .. } => shards,
        };
        let mut shards = Vec::with_capacity(paths.len());
        let mut shard_of = HashMap::new();
        for (index, path) in paths.iter().enumerate() {
            let shard = OpenShard::open(path)?;
            shard_of.extend(shard.tensors.keys().map(|name| (name.clone(), index)));
            shards.push(shard);
        }
        Ok(Self(WeightSource::Shards { shards, shard_of }))
    }

    /// Weights of no file, whatever the shape.
    pub fn random(made_on: MadeOn) -> Self {
        Self(WeightSource::Random(made_on))
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.0 {
            WeightSource::Shards { shard_of, .. } => shard_of.contains_key(name),
            WeightSource::Gguf(file) => gguf_name(name).is_some_and(|name| file.shape(&name).is_some()),
            WeightSource::Random(_) => true,
        }
    }

    /// Loads a tensor that must have this shape, in `dtype` on `device`. Queries and keys come in the half-split rotary order of
    /// Hugging Face, also from GGUF files that interleave them.
    ///
    /// # Errors
    /// It is missing, has another shape or a type that holds no weights, or cannot be read.
    pub fn load(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        if let WeightSource::Random(made_on) = self.0 {
            return random::tensor(made_on, name, shape, dtype, device);
        }
        let tensor = self.stored(name, shape)?.read()?;
        if dtype == DType::F16 {
            self.check_f16(name, &tensor.flatten_all()?.to_vec1()?)?;
        }
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    /// A matrix that must have this shape, stored as `storage` says. `(O, I)`
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        dtype: DType,
        device: &Device,
        storage: WeightStorage,
    ) -> Result<Weight> {
        if storage == WeightStorage::Tensors {
            return self.load(name, &shape, dtype, device).map(Weight::Tensor);
        }
        let tensor = match &self.0 {
            WeightSource::Random(made_on) => random::tensor(*made_on, name, &shape, DType::F32, &Device::Cpu)?,
            _ => {
                let stored = self.stored(name, &shape)?;
                let same = Encoding::of_dtype(dtype) == Some(stored.encoding) && stored.order == RowOrder::Plain;
                if storage == WeightStorage::Stored || same {
                    let bytes = Bytes::Mapped(stored.map.clone(), stored.range.clone());
                    return HostWeight::encoded(bytes, stored.encoding, shape[1], stored.order).map(Weight::Host);
                }
                stored.read()?
            }
        };
        let host = match dtype {
            DType::F32 => HostWeight::dense(tensor)?,
            DType::BF16 => owned(Encoding::Bf16, &tensor, shape, |x| half::bf16::from_f32(x).to_le_bytes())?,
            _ => {
                self.check_f16(name, &tensor.flatten_all()?.to_vec1()?)?;
                owned(Encoding::F16, &tensor, shape, |x| half::f16::from_f32(x).to_le_bytes())?
            }
        };
        Ok(Weight::Host(host))
    }

    /// What f16 cannot hold would become infinite without a word.
    fn check_f16(&self, name: &str, numbers: &[f32]) -> Result<()> {
        match numbers.iter().find(|x| x.is_finite() && half::f16::from_f32(**x).is_infinite()) {
            None => Ok(()),
            Some(x) => Err(Error::NotFinite(format!(
                "{}: tensor `{name}` holds {x:e}, but f16 ends at {}: use --dtype bf16 or f32",
                self.path().display(),
                half::f16::MAX
            ))),
        }
    }

    /// Refuses weights without this tensor in this shape.
    ///
    /// # Errors
    /// It is missing, has another shape, or a type that holds no weights.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.stored(name, shape).map(|_| ())
    }

    /// Bytes that the file's matrices take in memory when they are held so on the CPU: those that do not stay mapped.
    pub fn converted_bytes(&self, dtype: DType, storage: WeightStorage) -> u64 {
        if storage == WeightStorage::Stored {
            return 0;
        }
        let wide = |elements: &[usize]| elements.iter().fold(1_u64, |product, n| product.saturating_mul(*n as u64));
        let stays = |stored: Option<Encoding>| {
            storage == WeightStorage::Dense && stored.is_some() && stored == Encoding::of_dtype(dtype)
        };
        let elements: u64 = match &self.0 {
            WeightSource::Shards { shards, .. } => {
                let all = shards.iter().flat_map(|shard| shard.tensors.values());
                all.filter(|(dtype, shape, _)| shape.len() > 1 && !stays(encoding(*dtype)))
                    .map(|(_, shape, _)| wide(shape))
                    .sum()
            }
            WeightSource::Gguf(file) => {
                let stored = |name: &&str| file.place(name).ok().map(|(encoding, _)| encoding);
                let shapes = file.names().filter(|name| !stays(stored(name))).filter_map(|name| file.shape(name));
                shapes.filter(|shape| shape.len() > 1).map(wide).sum()
            }
            WeightSource::Random(_) => 0,
        };
        elements.saturating_mul(dtype.size_in_bytes() as u64)
    }

    fn stored(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>> {
        match &self.0 {
            WeightSource::Shards { shards, shard_of } => {
                let Some(shard) = shard_of.get(name).and_then(|&index| shards.get(index)) else {
                    return Err(Error::malformed(self.path(), format!("missing tensor `{name}`, expected shape {shape:?}")));
                };
                shard.stored(name, shape)
            }
            WeightSource::Gguf(file) => stored_in_gguf(file, name, shape),
            WeightSource::Random(_) => Err(Error::Argument(format!("random weights: tensor `{name}` is in no file"))),
        }
    }

    /// The metadata of a GGUF file; `None` for safetensors.
    pub fn gguf_metadata(&self) -> Option<&HashMap<String, Value>> {
        match &self.0 {
            WeightSource::Shards { .. } | WeightSource::Random(_) => None,
            WeightSource::Gguf(file) => Some(file.metadata()),
        }
    }

    /// The shape of a GGUF file's tensor by its GGUF name, outermost dimension first; `None` for safetensors.
    pub fn gguf_shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.0 {
            WeightSource::Shards { .. } | WeightSource::Random(_) => None,
            WeightSource::Gguf(file) => file.shape(name).map(<[usize]>::to_vec),
        }
    }

    /// The file, or the folder of several shards: for messages.
    pub fn path(&self) -> &Path {
        match &self.0 {
            WeightSource::Gguf(file) => &file.path,
            WeightSource::Random(_) => Path::new("random weights"),
            WeightSource::Shards { shards, .. } => match shards.as_slice() {
                [shard] => &shard.path,
                shards => shards.first().and_then(|shard| shard.path.parent()).unwrap_or(Path::new("")),
            },
        }
    }
}

impl OpenShard {
    fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::read(path, source);
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(8).read_to_end(&mut head)).map_err(read)?;
        if let Some(problem) = git_lfs_pointer(&head) {
            return Err(Error::malformed(path, problem));
        }
        let map = map_file(path)?;
        let problem = |error| Error::malformed(path, safetensors_problem(&error));
        let parsed = SafeTensors::deserialize(&map).map_err(problem)?;
        let start = map.as_ptr() as usize;
        let entry = |(name, view): (String, safetensors::tensor::TensorView)| {
            let from = view.data().as_ptr() as usize - start;
            (name, (view.dtype(), view.shape().to_vec(), from..from + view.data().len()))
        };
        let tensors = parsed.tensors().into_iter().map(entry).collect();
        Ok(Self { path: path.to_path_buf(), tensors, map: Arc::new(map) })
    }

    fn stored(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>> {
        let Some((dtype, found, range)) = self.tensors.get(name) else {
            return Err(Error::malformed(&self.path, format!("missing tensor `{name}`, expected shape {shape:?}")));
        };
        check_shape(&self.path, name, shape, found)?;
        let Some(encoding) = encoding(*dtype) else {
            let problem = format!("tensor `{name}`: expected F32, F16 or BF16, found {dtype:?}");
            return Err(Error::malformed(&self.path, problem));
        };
        Ok(StoredTensor {
            path: &self.path,
            name: name.to_owned(),
            shape: shape.to_vec(),
            encoding,
            order: RowOrder::Plain,
            map: &self.map,
            range: range.clone(),
        })
    }
}

/// How a safetensors file has numbers of this type; none where they are no weights.
fn encoding(dtype: Dtype) -> Option<Encoding> {
    match dtype {
        Dtype::F32 => Some(Encoding::F32),
        Dtype::F16 => Some(Encoding::F16),
        Dtype::BF16 => Some(Encoding::Bf16),
        _ => None,
    }
}

impl StoredTensor<'_> {
    /// The tensor in memory, f32 on the CPU. The file is read, not the map: what is converted need not stay mapped.
    fn read(&self) -> Result<Tensor> {
        let failed = |source| Error::read(self.path, source);
        let mut bytes = vec![0; self.range.len()];
        let mut file = File::open(self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.range.start as u64)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
        let (rows, cols) = match self.shape.as_slice() {
            [rows, cols] => (*rows, *cols),
            [rows] if self.order != RowOrder::Plain => (*rows, 1),
            shape => (1, shape.iter().product()),
        };
        let row_bytes = self.encoding.row_bytes(cols).filter(|row_bytes| row_bytes.checked_mul(rows) == Some(bytes.len()));
        let Some(row_bytes) = row_bytes else {
            let (name, encoding, length) = (&self.name, self.encoding, bytes.len());
            let problem = format!("tensor `{name}`: {length} bytes in {encoding:?} are not {rows} rows of {cols} elements");
            return Err(Error::malformed(self.path, problem));
        };
        let mut data = vec![0f32; rows * cols];
        data.par_chunks_mut(cols.max(1)).enumerate().with_min_len(64).for_each(|(row, out)| {
            let at = self.order.stored(row, rows) * row_bytes;
            self.encoding.decode(&bytes[at..at + row_bytes], out);
        });
        Ok(Tensor::from_vec(data, self.shape.as_slice(), &Device::Cpu)?)
    }
}

/// A matrix converted to a type of two bytes.
fn owned(encoding: Encoding, tensor: &Tensor, shape: [usize; 2], to: fn(f32) -> [u8; 2]) -> Result<HostWeight> {
    let floats = tensor.flatten_all()?.to_vec1::<f32>()?;
    let bytes = floats.into_iter().flat_map(to).collect();
    HostWeight::encoded(Bytes::Owned(bytes), encoding, shape[1], RowOrder::Plain)
}

fn stored_in_gguf<'a>(file: &'a Gguf, name: &str, shape: &[usize]) -> Result<StoredTensor<'a>> {
    let stored = gguf_name(name).and_then(|stored| file.shape(&stored).map(|found| (stored, found)));
    let Some((stored, found)) = stored else {
        let stored = gguf_name(name).unwrap_or_else(|| name.to_owned());
        return Err(Error::malformed(&file.path, format!("missing tensor `{stored}`, expected shape {shape:?}")));
    };
    check_shape(&file.path, &stored, shape, found)?;
    let order = match interleaved_heads(file, name)? {
        Some(heads) if heads == 0 || !shape[0].is_multiple_of(2 * heads) => {
            let problem = format!("tensor `{stored}`: {} rows cannot be split into {heads} heads", shape[0]);
            return Err(Error::malformed(&file.path, problem));
        }
        Some(heads) => RowOrder::Interleaved { heads },
        None => RowOrder::Plain,
    };
    let (encoding, range) = file.place(&stored)?;
    Ok(StoredTensor { path: &file.path, name: stored, shape: shape.to_vec(), encoding, order, map: &file.map, range })
}

fn check_shape(path: &Path, name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::malformed(path, format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")))
}

/// How many heads the rows of this tensor belong to, if the file interleaves their rotary pairs: llama.cpp's converter does so
/// to the queries and keys of some families.
fn interleaved_heads(file: &Gguf, name: &str) -> Result<Option<usize>> {
    let metadata = GgufMetadata::new(file.metadata(), &file.path);
    let arch = metadata.required_text("general.architecture")?;
    if !Family::of(arch).is_some_and(|family| family.interleaved) {
        return Ok(None);
    }
    let query_heads = metadata.size(&format!("{arch}.attention.head_count"))?;
    if name.contains(".q_proj.") {
        return Ok(query_heads);
    }
    if name.contains(".k_proj.") {
        return Ok(metadata.size(&format!("{arch}.attention.head_count_kv"))?.or(query_heads));
    }
    Ok(None)
}

fn safetensors_problem(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            "the file's length is not what its header says: it is truncated or broken; download it again".to_owned()
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeader(_) => {
            format!("not a safetensors file: {error}")
        }
        other => format!("broken safetensors header: {other}"),
    }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
