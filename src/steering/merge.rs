//! Bakes a vector into a model: the residual after block L is `middle + down_proj(·)`, so a bias of m·v on the down projection
//! of block L adds it at every token, in every program that reads the bias (docs/engines.md names them). Copies a checkpoint tensor by tensor, its types kept;
//! the new directory appears complete or not at all. Only safetensors, and only where the architecture has such a bias, or where the
//! model computes what a Llama of the same weights does and can be written as one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use crate::machine::bytes::Bytes;
use crate::machine::files::{DraftDir, remove_abandoned};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::family::{FAMILIES, Flag};
use crate::model::weights::Weights;
use crate::steering::as_llama;
use crate::steering::positions::{Positions, in_words};
use crate::steering::vector::SteeringVector;
use crate::{Error, Result};

/// What goes along with weights and configuration, where it is there.
const COMPANIONS: [&str; 15] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "USE_POLICY.md",
];

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
const MLP_BIAS: &str = "mlp_bias";

/// A merge that was found possible; nothing is written yet.
#[derive(Debug)]
pub struct Merge {
    shards: Vec<Shard>,
    config: Map<String, Value>,
    /// Folder of the original's files.
    source: PathBuf,
    /// `model_type` of the original's configuration.
    pub model_type: String,
    /// Whether the model is written as `LlamaForCausalLM`, since its own type has no bias.
    pub is_as_llama: bool,
    /// The steered layers, ascending.
    pub layers: Vec<usize>,
    /// Files to write beside the model, by name.
    beside: Vec<(String, Vec<u8>)>,
}

/// A weights file and the tensors to write in its place.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    data_start: u64,
    strings: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo, MergedFile)>,
}

#[derive(Debug)]
enum MergedFile {
    /// Bytes of the original file, at the offsets of the tensor there.
    Copied,
    New(Vec<u8>),
}

impl Merge {
    /// Checks that `magnitude` times `vector` can be baked into the model of `checkpoint`, and makes the bias tensors.
    ///
    /// # Errors
    /// The model is a GGUF file or of an architecture without a bias, the vector does not fit it is not added, or not at all positions,
    /// a weights file is broken, or a product is not finite in the type of the weights.
    pub fn new(checkpoint: &Checkpoint, vector: &SteeringVector, magnitude: f64) -> Result<Self> {
        let (config_path, shards) = match checkpoint {
            Checkpoint::Safetensors { config, shards, .. } => (config, shards),
            Checkpoint::Gguf { path, .. } => return Err(no_bias(path, "a GGUF file is not rewritten")),
        };
        let config = Config::read(config_path)?;
        let is_as_llama = !with_mlp_bias().contains(&config.model_type.as_str());
        if is_as_llama {
            as_llama::check(&config).map_err(|reason| no_bias(config_path, &reason))?;
        }
        vector.check_model(config.hidden_size, config.num_hidden_layers)?;
        if !vector.metadata.operation.is_addition() {
            let operation = vector.metadata.operation;
            let problem = format!("the vector's operation is {operation}, but a bias only adds: it cannot be merged");
            return Err(Error::Argument(problem));
        }
        let (positions, spans) = (vector.metadata.positions, vector.metadata.spans);
        if positions != Positions::All || spans.is_some() {
            let only = in_words(positions, spans);
            let problem = format!(
                "the vector is added at {only}, but a bias acts at every token: only a vector for all positions can be merged"
            );
            return Err(Error::Argument(problem));
        }
        Weights::open(checkpoint)?;
        let mut merge = Self {
            shards: shards.iter().map(|path| Shard::read(path)).collect::<Result<_>>()?,
            config: read_object(config_path)?,
            source: config_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            model_type: config.model_type.clone(),
            is_as_llama,
            layers: vector.layers.keys().copied().collect(),
            beside: Vec::new(),
        };
        for block in 0..config.num_hidden_layers {
            merge.add_biases(&config, block)?;
        }
        if is_as_llama {
            as_llama::rewrite(&mut merge.config, &config);
        }
        // The output of the MLP, its bias included, is multiplied before it is added to the residual.
        let magnitude = magnitude / config.architecture.residual_multiplier;
        for (layer, v) in &vector.layers {
            merge.add_to_bias(*layer, v, magnitude)?;
        }
        merge.config.insert(MLP_BIAS.to_owned(), true.into());
        Ok(merge)
    }

