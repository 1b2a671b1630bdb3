//! A frozen matrix `(O, I)`: a tensor that candle multiplies, or rows on the CPU in their file's encoding, in memory or in a
//! mapped file. Gives rows as f32; the products are in `linear` and `head`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use rayon::prelude::*;

use super::encoding::Encoding;
use super::host::{self, HostSlice};
use crate::{Error, Result};

/// A frozen matrix. Clones share their memory.
#[derive(Debug, Clone)]
pub enum Weight {
    /// What candle's own products take: any device and float type. `(O, I)`
    Tensor(Tensor),
    /// Rows on the CPU, for f32 activations.
    Host(HostWeight),
}

/// Matrices of one width on the CPU, one above the other.
#[derive(Debug, Clone)]
pub struct HostWeight {
    parts: Vec<Part>,
    cols: usize,
}

#[derive(Debug, Clone)]
struct Part {
    storage: Storage,
    rows: usize,
}

#[derive(Debug, Clone)]
enum Storage {
    /// f32 on the CPU.
    Dense(Tensor),
    Encoded {
        bytes: Bytes,
        encoding: Encoding,
        order: RowOrder,
    },
}

/// The bytes of an encoded matrix, row by row.
#[derive(Clone)]
pub enum Bytes {
    /// In memory.
    Owned(Arc<[u8]>),
    /// In a mapped file: nothing is read before it is used, and the system may drop it again.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Owned(bytes) => write!(f, "Owned({} bytes)", bytes.len()),
            Self::Mapped(_, range) => write!(f, "Mapped({range:?})"),
        }
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

/// In which order a file holds the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As the model wants them.
    Plain,
    /// Rotary pairs interleaved in each of so many heads, as llama.cpp has queries and keys: wanted row j·D/2 + i of a head
    /// is row 2i + j.
    Interleaved {
        /// Heads that the rows belong to.
        heads: usize,
    },
}

impl RowOrder {
    /// Where the file has row `wanted` of `rows`.
    pub fn stored(self, wanted: usize, rows: usize) -> usize {
        let Self::Interleaved { heads } = self else { return wanted };
        let (width, half) = (rows / heads, rows / heads / 2);
        let (head, within) = (wanted / width, wanted % width);
        head * width + 2 * (within % half) + within / half
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// A token that a matrix of `tokens` rows has no row for.
pub(super) fn unknown_token(id: u32, tokens: usize) -> Error {
    Error::Argument(format!("token {id} out of range: model has {tokens} tokens; the tokenizer is another model's"))
}

impl Weight {
    /// `(O, I)`
    pub fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.dims2()?),
            Self::Host(host) => Ok((host.parts.iter().map(|part| part.rows).sum(), host.cols)),
        }
    }

    /// Matrices of one width, one above the other. Tensors are joined in memory; encoded ones stay where they are.
    pub fn stack(parts: Vec<Self>) -> Result<Self> {
        if let [_] = parts.as_slice() {
            return parts.into_iter().next().ok_or_else(nothing);
        }
        let tensors: Option<Vec<&Tensor>> = parts
            .iter()
            .map(|part| match part {
                Self::Tensor(tensor) => Some(tensor),
                Self::Host(host) => match host.parts.as_slice() {
                    [Part { storage: Storage::Dense(tensor), .. }] => Some(tensor),
                    _ => None,
                },
            })
            .collect();
        let on_host = parts.iter().any(|part| matches!(part, Self::Host(_)));
        if let Some(tensors) = tensors {
            let joined = Tensor::cat(&tensors, 0)?;
            return if on_host { HostWeight::dense(joined).map(Self::Host) } else { Ok(Self::Tensor(joined)) };
        }
        let (_, cols) = parts.first().ok_or_else(nothing)?.dims()?;
        let mut joined = HostWeight { parts: Vec::new(), cols };
        for part in parts {
            match part {
                Self::Host(host) if host.cols == cols => joined.parts.extend(host.parts),
                _ => return Err(candle_core::Error::msg("only matrices of one width on the CPU can be stacked").into()),
            }
        }
        Ok(Self::Host(joined))
    }

    /// Some rows as a tensor of `dtype` on `device`. → `(ids, I)`
    ///
    /// # Errors
    /// There is no such row.
    pub fn rows(&self, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        let (rows, _) = self.dims()?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            return Err(unknown_token(*id, rows));
        }
        match self {
            Self::Tensor(tensor) => Ok(tensor.index_select(&Tensor::new(ids, tensor.device())?, 0)?.to_dtype(dtype)?),
            Self::Host(host) => {
                let mut out = vec![0f32; ids.len() * host.cols];
                self.with_parts(|parts| {
                    for (id, out) in ids.iter().zip(out.chunks_exact_mut(host.cols)) {
                        decode_row(parts, *id as usize, out);
                    }
                })?;
                Ok(Tensor::from_vec(out, (ids.len(), host.cols), device)?.to_dtype(dtype)?)
            }
        }
    }

    /// Bytes in memory of its own, and bytes in mapped files.
    pub fn memory(&self) -> (usize, usize) {
        let host = match self {
            Self::Tensor(tensor) => return (tensor.elem_count() * tensor.dtype().size_in_bytes(), 0),
            Self::Host(host) => host,
        };
        let of = |part: &Part| match &part.storage {
            Storage::Dense(tensor) => (4 * tensor.elem_count(), 0),
            Storage::Encoded { bytes: Bytes::Owned(bytes), .. } => (bytes.len(), 0),
            Storage::Encoded { bytes: Bytes::Mapped(_, range), .. } => (0, range.len()),
        };
        host.parts.iter().map(of).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }

    /// Whether [`Weight::with_parts`] can serve f32 activations on the CPU.
    pub(crate) fn is_host(&self) -> bool {
        match self {
            Self::Tensor(tensor) => host::is_host_f32(tensor),
            Self::Host(_) => true,
        }
    }

    /// Calls `f` with the parts of a matrix on the CPU, from the top.
    pub(crate) fn with_parts<R>(&self, f: impl FnOnce(&[Rows]) -> R) -> Result<R> {
        let (parts, cols) = match self {
            Self::Tensor(tensor) => {
                let (rows, cols) = tensor.dims2()?;
                let slice = HostSlice::new(tensor)?;
                return Ok(f(&[Rows::dense(&slice, rows, cols)]));
            }
            Self::Host(host) => (&host.parts, host.cols),
        };
        let mut slices = Vec::with_capacity(parts.len());
        for part in parts {
            slices.push(match &part.storage {
                Storage::Dense(tensor) => Some(HostSlice::new(tensor)?),
                Storage::Encoded { .. } => None,
            });
        }
        let mut rows = Vec::with_capacity(parts.len());
        for (part, slice) in parts.iter().zip(&slices) {
            rows.push(Rows::of(part, slice, cols)?);
        }
        Ok(f(&rows))
    }
}

