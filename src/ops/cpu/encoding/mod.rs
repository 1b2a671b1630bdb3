//! How the elements of a weight lie in its file: f32, f16, bf16 and the blocks of GGUF, and the numbers that they are. Not
//! the matrix itself: its caller knows where the rows lie.
//!
//! Begin with [`Encoding`] and its `decode`; `blocks` has the layout of each block.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod blocks;

use std::ops::Range;

use candle_core::DType;
use candle_core::quantized::GgmlDType;

pub use self::blocks::RUN;
use self::blocks::{BlockOps, Plain, Summands, Unpacked};
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

    /// Number of elements in so many bytes of whole blocks.
    pub fn elements(self, bytes: usize) -> usize {
        let (elements, block) = self.elements_and_bytes();
        bytes / block * elements
    }

    /// Writes the numbers that `bytes` hold to `out`. Panics unless `out` is whole blocks and `bytes` holds exactly them.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{} elements in {self:?}", out.len());
        if self.has_codes() {
            self.visit_blocks(Decode { bytes, out });
            return;
        }
        vectorised(
            #[inline(always)]
            || match self {
                Self::F32 => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
                Self::F16 => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = blocks::f16(*b)),
                _ => blocks::each(bytes, out, |b, out: &mut [f32; 1]| out[0] = blocks::bf16(*b)),
            },
        )
    }

    /// Whether elements are whole numbers with a factor, and perhaps a summand, for each run of 16.
    pub fn has_codes(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Writes the whole numbers that `bytes` hold, and the factor and summand of each run of 16; summands that are zero are not
    /// written. `codes (E)`, `factors (E / 16)`, `summands (E / 16)` → whether there are summands, and no negative code.
    ///
    /// Panics unless [`Self::has_codes`], and the lengths are those of whole blocks.
    pub fn unpack(self, bytes: &[u8], codes: &mut [i8], factors: &mut [f32], summands: &mut [f32]) -> bool {
        assert_eq!(self.row_bytes(codes.len()), Some(bytes.len()), "{} elements in {self:?}", codes.len());
        assert!(factors.len() == codes.len() / RUN && summands.len() == codes.len() / RUN);
        self.visit_blocks(UnpackTo { bytes, codes, factors, summands })
    }

    /// Gives a visitor the layout of a block, with the widest vector instructions of the machine.
    ///
    /// Panics unless [`Self::has_codes`].
    #[inline(always)]
    fn visit_blocks<V: BlockVisitor>(self, visitor: V) -> V::Output {
        #[cfg(target_arch = "x86_64")]
        if avx2::is_available() {
            // SAFETY: the processor has the instructions.
            #[allow(unsafe_code)]
            return unsafe { avx2::visit(self, visitor) };
        }
        vectorised(
            #[inline(always)]
            || self.visit_with::<V, Plain>(visitor),
        )
    }

    #[inline(always)]
    fn visit_with<V: BlockVisitor, B: BlockOps>(self, visitor: V) -> V::Output {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => panic!("{self:?} has no codes"),
            Self::Q4_0 => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q4_0::<B>(block, out),
            ),
            Self::Q4_1 => visitor.visit::<B, _, _, _>(
                Summands::Some,
                #[inline(always)]
                |block, out| blocks::q4_1::<B>(block, out),
            ),
            Self::Q5_0 => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q5_0::<B>(block, out),
            ),
            Self::Q5_1 => visitor.visit::<B, _, _, _>(
                Summands::Some,
                #[inline(always)]
                |block, out| blocks::q5_1::<B>(block, out),
            ),
            Self::Q8_0 => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q8_0::<B>(block, out),
            ),
            Self::Q8_1 => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q8_1::<B>(block, out),
            ),
            Self::Q2K => visitor.visit::<B, _, _, _>(
                Summands::Some,
                #[inline(always)]
                |block, out| blocks::q2_k::<B>(block, out),
            ),
            Self::Q3K => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q3_k::<B>(block, out),
            ),
            Self::Q4K => visitor.visit::<B, _, _, _>(
                Summands::Some,
                #[inline(always)]
                |block, out| blocks::q4_k::<B>(block, out),
            ),
            Self::Q5K => visitor.visit::<B, _, _, _>(
                Summands::Some,
                #[inline(always)]
                |block, out| blocks::q5_k::<B>(block, out),
            ),
            Self::Q6K => visitor.visit::<B, _, _, _>(
                Summands::None,
                #[inline(always)]
                |block, out| blocks::q6_k::<B>(block, out),
            ),
            Self::Q8K => visitor.visit::<B, _, _, _>(Summands::None, blocks::q8_k),
        }
    }
}

/// What is done with blocks whose layout is known when it is compiled.
trait BlockVisitor {
    type Output;

    /// Is told whether blocks have summands, and how one is unpacked.
    fn visit<B: BlockOps, const BYTES: usize, const ELEMENTS: usize, const RUNS: usize>(
        self,
        summands: Summands,
        unpack: impl Fn(&[u8; BYTES], Unpacked<ELEMENTS, RUNS>),
    ) -> Self::Output;
}

/// Turns blocks into numbers.
struct Decode<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl BlockVisitor for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn visit<B: BlockOps, const BYTES: usize, const ELEMENTS: usize, const RUNS: usize>(
        self,
        summands: Summands,
        unpack: impl Fn(&[u8; BYTES], Unpacked<ELEMENTS, RUNS>),
    ) {
        blocks::each(
            self.bytes,
            self.out,
            #[inline(always)]
            |bytes, out: &mut [f32; ELEMENTS]| {
                let (mut codes, mut factors, mut added) = ([0; ELEMENTS], [0.0; RUNS], [0.0; RUNS]);
                unpack(bytes, Unpacked { codes: &mut codes, factors: &mut factors, summands: &mut added });
                let (outs, codes) = (out.as_chunks_mut::<RUN>().0, codes.as_chunks::<RUN>().0);
                for run in 0..RUNS {
                    outs[run] = B::numbers(&codes[run], factors[run], (summands == Summands::Some).then_some(added[run]));
                }
            },
        );
    }
}

/// Turns blocks into whole numbers.
struct UnpackTo<'a> {
    bytes: &'a [u8],
    codes: &'a mut [i8],
    factors: &'a mut [f32],
    summands: &'a mut [f32],
}

impl BlockVisitor for UnpackTo<'_> {
    type Output = bool;

    #[inline(always)]
    fn visit<B: BlockOps, const BYTES: usize, const ELEMENTS: usize, const RUNS: usize>(
        self,
        summands: Summands,
        unpack: impl Fn(&[u8; BYTES], Unpacked<ELEMENTS, RUNS>),
    ) -> bool {
        let codes = self.codes.as_chunks_mut::<ELEMENTS>().0.iter_mut();
        let factors = self.factors.as_chunks_mut::<RUNS>().0.iter_mut();
        let added = self.summands.as_chunks_mut::<RUNS>().0.iter_mut();
        let blocks = self.bytes.as_chunks::<BYTES>().0.iter().zip(codes.zip(factors.zip(added)));
        for (bytes, (codes, (factors, summands))) in blocks {
            unpack(bytes, Unpacked { codes, factors, summands });
        }
        summands == Summands::Some
    }
}

#[cfg(test)]
pub mod tests;
