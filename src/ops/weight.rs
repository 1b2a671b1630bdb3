//! A frozen matrix `(O, I)`: a tensor that candle multiplies, or rows on the CPU in their file's encoding, in memory or in a
//! mapped file. Gives rows as f32; the products are in `linear` and `head`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;

use super::cpu::encoding::Encoding;
use super::cpu::slices::{HostSlice, is_host_f32};
pub(crate) use super::cpu::weight_rows::RowOrder;
use super::cpu::weight_rows::{WeightRows, decode_row};
use crate::{Error, Result};

/// A frozen matrix. Clones share their memory.
#[derive(Debug, Clone)]
pub enum Weight {
    /// A tensor that candle multiplies, of any device and float type. `(O, I)`
    Tensor(Tensor),
    /// Rows on the CPU, for f32 activations.
    Host(HostWeight),
}

/// Matrices of one width on the CPU, one above the other.
#[derive(Debug, Clone)]
pub struct HostWeight {
    parts: Vec<WeightPart>,
    cols: usize,
}

#[derive(Debug, Clone)]
struct WeightPart {
    storage: Storage,
    rows: usize,
}

#[derive(Debug, Clone)]
enum Storage {
    /// f32 on the CPU.
    Dense(Tensor),
    /// bf16 for products of bf16.
    Bf16(WeightBytes),
    Encoded {
        bytes: WeightBytes,
        encoding: Encoding,
        order: RowOrder,
    },
}

/// The bytes of an encoded matrix, row by row.
#[derive(Clone)]
pub enum WeightBytes {
    /// Bytes that the weight owns.
    Owned(Arc<[u8]>),
    /// Bytes of a mapped file: nothing is read before it is used, and the system may drop it again.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl fmt::Debug for WeightBytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Owned(bytes) => write!(f, "Owned({} bytes)", bytes.len()),
            Self::Mapped(_, range) => write!(f, "Mapped({range:?})"),
        }
    }
}

impl WeightBytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// The error for a token that a matrix of `tokens` rows has no row for.
pub(super) fn unknown_token(id: u32, tokens: usize) -> Error {
    Error::Argument(format!("token {id} out of range: model has {tokens} tokens; the tokenizer is another model's"))
}

impl Weight {
    /// Sizes of the matrix. `(O, I)`
    pub(crate) fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.dims2()?),
            Self::Host(host) => Ok((host.parts.iter().map(|part| part.rows).sum(), host.cols)),
        }
    }

    /// Matrices of one width, one above the other. Tensors are joined in memory; encoded ones stay where they are.
    pub(crate) fn stack(parts: Vec<Self>) -> Result<Self> {
        if let [_] = parts.as_slice() {
            return parts.into_iter().next().ok_or_else(nothing);
        }
        let tensors: Option<Vec<&Tensor>> = parts
            .iter()
            .map(|part| match part {
                Self::Tensor(tensor) => Some(tensor),
                Self::Host(host) => match host.parts.as_slice() {
                    [WeightPart { storage: Storage::Dense(tensor), .. }] => Some(tensor),
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
    pub(crate) fn rows(&self, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
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
                    Ok(())
                })?;
                Ok(Tensor::from_vec(out, (ids.len(), host.cols), device)?.to_dtype(dtype)?)
            }
        }
    }

    /// Whether some of it is stored as whole numbers with factors.
    pub(crate) fn has_codes(&self) -> bool {
        let of_part = |part: &WeightPart| matches!(part.storage, Storage::Encoded { encoding, .. } if encoding.has_codes());
        matches!(self, Self::Host(host) if host.parts.iter().any(of_part))
    }

    /// Number of bytes in its own memory, and in mapped files.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let host = match self {
            Self::Tensor(tensor) => return (tensor.elem_count() * tensor.dtype().size_in_bytes(), 0),
            Self::Host(host) => host,
        };
        let of = |part: &WeightPart| match &part.storage {
            Storage::Dense(tensor) => (4 * tensor.elem_count(), 0),
            Storage::Bf16(bytes) | Storage::Encoded { bytes, .. } => match bytes {
                WeightBytes::Owned(bytes) => (bytes.len(), 0),
                WeightBytes::Mapped(_, range) => (0, range.len()),
            },
        };
        host.parts.iter().map(of).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }

    /// Whether the bodies of the CPU take this weight with the activations `x`.
    pub(super) fn is_on_host_with(&self, x: &Tensor) -> bool {
        is_host_f32(x)
            && match self {
                Self::Tensor(tensor) => is_host_f32(tensor),
                Self::Host(_) => true,
            }
    }

    /// The tensor that candle multiplies.
    ///
    /// # Errors
    /// The weight is rows on the CPU.
    pub(super) fn tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            Self::Host(_) => Err(candle_core::Error::msg("weights on the CPU take f32 activations on the CPU").into()),
        }
    }

    /// Calls `f` with the parts of a matrix on the CPU, from the top.
    pub(super) fn with_parts<R>(&self, f: impl FnOnce(&[WeightRows]) -> Result<R>) -> Result<R> {
        let (parts, cols) = match self {
            Self::Tensor(tensor) => {
                let (rows, cols) = tensor.dims2()?;
                let slice = HostSlice::new(tensor)?;
                return f(&[WeightRows::dense(&slice, rows, cols)]);
            }
            Self::Host(host) => (&host.parts, host.cols),
        };
        let mut slices = Vec::with_capacity(parts.len());
        for part in parts {
            slices.push(match &part.storage {
                Storage::Dense(tensor) => Some(HostSlice::new(tensor)?),
                Storage::Bf16(_) | Storage::Encoded { .. } => None,
            });
        }
        let mut rows = Vec::with_capacity(parts.len());
        for (part, slice) in parts.iter().zip(&slices) {
            rows.push(part.rows_of(slice.as_deref(), cols)?);
        }
        f(&rows)
    }
}