fn nothing() -> crate::Error {
    candle_core::Error::msg("a matrix of no parts").into()
}

impl HostWeight {
    /// An f32 tensor on the CPU. `(O, I)`
    pub fn dense(tensor: Tensor) -> Result<Self> {
        let (rows, cols) = tensor.dims2()?;
        Ok(Self { parts: vec![Part { storage: Storage::Dense(tensor.contiguous()?), rows }], cols })
    }

    /// Rows of `cols` elements in `encoding`.
    ///
    /// # Errors
    /// `cols` is not whole blocks, or `bytes` not whole rows.
    pub fn encoded(bytes: Bytes, encoding: Encoding, cols: usize, order: RowOrder) -> Result<Self> {
        let length = bytes.as_slice().len();
        let row_bytes = encoding.row_bytes(cols).filter(|row_bytes| *row_bytes > 0 && length.is_multiple_of(*row_bytes));
        let Some(row_bytes) = row_bytes else {
            let problem = format!("{length} bytes in {encoding:?} are not rows of {cols} elements");
            return Err(candle_core::Error::msg(problem).into());
        };
        let rows = length / row_bytes;
        Ok(Self { parts: vec![Part { storage: Storage::Encoded { bytes, encoding, order }, rows }], cols })
    }
}

/// A matrix on the CPU, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub rows: usize,
    pub cols: usize,
    encoding: Encoding,
    order: RowOrder,
    bytes: &'a [u8],
    row_bytes: usize,
    floats: Option<&'a [f32]>,
}

impl<'a> Rows<'a> {
    fn dense(floats: &'a [f32], rows: usize, cols: usize) -> Self {
        let bytes = bytemuck::cast_slice(floats);
        let (encoding, order) = (Encoding::F32, RowOrder::Plain);
        Self { rows, cols, encoding, order, bytes, row_bytes: 4 * cols, floats: Some(floats) }
    }

    fn of(part: &'a Part, slice: &'a Option<HostSlice>, cols: usize) -> Result<Self> {
        if let Some(floats) = slice {
            return Ok(Self::dense(floats, part.rows, cols));
        }
        let Storage::Encoded { bytes, encoding, order } = &part.storage else { return Err(nothing()) };
        let bytes = bytes.as_slice();
        // f32 in a file on a machine of its byte order is f32 in memory, where the file aligns it.
        let as_floats = *encoding == Encoding::F32 && *order == RowOrder::Plain && cfg!(target_endian = "little");
        Ok(Self {
            rows: part.rows,
            cols,
            encoding: *encoding,
            order: *order,
            bytes,
            row_bytes: encoding.row_bytes(cols).unwrap_or(0),
            floats: as_floats.then(|| bytemuck::try_cast_slice(bytes).ok()).flatten(),
        })
    }

    /// The matrix itself, if it is f32 in memory.
    pub fn floats(&self) -> Option<&'a [f32]> {
        self.floats
    }

    /// How its rows are encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The bytes of a row.
    pub fn row(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.order.stored(index, self.rows) * self.row_bytes..][..self.row_bytes]
    }

    /// Some rows as f32, by all threads. `out (range, cols)`
    pub fn decode(&self, range: Range<usize>, out: &mut [f32]) {
        let rows = range.into_par_iter().zip(out.par_chunks_exact_mut(self.cols));
        rows.with_min_len(16).for_each(|(row, out)| self.encoding.decode(self.row(row), out));
    }
}

/// One row of stacked parts as f32. The row must be there.
fn decode_row(parts: &[Rows], mut index: usize, out: &mut [f32]) {
    for part in parts {
        if index < part.rows {
            return part.encoding.decode(part.row(index), out);
        }
        index -= part.rows;
    }
}

/// Calls `f` with the first row, the elements and the number of rows of blocks that make up `parts`, at most `most` of a
/// part's rows at a time. Rows that are not f32 in memory are decoded for it.
pub(crate) fn for_each_block(parts: &[Rows], most: impl Fn(&Rows) -> usize, mut f: impl FnMut(usize, &[f32], usize)) {
    let mut first = 0;
    let mut decoded = Vec::new();
    for part in parts {
        let most = most(part).max(1);
        for start in (0..part.rows).step_by(most) {
            let rows = most.min(part.rows - start);
            let elements = match part.floats() {
                Some(floats) => &floats[start * part.cols..][..rows * part.cols],
                None => {
                    decoded.resize(rows * part.cols, 0.0);
                    part.decode(start..start + rows, &mut decoded);
                    &decoded
                }
            };
            f(first, elements, rows);
            first += rows;
        }
    }
}

#[cfg(test)]
#[path = "weight_tests.rs"]
mod tests;