    /// Has a file of this name and content written beside the model.
    pub fn with_file(mut self, name: &str, content: Vec<u8>) -> Self {
        self.beside.push((name.to_owned(), content));
        self
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Writes the model to `dir`, which must not exist or be empty. `on_progress` gets the bytes done and of all; its error
    /// ends the copy and leaves nothing behind.
    ///
    /// # Errors
    /// The directory holds something or cannot be written, or the disk has too little room.
    pub fn write(mut self, dir: &Path, mut on_progress: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        check_target(dir)?;
        std::fs::create_dir_all(parent).map_err(|source| Error::write(dir, source))?;
        remove_abandoned(parent);
        check_room(dir, parent, self.bytes())?;
        let draft = DraftDir::new(parent).map_err(|source| Error::write(dir, source))?;
        self.write_draft(draft.path(), &mut on_progress).map_err(|error| match error {
            // The user knows the directory by its name to come.
            Error::Write { path, source } => {
                Error::write(path.strip_prefix(draft.path()).map_or_else(|_| dir.to_owned(), |name| dir.join(name)), source)
            }
            error => error,
        })?;
        draft.publish(dir).map_err(|source| Error::write(dir, source))
    }

    fn write_draft(&mut self, draft: &Path, on_progress: &mut impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let total = self.bytes();
        let mut done = 0;
        for shard in &mut self.shards {
            let name = shard.path.file_name().unwrap_or_default();
            shard.write(&draft.join(name), |bytes| {
                done += bytes;
                on_progress(done, total)
            })?;
        }
        self.write_config(draft)?;
        COMPANIONS.iter().try_for_each(|name| copy(&self.source.join(name), &draft.join(name)))?;
        self.beside.iter().try_for_each(|(name, content)| write_synced(&draft.join(name), content))
    }

    /// Zero biases for the MLP of a block that has none. Where queries, keys and values have biases, Llama has one of the attention's
    /// output, too.
    fn add_biases(&mut self, config: &Config, block: usize) -> Result<()> {
        let (inner, architecture) = (config.intermediate_size, &config.architecture);
        let all = [("mlp.gate_proj", inner), ("mlp.up_proj", inner), ("mlp.down_proj", config.hidden_size)];
        let mlp = all.into_iter().filter(|_| !architecture.mlp_bias);
        let needs_o_bias = architecture.qkv_bias && !architecture.o_bias;
        let attention = needs_o_bias.then_some(("self_attn.o_proj", config.hidden_size));
        for (module, outputs) in mlp.chain(attention) {
            let module = format!("model.layers.{block}.{module}");
            let (shard, at) = self.find(&format!("{module}.weight"))?;
            let shard = &mut self.shards[shard];
            let dtype = shard.tensors[at].1.dtype;
            let bytes = vec![0; outputs * dtype.bitsize() / 8];
            let info = TensorInfo { dtype, shape: vec![outputs], data_offsets: (0, bytes.len()) };
            shard.tensors.push((format!("{module}.bias"), info, MergedFile::New(bytes)));
        }
        Ok(())
    }

    /// Adds magnitude·v to the bias of a block's down projection.
    fn add_to_bias(&mut self, layer: usize, v: &[f32], magnitude: f64) -> Result<()> {
        let name = format!("model.layers.{layer}.mlp.down_proj.bias");
        let (shard, at) = self.find(&name)?;
        let shard = &mut self.shards[shard];
        let old = shard.content(at)?;
        let info = &shard.tensors[at].1;
        if info.shape != [v.len()] {
            let problem = format!("tensor `{name}`: expected shape {:?}, found {:?}", [v.len()], info.shape);
            return Err(Error::malformed(&shard.path, problem));
        }
        let sum = add(info.dtype, &old, v, magnitude).map_err(|problem| match problem {
            BiasProblem::Dtype => {
                Error::malformed(&shard.path, format!("tensor `{name}`: expected F32, F16 or BF16, found {}", info.dtype))
            }
            BiasProblem::NotFinite => {
                Error::NotFinite(format!("layer {layer}: the vector times the magnitude is not finite in {}", info.dtype))
            }
        })?;
        shard.tensors[at].2 = MergedFile::New(sum);
        Ok(())
    }

    /// Index of the shard that holds a tensor, and of the tensor in it.
    fn find(&self, name: &str) -> Result<(usize, usize)> {
        let at = |shard: &Shard| shard.tensors.iter().position(|(tensor, ..)| tensor == name);
        let found = self.shards.iter().enumerate().find_map(|(index, shard)| Some((index, at(shard)?)));
        found.ok_or_else(|| Error::malformed(&self.source, format!("missing tensor `{name}`")))
    }

    fn write_config(&self, dir: &Path) -> Result<()> {
        let write = |name: &str, value: &Value| {
            let path = dir.join(name);
            write_synced(&path, format!("{value:#}\n").as_bytes())
        };
        write(CONFIG, &Value::Object(self.config.clone()))?;
        if self.shards.len() < 2 {
            return Ok(());
        }
        let file = |shard: &Shard| shard.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let map: BTreeMap<&str, String> = self
            .shards
            .iter()
            .flat_map(|shard| shard.tensors.iter().map(move |(name, ..)| (name.as_str(), file(shard))))
            .collect();
        write(INDEX, &json!({"metadata": {"total_size": self.bytes()}, "weight_map": map}))
    }
}

/// The model types whose MLP may have a bias in `transformers`: those whose configuration has a key for it.
fn with_mlp_bias() -> Vec<&'static str> {
    let with_key = FAMILIES.iter().filter(|family| matches!(family.mlp_bias, Flag::Key(_)));
    with_key.map(|family| family.name).collect()
}