impl WeightPart {
    /// Rows of this part, `cols` elements each; `floats` are the part's elements where it is dense.
    fn rows_of<'a>(&'a self, floats: Option<&'a [f32]>, cols: usize) -> Result<WeightRows<'a>> {
        match (&self.storage, floats) {
            (Storage::Bf16(bytes), _) => Ok(match bytemuck::try_cast_slice(bytes.as_slice()) {
                Ok(elements) if cfg!(target_endian = "little") => WeightRows::bf16(elements, self.rows, cols),
                _ => WeightRows::encoded(bytes.as_slice(), Encoding::Bf16, RowOrder::Plain, [self.rows, cols]),
            }),
            (Storage::Encoded { bytes, encoding, order }, _) => {
                Ok(WeightRows::encoded(bytes.as_slice(), *encoding, *order, [self.rows, cols]))
            }
            (Storage::Dense(_), Some(floats)) => Ok(WeightRows::dense(floats, self.rows, cols)),
            (Storage::Dense(_), None) => Err(nothing()),
        }
    }
}

/// The error for a matrix that has no elements to give.
fn nothing() -> crate::Error {
    candle_core::Error::msg("a matrix of no parts").into()
}

impl HostWeight {
    /// An f32 tensor on the CPU. `(O, I)`
    pub fn dense(tensor: Tensor) -> Result<Self> {
        let (rows, cols) = tensor.dims2()?;
        Ok(Self { parts: vec![WeightPart { storage: Storage::Dense(tensor.contiguous()?), rows }], cols })
    }

    /// An f32 tensor on the CPU, converted to f32, bf16 or f16. `(O, I)`
    ///
    /// # Errors
    /// The tensor has not two dimensions.
    pub(crate) fn of_dtype(tensor: &Tensor, dtype: DType) -> Result<Self> {
        let (_, cols) = tensor.dims2()?;
        let bytes = |to: fn(f32) -> [u8; 2]| -> Result<WeightBytes> {
            let floats = tensor.flatten_all()?.to_vec1::<f32>()?;
            Ok(WeightBytes::Owned(floats.into_iter().flat_map(to).collect()))
        };
        match dtype {
            DType::F32 => Self::dense(tensor.clone()),
            DType::BF16 => Self::bf16(bytes(|x| half::bf16::from_f32(x).to_le_bytes())?, cols),
            _ => Self::encoded(bytes(|x| half::f16::from_f32(x).to_le_bytes())?, Encoding::F16, cols, RowOrder::Plain),
        }
    }

    /// Rows of `cols` elements in `encoding`.
    ///
    /// # Errors
    /// `cols` is not whole blocks, or `bytes` not whole rows.
    pub(crate) fn encoded(bytes: WeightBytes, encoding: Encoding, cols: usize, order: RowOrder) -> Result<Self> {
        let rows = rows_in(&bytes, encoding, cols)?;
        Ok(Self { parts: vec![WeightPart { storage: Storage::Encoded { bytes, encoding, order }, rows }], cols })
    }

    /// Rows of `cols` bf16, whose products are those of bf16: the other operand is rounded to bf16, and sums are f32. With
    /// [`Products::BatchInvariant`](super::linear::Products::BatchInvariant) it is multiplied as it is.
    ///
    /// # Errors
    /// `bytes` is not whole rows.
    pub fn bf16(bytes: WeightBytes, cols: usize) -> Result<Self> {
        let rows = rows_in(&bytes, Encoding::Bf16, cols)?;
        // A file may begin them at any byte.
        let bytes = match bytemuck::try_cast_slice::<u8, half::bf16>(bytes.as_slice()) {
            Ok(_) => bytes,
            Err(_) => WeightBytes::Owned(bytes.as_slice().into()),
        };
        Ok(Self { parts: vec![WeightPart { storage: Storage::Bf16(bytes), rows }], cols })
    }
}

/// Number of rows of `cols` elements.
fn rows_in(bytes: &WeightBytes, encoding: Encoding, cols: usize) -> Result<usize> {
    let length = bytes.as_slice().len();
    let row_bytes = encoding.row_bytes(cols).filter(|row_bytes| *row_bytes > 0 && length.is_multiple_of(*row_bytes));
    row_bytes.map(|row_bytes| length / row_bytes).ok_or_else(|| {
        let problem = format!("{length} bytes in {encoding:?} are not rows of {cols} elements");
        candle_core::Error::msg(problem).into()
    })
}

#[cfg(test)]
#[path = "weight_tests.rs"]
mod tests;
