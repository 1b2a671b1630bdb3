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

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::gguf::{Gguf, StoredAt};
use super::mapped::{git_lfs_pointer, map_file};
use super::names::{FileTensor, Naming};
use super::random::{self, MadeOn};
use crate::ops::encoding::Encoding;
use crate::ops::weight::{HostWeight, RowOrder, WeightBytes};
use crate::{Error, Result};

/// Where the frozen matrices of a model are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// Matrices in memory, in the model's dtype; mapped where the file has them so. On the CPU.
    Dense,
    /// Matrices in the mapped file, as it has them, decoded whenever they are used. On the CPU.
    Stored,
    /// Candle's tensors, on any device.
    Tensors,
}

/// The open weights of a checkpoint.
pub struct Weights(WeightSource);

enum WeightSource {
    Shards { shards: Vec<OpenShard>, shard_of: HashMap<String, usize>, naming: Naming },
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

impl StoredTensor<'_> {
    /// Whether its elements are stored as numbers of this type.
    fn has_dtype(&self, dtype: DType) -> bool {
        Encoding::of_dtype(dtype) == Some(self.encoding)
    }
}

impl Weights {
    /// Returns the files of the weights; none where they are made up.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        match &self.0 {
            WeightSource::Shards { shards, .. } => shards.iter().map(|shard| shard.path.as_path()).collect(),
            WeightSource::Gguf(file) => file.paths().collect(),
            WeightSource::Random(_) => Vec::new(),
        }
    }

    /// Opens a checkpoint's weights: reads and checks the headers, no tensor yet.
    ///
    /// # Errors
    /// A file cannot be read, or its header is broken.
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
        let naming = Naming::of_safetensors(|name| shard_of.contains_key(name));
        Ok(Self(WeightSource::Shards { shards, shard_of, naming }))
    }

    /// Weights of no file, whatever the shape.
    pub fn random(made_on: MadeOn) -> Self {
        Self(WeightSource::Random(made_on))
    }

    /// Loads a tensor of a model of this configuration, which must have this shape, in `dtype` on `device`. Queries and keys
    /// come in the half-split rotary order, however the file has them.
    ///
    /// # Errors
    /// The tensor is missing, has another shape or a type that holds no weights, or cannot be read.
    pub fn load(&self, name: &str, shape: &[usize], config: &Config, dtype: DType, device: &Device) -> Result<Tensor> {
        let is_around_one = config.architecture.norms.one_plus_weight && name.ends_with("norm.weight");
        if let WeightSource::Random(made_on) = self.0 {
            let tensor = random::tensor(made_on, name, shape, dtype, device)?;
            return if is_around_one { Ok((tensor - 1.0)?) } else { Ok(tensor) };
        }
        let mut tensor = self.stored(name, shape, config)?.read()?;
        // llama.cpp's converter adds 1 to the weights of such norms.
        if is_around_one && matches!(self.0, WeightSource::Gguf(_)) {
            tensor = (tensor - 1.0)?;
        }
        if dtype == DType::F16 {
            self.check_f16(name, &tensor.flatten_all()?.to_vec1()?)?;
        }
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    /// A matrix of a model of this configuration on the CPU, which must have this shape: in `dtype`, or with
    /// [`WeightStorage::Stored`] as the file has it. `(O, I)`
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub(crate) fn host_matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        config: &Config,
        dtype: DType,
        storage: WeightStorage,
    ) -> Result<HostWeight> {
        let tensor = match &self.0 {
            WeightSource::Random(made_on) => random::tensor(*made_on, name, &shape, DType::F32, &Device::Cpu)?,
            _ => {
                let stored = self.stored(name, &shape, config)?;
                let same = stored.has_dtype(dtype) && stored.order == RowOrder::Plain;
                if storage == WeightStorage::Stored || same {
                    let bytes = WeightBytes::Mapped(stored.map.clone(), stored.range.clone());
                    if storage == WeightStorage::Dense && dtype == DType::BF16 {
                        return HostWeight::bf16(bytes, shape[1]);
                    }
                    return HostWeight::encoded(bytes, stored.encoding, shape[1], stored.order);
                }
                stored.read()?
            }
        };
        if dtype == DType::F16 {
            self.check_f16(name, &tensor.flatten_all()?.to_vec1()?)?;
        }
        HostWeight::of_dtype(&tensor, dtype)
    }

    /// What f16 cannot hold would become infinite without a word.
    fn check_f16(&self, name: &str, numbers: &[f32]) -> Result<()> {
        match numbers.iter().find(|x| x.is_finite() && half::f16::from_f32(**x).is_infinite()) {
            None => Ok(()),
            Some(x) => Err(Error::NotFinite(format!(
                "{}: tensor `{name}` holds {x:e}, but f16 ends at {}: use bf16 or f32",
                self.path().display(),
                half::f16::MAX
            ))),
        }
    }

    /// Refuses weights whose embeddings are not those of a model of this configuration.
    ///
    /// # Errors
    /// The embeddings are missing, have another shape, or a type that holds no weights.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        self.stored("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size], config).map(|_| ())
    }

    /// The numbers of a GGUF file's vector by its GGUF name; `None` where it has none.
    ///
    /// # Errors
    /// The vector has another length, or cannot be read.
    pub(crate) fn gguf_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        let WeightSource::Gguf(file) = &self.0 else { return Ok(None) };
        if file.shape(name).is_none() {
            return Ok(None);
        }
        let candidate = FileTensor { name: name.to_owned(), shape: vec![length], first_row: 0, order: RowOrder::Plain };
        Ok(Some(stored_in_gguf(file, &[candidate], &[length])?.read()?.to_vec1()?))
    }

    /// Bytes that the file's matrices take in memory when a model of this configuration holds them so on the CPU: those that do
    /// not stay mapped.
    pub fn converted_bytes(&self, config: &Config, dtype: DType, storage: WeightStorage) -> u64 {
        if storage == WeightStorage::Stored {
            return 0;
        }
        let wide = |elements: &[usize]| elements.iter().fold(1_u64, |product, n| product.saturating_mul(*n as u64));
        let stays = |stored: Option<Encoding>| {
            storage == WeightStorage::Dense && stored.is_some() && stored == Encoding::of_dtype(dtype)
        };
        let elements: u64 = match &self.0 {
            WeightSource::Shards { shards, naming, .. } => {
                let all = shards.iter().flat_map(|shard| &shard.tensors);
                let of_model = all.filter(|(name, _)| naming.is_of_language_model(name)).map(|(_, tensor)| tensor);
                // bf16 that begins at an odd byte is copied.
                let is_odd = |dtype: Dtype, range: &Range<usize>| dtype == Dtype::BF16 && range.start % 2 == 1;
                of_model
                    .filter(|(stored, shape, range)| shape.len() > 1 && (!stays(encoding(*stored)) || is_odd(*stored, range)))
                    .map(|(_, shape, _)| wide(shape))
                    .sum()
            }
            WeightSource::Gguf(file) => {
                let stored = |name: &&str| file.place(name).ok().map(|stored| stored.encoding);
                let shapes = file.names().filter(|name| !stays(stored(name))).filter_map(|name| file.shape(name));
                shapes.filter(|shape| shape.len() > 1).map(wide).sum()
            }
            WeightSource::Random(_) => 0,
        };
        let reordered = if storage == WeightStorage::Dense { self.reordered(config, dtype) } else { 0 };
        elements.saturating_add(reordered).saturating_mul(dtype.size_in_bytes() as u64)
    }

    /// Elements of the queries' and keys' matrices that have `dtype` already, but not their rows in order: they are copied.
    fn reordered(&self, config: &Config, dtype: DType) -> u64 {
        let (hidden, sizes) = (config.hidden_size, config.sizes());
        let widths = [("q_proj", sizes.q_width), ("k_proj", sizes.kv_width)];
        let of_block = |block: usize| {
            widths.map(|(projection, width)| {
                let name = format!("model.layers.{block}.self_attn.{projection}.weight");
                // What is missing or misshapen is named when it is loaded.
                let stored = self.stored(&name, &[width, hidden], config).ok();
                let is_copied = stored.is_some_and(|stored| stored.has_dtype(dtype) && stored.order != RowOrder::Plain);
                if is_copied { (width * hidden) as u64 } else { 0 }
            })
        };
        (0..config.num_hidden_layers).flat_map(of_block).sum()
    }

    fn stored(&self, name: &str, shape: &[usize], config: &Config) -> Result<StoredTensor<'_>> {
        match &self.0 {
            WeightSource::Shards { shards, shard_of, naming } => {
                let candidates = naming.candidates(name, shape, config);
                let in_file = |candidate: &FileTensor| {
                    let shard = shards.get(*shard_of.get(&candidate.name)?)?;
                    let tensor = shard.tensors.get(&candidate.name)?;
                    Some(((shard, tensor), tensor.1.as_slice()))
                };
                let (candidate, (shard, (dtype, stored, range))) = find(&candidates, shape, self.path(), in_file)?;
                check_shape(&shard.path, &candidate.name, &candidate.shape, stored)?;
                let Some(encoding) = encoding(*dtype) else {
                    let problem = format!("tensor `{}`: expected F32, F16 or BF16, found {dtype:?}", candidate.name);
                    return Err(Error::malformed(&shard.path, problem));
                };
                StoredTensor::new(&shard.path, candidate, shape, encoding, (&shard.map, range.clone()))
            }
            WeightSource::Gguf(file) => stored_in_gguf(file, &Naming::Gguf.candidates(name, shape, config), shape),
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
    pub(crate) fn gguf_shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.0 {
            WeightSource::Shards { .. } | WeightSource::Random(_) => None,
            WeightSource::Gguf(file) => file.shape(name).map(<[usize]>::to_vec),
        }
    }

    /// The file, or the folder of several shards: for messages.
    pub(crate) fn path(&self) -> &Path {
        match &self.0 {
            WeightSource::Gguf(file) => file.path(),
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

impl<'a> StoredTensor<'a> {
    /// The rows of `candidate` that have this shape. `stored` are the bytes of all its rows.
    fn new(
        path: &'a Path,
        candidate: &FileTensor,
        shape: &[usize],
        encoding: Encoding,
        (map, stored): (&'a Arc<Mmap>, Range<usize>),
    ) -> Result<Self> {
        let rows_of = |shape: &[usize]| shape.split_last().map_or(1, |(_, rows)| rows.iter().product::<usize>());
        let (all, wanted) = match shape {
            [count] if candidate.shape != shape => (candidate.shape[0], *count),
            _ => (rows_of(&candidate.shape), rows_of(shape)),
        };
        let row_bytes = stored.len() / all.max(1);
        let first = stored.start + candidate.first_row * row_bytes;
        let range = if all == wanted { stored } else { first..first + wanted * row_bytes };
        let (name, shape, order) = (candidate.name.clone(), shape.to_vec(), candidate.order);
        Ok(Self { path, name, shape, encoding, order, map, range })
    }

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

fn stored_in_gguf<'a>(file: &'a Gguf, candidates: &[FileTensor], shape: &[usize]) -> Result<StoredTensor<'a>> {
    let (candidate, found) =
        find(candidates, shape, file.path(), |candidate| file.shape(&candidate.name).map(|shape| (shape, shape)))?;
    let StoredAt { path, map, encoding, range } = file.place(&candidate.name)?;
    check_shape(path, &candidate.name, &candidate.shape, found)?;
    StoredTensor::new(path, candidate, shape, encoding, (map, range))
}

/// The first of these candidates that a file has in the expected shape, or if there is none, the first that it has. `in_file` gives
/// what the file has there, and its shape.
fn find<'p, 'f, T>(
    candidates: &'p [FileTensor],
    shape: &[usize],
    path: &Path,
    in_file: impl Fn(&FileTensor) -> Option<(T, &'f [usize])>,
) -> Result<(&'p FileTensor, T)> {
    let there = || candidates.iter().filter_map(|candidate| Some((candidate, in_file(candidate)?)));
    let found = there().find(|(candidate, (_, shape))| candidate.shape == *shape).or_else(|| there().next());
    found.map(|(candidate, (found, _))| (candidate, found)).ok_or_else(|| {
        let name = candidates.first().map_or("", |candidate| &candidate.name);
        Error::malformed(path, format!("missing tensor `{name}`, expected shape {shape:?}"))
    })
}

fn check_shape(path: &Path, name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::malformed(path, format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")))
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
