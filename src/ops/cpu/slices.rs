//! Tensors of the CPU as slices: the f32 elements of a contiguous tensor, borrowed, and new tensors whose rows all threads
//! write.

// New memory is not cleared twice.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, Storage, StorageRef, Tensor};
use rayon::prelude::*;

use crate::Result;

/// Fewest elements that are worth a thread.
pub const WORTH_A_THREAD: usize = 2048;

/// Whether the bodies of the CPU take this tensor.
pub fn is_host_f32(t: &Tensor) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32
}

/// A contiguous f32 CPU tensor, borrowed as a slice.
pub struct HostSlice<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> HostSlice<'a> {
    /// Borrows `t`, which must be contiguous.
    pub fn new(t: &'a Tensor) -> candle_core::Result<Self> {
        let (storage, layout) = t.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("expected a contiguous tensor, found strides {:?}", layout.stride())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage, range: start..end }),
            _ => candle_core::bail!("expected an f32 tensor on the cpu, found {:?}", t.dtype()),
        }
    }
}

impl Deref for HostSlice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            // `new` admits nothing else.
            _ => &[],
        }
    }
}

/// A CPU tensor that takes ownership of `data`.
pub fn tensor(data: Vec<f32>, shape: impl candle_core::shape::ShapeWithOneHole) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// `count` rows of `width` elements in new memory. All threads call `write` with a row's index and the row, which is zero.
/// The thread that writes a row clears it just before: no other thread waits for that, and the row is in its cache.
pub fn rows(count: usize, width: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut data = Vec::with_capacity(count * width);
    let room = &mut data.spare_capacity_mut()[..count * width];
    let pieces = room.par_chunks_mut(width.max(1)).with_min_len(WORTH_A_THREAD / width.max(1));
    pieces.enumerate().for_each(|(index, row)| {
        row.fill(MaybeUninit::new(0.0));
        // SAFETY: every element was written.
        write(index, unsafe { &mut *(std::ptr::from_mut(row) as *mut [f32]) });
    });
    // SAFETY: the capacity is no less, and the chunks were all elements.
    unsafe { data.set_len(count * width) };
    data
}