fn no_bias(path: &Path, reason: &str) -> Error {
    Error::malformed(
        path,
        format!(
            "{reason}, expected a safetensors model of type {}, or one of type {} without a sliding window: an export to vllm-lens, \
             easysteer, llama.cpp, lm-eval or pyvene steers it without a change of its weights",
            with_mlp_bias().join(", "),
            as_llama::MODEL_TYPES.join(" or ")
        ),
    )
}

impl Shard {
    /// Reads the header of a file that [`Weights::open`] found whole.
    fn read(path: &Path) -> Result<Self> {
        let read = |source| Error::read(path, source);
        let mut file = BufReader::new(File::open(path).map_err(read)?);
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        let header: Metadata = serde_json::from_reader(file.take(length))
            .map_err(|error| Error::malformed(path, format!("broken safetensors header: {error}")))?;
        let named = |name: String| header.info(&name).cloned().map(|info| (name, info, MergedFile::Copied));
        Ok(Self {
            path: path.to_owned(),
            data_start: 8 + length,
            strings: header.metadata().clone().unwrap_or_default().into_iter().collect(),
            tensors: header.offset_keys().into_iter().filter_map(named).collect(),
        })
    }

    fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, info, _)| (info.data_offsets.1 - info.data_offsets.0) as u64).sum()
    }

    /// The bytes of one tensor.
    fn content(&self, at: usize) -> Result<Vec<u8>> {
        let (_, info, content) = &self.tensors[at];
        match content {
            MergedFile::New(bytes) => Ok(bytes.clone()),
            MergedFile::Copied => {
                let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
                let read = File::open(&self.path).and_then(|mut file| {
                    file.seek(SeekFrom::Start(self.data_start + info.data_offsets.0 as u64))?;
                    file.read_exact(&mut bytes)
                });
                read.map(|()| bytes).map_err(|source| Error::read(&self.path, source))
            }
        }
    }

    /// Writes the file anew, wide types first as readers expect their alignment. `on_bytes` gets the length of each part of it.
    fn write(&mut self, path: &Path, mut on_bytes: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let write = |source| Error::write(path, source);
        self.tensors.sort_by_key(|(_, info, _)| std::cmp::Reverse(info.dtype.bitsize()));
        let mut original = BufReader::new(File::open(&self.path).map_err(|source| Error::read(&self.path, source))?);
        let mut file = BufWriter::new(File::create(path).map_err(write)?);
        file.write_all(&self.header()).map_err(write)?;
        for (_, info, content) in &self.tensors {
            let length = (info.data_offsets.1 - info.data_offsets.0) as u64;
            match content {
                MergedFile::New(bytes) => {
                    file.write_all(bytes).map_err(write)?;
                    on_bytes(length)?;
                }
                MergedFile::Copied => {
                    let start = self.data_start + info.data_offsets.0 as u64;
                    original.seek(SeekFrom::Start(start)).map_err(|source| Error::read(&self.path, source))?;
                    let mut left = length;
                    while left > 0 {
                        let part = left.min(COPIED_AT_ONCE);
                        let copied = std::io::copy(&mut original.by_ref().take(part), &mut file).map_err(write)?;
                        if copied != part {
                            return Err(Error::malformed(&self.path, "became shorter while it was copied"));
                        }
                        left -= part;
                        on_bytes(part)?;
                    }
                }
            }
        }
        let file = file.into_inner().map_err(|error| write(error.into_error()))?;
        file.sync_all().map_err(write)
    }

    /// The header for the tensors in their order, padded to eight bytes.
    fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        if !self.strings.is_empty() {
            header.insert("__metadata__".to_owned(), json!(self.strings));
        }
        let mut start = 0;
        for (name, info, _) in &self.tensors {
            let end = start + (info.data_offsets.1 - info.data_offsets.0);
            let entry = json!({"dtype": info.dtype, "shape": info.shape, "data_offsets": [start, end]});
            header.insert(name.clone(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header].concat()
    }
}

