//! Where the cached tensors lie: on the model's device, or in main memory up to a limit, the rest in a temporary file that is
//! mapped into memory once it is written. The file has no name: it goes with the process, however that ends.

// A memory map of a file that nobody else can open.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use memmap2::Mmap;
use safetensors::View;

use crate::{Error, Result};

/// A cached tensor.
#[derive(Debug, Clone)]
pub(super) enum CachedTensor {
    Memory(Tensor),
    Spilled { start: usize, shape: Shape, dtype: DType },
}

/// Takes tensors in.
#[derive(Debug)]
pub(super) struct StoreWriter {
    memory_left: u64,
    device: Option<Device>,
    spill_dir: PathBuf,
    spill: Option<BufWriter<File>>,
    spilled: usize,
}

impl StoreWriter {
    /// Up to `memory` bytes stay in memory, that of `device`, or without one that where they lie; a file in `spill_dir` takes the
    /// rest.
    pub fn new(memory: u64, device: Option<Device>, spill_dir: &Path) -> Self {
        Self { memory_left: memory, device, spill_dir: spill_dir.to_owned(), spill: None, spilled: 0 }
    }

    /// Keeps a tensor.
    pub fn put(&mut self, tensor: Tensor) -> Result<CachedTensor> {
        let bytes = (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        if bytes <= self.memory_left {
            self.memory_left -= bytes;
            let moved = self.device.as_ref().map(|device| tensor.to_device(device)).transpose()?;
            return Ok(CachedTensor::Memory(moved.unwrap_or(tensor)));
        }
        // The first that does not fit ends it: what comes after is not searched for smaller pieces.
        self.memory_left = 0;
        let tensor = tensor.to_device(&Device::Cpu)?;
        let start = self.spilled;
        let data: Cow<[u8]> = View::data(&tensor);
        self.write(&data).map_err(|error| failed(&self.spill_dir, &error))?;
        self.spilled += data.len();
        Ok(CachedTensor::Spilled { start, shape: tensor.shape().clone(), dtype: tensor.dtype() })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(BufWriter::new(tempfile::tempfile_in(&self.spill_dir)?)),
        };
        spill.write_all(bytes)
    }

    /// What was put, for reading.
    pub fn finish(self) -> Result<TensorStore> {
        let Some(spill) = self.spill else { return Ok(TensorStore { map: None }) };
        let mapped = spill.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| {
            // SAFETY: the file has no name and only this process had it open, so nobody writes to it or cuts it short.
            unsafe { Mmap::map(&file) }
        });
        Ok(TensorStore { map: Some(Arc::new(mapped.map_err(|error| failed(&self.spill_dir, &error))?)) })
    }
}

fn failed(dir: &Path, error: &std::io::Error) -> Error {
    let problem = format!("the activation cache's temporary file: {error}; free some space or let the cache take more memory");
    Error::write(dir, std::io::Error::new(error.kind(), problem))
}

/// Gives tensors back.
#[derive(Debug, Clone)]
pub(super) struct TensorStore {
    map: Option<Arc<Mmap>>,
}

impl TensorStore {
    /// The tensor where it lies, a file's in main memory: joined there, a batch is one transfer to wherever it is needed.
    pub fn get(&self, stored: &CachedTensor) -> Result<Tensor> {
        match stored {
            CachedTensor::Memory(tensor) => Ok(tensor.clone()),
            CachedTensor::Spilled { start, shape, dtype } => {
                let len = shape.elem_count() * dtype.size_in_bytes();
                let bytes = self.map.as_ref().and_then(|map| map.get(*start..start + len));
                let bytes = bytes.ok_or_else(|| candle_core::Error::msg("the activation cache's file is too short"))?;
                Ok(Tensor::from_raw_buffer(bytes, *dtype, shape.dims(), &Device::Cpu)?)
            }
        }
    }
}

/// Bytes that a user may still write to the file system of `dir`; unknown where the system does not say.
pub(super) fn free_space(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(dir).ok().map(|system| system.f_bavail.saturating_mul(system.f_frsize));
    #[cfg(not(unix))]
    return None;
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
