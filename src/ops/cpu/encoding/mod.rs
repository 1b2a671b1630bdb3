//! How the elements of a weight lie in its file: f32, f16, bf16 and the blocks of GGUF, and the numbers that they are. Not
//! the matrix itself: its caller knows where the rows lie.

mod blocks;

use std::ops::Range;

use candle_core::DType;
use candle_core::quantized::GgmlDType;

use super::vector::vectorised;

/// How the elements of a weight lie in memory, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

impl From<GgmlDType> for Encoding {
    fn from(dtype: GgmlDType) -> Self {
        match dtype {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q8_1 => Self::Q8_1,
            GgmlDType::Q2K => Self::Q2K,
            GgmlDType::Q3K => Self::Q3K,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            GgmlDType::Q8K => Self::Q8K,
        }
    }
}

impl Encoding {
    /// The encoding of a tensor's elements; none for integers and for f64.
    pub fn of_dtype(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Number of elements and of bytes of a block.
    fn elements_and_bytes(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q8_1 => (32, 36),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Q8K => (256, 292),
        }
    }

    /// Number of bytes of a row of `cols` elements; none where they do not fill whole blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.elements_and_bytes();
        cols.is_multiple_of(elements).then(|| cols / elements * bytes)
    }

    /// The bytes of a row that hold `len` elements from `start` on; both are multiples of the block.
    pub fn span(self, start: usize, len: usize) -> Range<usize> {
        let (elements, bytes) = self.elements_and_bytes();
        let at = |element| element / elements * bytes;
        at(start)..at(start + len)
    }

    /// Writes the numbers that `bytes` hold to `out`. Panics unless `out` is whole blocks and `bytes` holds exactly them.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{} elements in {self:?}", out.len());
        vectorised(
            #[inline(always)]
            || match self {
                Self::F32 => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
                Self::F16 => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = blocks::f16(*b)),
                Self::Bf16 => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = blocks::bf16(*b)),
                Self::Q4_0 => blocks::each(bytes, out, blocks::q4_0),
                Self::Q4_1 => blocks::each(bytes, out, blocks::q4_1),
                Self::Q5_0 => blocks::each(bytes, out, blocks::q5_0),
                Self::Q5_1 => blocks::each(bytes, out, blocks::q5_1),
                Self::Q8_0 => blocks::each(bytes, out, blocks::q8_0),
                Self::Q8_1 => blocks::each(bytes, out, blocks::q8_1),
                Self::Q2K => blocks::each(bytes, out, blocks::q2_k),
                Self::Q3K => blocks::each(bytes, out, blocks::q3_k),
                Self::Q4K => blocks::each(bytes, out, blocks::q4_k),
                Self::Q5K => blocks::each(bytes, out, blocks::q5_k),
                Self::Q6K => blocks::each(bytes, out, blocks::q6_k),
                Self::Q8K => blocks::each(bytes, out, blocks::q8_k),
            },
        )
    }
}

#[cfg(test)]
pub mod tests;