/// Bytes that are copied between two looks at whether the copy is still wanted.
const COPIED_AT_ONCE: u64 = 16 << 20;

/// Why a bias cannot be summed.
enum BiasProblem {
    Dtype,
    NotFinite,
}

/// old + magnitude·v, computed in f64 and rounded once.
fn add(dtype: Dtype, old: &[u8], v: &[f32], magnitude: f64) -> Result<Vec<u8>, BiasProblem> {
    let by = |i: usize| v.get(i).map_or(0.0, |x| magnitude * f64::from(*x));
    let mut out = Vec::with_capacity(old.len());
    let mut finite = true;
    match dtype {
        Dtype::F32 => old.as_chunks().0.iter().enumerate().for_each(|(i, bytes)| {
            let sum = (f64::from(f32::from_le_bytes(*bytes)) + by(i)) as f32;
            finite &= sum.is_finite();
            out.extend(sum.to_le_bytes());
        }),
        Dtype::F16 => old.as_chunks().0.iter().enumerate().for_each(|(i, bytes)| {
            let sum = f16::from_f64(f16::from_le_bytes(*bytes).to_f64() + by(i));
            finite &= sum.is_finite();
            out.extend(sum.to_le_bytes());
        }),
        Dtype::BF16 => old.as_chunks().0.iter().enumerate().for_each(|(i, bytes)| {
            let sum = bf16::from_f64(bf16::from_le_bytes(*bytes).to_f64() + by(i));
            finite &= sum.is_finite();
            out.extend(sum.to_le_bytes());
        }),
        _ => return Err(BiasProblem::Dtype),
    }
    if finite { Ok(out) } else { Err(BiasProblem::NotFinite) }
}

/// Refuses a directory that holds something.
fn check_target(dir: &Path) -> Result<()> {
    match std::fs::read_dir(dir).map(Iterator::count) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::Argument(format!("cannot write to {}: {error}", dir.display()))),
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::Argument(format!("{} is not empty: choose a directory that does not exist yet", dir.display()))),
    }
}

/// The room left over on a disk beside the model's weights.
const MARGIN_BYTES: u64 = 64 << 20;

fn check_room(dir: &Path, parent: &Path, bytes: u64) -> Result<()> {
    match free_bytes(parent) {
        Some(free) if free < bytes + MARGIN_BYTES => {
            let (free, bytes, margin) = (Bytes(free), Bytes(bytes), Bytes(MARGIN_BYTES));
            let problem = format!(
                "the disk has {free} free, but the weights take {bytes}, and {margin} are kept for what is beside them: make room, \
                 or choose another disk"
            );
            Err(Error::write(dir, std::io::Error::new(std::io::ErrorKind::StorageFull, problem)))
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Not known: the copy fails where the disk is full, and leaves nothing behind.
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::read(path, source))?;
    serde_json::from_str(&text).map_err(|error| Error::malformed(path, format!("broken JSON: {error}")))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    match std::fs::read(from) {
        Ok(bytes) => write_synced(to, &bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::read(from, source)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::write(path, source))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
