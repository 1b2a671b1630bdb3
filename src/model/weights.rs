//! One tensor of a checkpoint at a time, by its Hugging Face name, in the layout and type that the decoder wants. Safetensors
//! shards are memory-mapped; GGUF tensors are read and dequantised when asked for. Keeps no tensor itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Value;
use candle_core::safetensors::{Load, MmapedSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensorError};

use super::gguf::{Gguf, Metadata};
use super::resolve::Checkpoint;
use crate::error::{Error, Result};

/// The open weights of a checkpoint.
pub struct Weights(Source);

enum Source {
    Shards { shards: Vec<Shard>, shard_of: HashMap<String, usize> },
    Gguf(Gguf),
}

struct Shard {
    path: PathBuf,
    tensors: MmapedSafetensors,
}

impl Weights {
    /// Opens a checkpoint's weights: reads and checks the headers, no tensor yet.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        let paths = match checkpoint {
            Checkpoint::Gguf { path, .. } => return Gguf::open(path).map(|file| Self(Source::Gguf(file))),
            Checkpoint::Safetensors { shards, .. } => shards,
        };
        let mut shards = Vec::with_capacity(paths.len());
        let mut shard_of = HashMap::new();
        for (index, path) in paths.iter().enumerate() {
            let shard = Shard::open(path)?;
            shard_of.extend(shard.tensors.tensors().into_iter().map(|(name, _)| (name, index)));
            shards.push(shard);
        }
        Ok(Self(Source::Shards { shards, shard_of }))
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.0 {
            Source::Shards { shard_of, .. } => shard_of.contains_key(name),
            Source::Gguf(file) => gguf_name(name).is_some_and(|name| file.shape(&name).is_some()),
        }
    }

    /// Loads a tensor that must have this shape, in `dtype` on `device`. Queries and keys come in the half-split rotary order of
    /// Hugging Face, also from GGUF files that interleave them.
    pub fn load(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        match &self.0 {
            Source::Shards { shards, shard_of } => {
                let Some(shard) = shard_of.get(name).and_then(|&index| shards.get(index)) else {
                    return Err(Error::malformed(self.path(), format!("missing tensor `{name}`, expected shape {shape:?}")));
                };
                shard.load(name, shape, dtype, device)
            }
            Source::Gguf(file) => load_gguf(file, name, shape, dtype, device),
        }
    }

    /// The metadata of a GGUF file; `None` for safetensors.
    pub fn gguf_metadata(&self) -> Option<&HashMap<String, Value>> {
        match &self.0 {
            Source::Shards { .. } => None,
            Source::Gguf(file) => Some(file.metadata()),
        }
    }

    /// The shape of a GGUF file's tensor by its GGUF name, outermost dimension first; `None` for safetensors.
    pub fn gguf_shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.0 {
            Source::Shards { .. } => None,
            Source::Gguf(file) => file.shape(name).map(<[usize]>::to_vec),
        }
    }

    /// The file, or the folder of several shards: for messages.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Source::Gguf(file) => &file.path,
            Source::Shards { shards, .. } => match shards.as_slice() {
                [shard] => &shard.path,
                shards => shards.first().and_then(|shard| shard.path.parent()).unwrap_or(Path::new("")),
            },
        }
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::read(path, source);
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(8).read_to_end(&mut head)).map_err(read)?;
        if let Some(problem) = git_lfs_pointer(&head) {
            return Err(Error::malformed(path, problem));
        }
        // SAFETY: a memory map is sound while nobody changes the file; weights are written once, by a download.
        let tensors = unsafe { MmapedSafetensors::new(path) };
        let tensors = tensors.map_err(|error| Error::malformed(path, safetensors_problem(&error)))?;
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    fn load(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let view = self.tensors.get(name)?;
        check_shape(&self.path, name, shape, view.shape())?;
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let problem = format!("tensor `{name}`: expected F32, F16 or BF16, found {:?}", view.dtype());
            return Err(Error::malformed(&self.path, problem));
        }
        Ok(view.load(device)?.to_dtype(dtype)?)
    }
}

fn load_gguf(file: &Gguf, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let stored = gguf_name(name).and_then(|stored| file.shape(&stored).map(|found| (stored, found)));
    let Some((stored, found)) = stored else {
        let stored = gguf_name(name).unwrap_or_else(|| name.to_owned());
        return Err(Error::malformed(&file.path, format!("missing tensor `{stored}`, expected shape {shape:?}")));
    };
    check_shape(&file.path, &stored, shape, found)?;
    let tensor = file.load(&stored)?;
    let tensor = match interleaved_heads(file, name)? {
        Some(heads) => half_split(&tensor, heads).map_err(|error| {
            Error::malformed(&file.path, format!("tensor `{stored}`: cannot be split into {heads} heads: {}", reason(&error)))
        })?,
        None => tensor,
    };
    Ok(tensor.to_dtype(dtype)?.to_device(device)?)
}

fn check_shape(path: &Path, name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::malformed(path, format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")))
}

/// The GGUF name of a Hugging Face tensor.
fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        "rope_freqs.weight" => return Some(name.to_owned()),
        _ => {}
    }
    let (block, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{block}.{module}.{kind}"))
}

/// How many heads the rows of this tensor belong to, if the file interleaves their rotary pairs: llama.cpp's converter does so
/// to the queries and keys of the `llama` and `mistral` architectures.
fn interleaved_heads(file: &Gguf, name: &str) -> Result<Option<usize>> {
    let metadata = Metadata::new(file.metadata(), &file.path);
    let arch = metadata.required_text("general.architecture")?;
    if !matches!(arch, "llama" | "mistral") {
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

/// Undoes the interleaving of rotary pairs: row 2i + j of each head becomes row j·D/2 + i.
fn half_split(tensor: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let dims = tensor.dims();
    let pairs = tensor.reshape((heads, (), 2, dims.iter().skip(1).product::<usize>()))?; // (N, D/2, 2, in)
    pairs.transpose(1, 2)?.contiguous()?.reshape(dims)
}

/// What to say of a file that is a stand-in for the weights, as a clone without Git LFS leaves it.
pub(super) fn git_lfs_pointer(head: &[u8]) -> Option<&'static str> {
    head.starts_with(b"version ").then_some("a Git LFS pointer, not the weights: run `git lfs pull` in its folder")
}

fn safetensors_problem(error: &candle_core::Error) -> String {
    match innermost(error) {
        candle_core::Error::SafeTensor(error) => match error {
            SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
                "the file's length is not what its header says: it is truncated or broken; download it again".to_owned()
            }
            SafeTensorError::HeaderTooSmall | SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeader(_) => {
                format!("not a safetensors file: {error}")
            }
            other => format!("broken safetensors header: {other}"),
        },
        _ => format!("cannot be read as safetensors: {}", reason(error)),
    }
}

/// The innermost error: candle wraps backtraces and paths around it.
fn innermost(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. }
        | candle_core::Error::WithPath { inner, .. }
        | candle_core::Error::Context { inner, .. } => innermost(inner),
        error => error,
    }
}

/// The first line of the innermost error.
pub(super) fn reason(error: &candle_core::Error) -> String {
    innermost(error).to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
