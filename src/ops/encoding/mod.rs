//! Weights in the encoding of their file: f32, f16, bf16 and the blocks of GGUF. Products decode them exactly, a piece of a
//! row at a time into the first-level cache, and multiply in f32: activations are never quantised. Not the matrix itself
//! (its caller knows where the rows lie) and no threads.

mod blocks;

use std::ops::Range;

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use pulp::{Arch, Simd, WithSimd};

use super::host::{self, MAX_ROWS};

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
    /// That of a tensor's elements; none for integers and for f64.
    pub fn of_dtype(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Elements of a block.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Q8_1 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Q8K => 256,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q8_1 => 36,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Q8K => 292,
        }
    }

    /// Bytes of a row of `cols` elements; none when they don't fill its blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block()).then(|| cols / self.block() * self.block_bytes())
    }

    /// Where `len` elements from `start` on lie in a row; both are multiples of the block.
    fn span(self, start: usize, len: usize) -> Range<usize> {
        let at = |element| element / self.block() * self.block_bytes();
        at(start)..at(start + len)
    }

    /// The numbers that `bytes` hold. Panics unless `out` is whole blocks and `bytes` holds exactly them.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{} elements in {self:?}", out.len());
        host::vectorised(
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

/// Elements decoded at a time, a multiple of every block and vector: two such pieces, and those of the left rows, stay in
/// the first-level cache.
const PIECE: usize = 512;

/// Pairs of weight rows that share a piece of the left rows before the next piece is read.
const PAIRS: usize = 4;

/// Products of a few rows with the encoded rows of a weight. `x (rows, K)`; the bytes of weight row n are `weight_row(n)`;
/// `out (N, rows)`. Each weight row is decoded once. The order of additions of one result does not depend on how many rows
/// there are, so that a row's results have the same bits alone and in a batch.
///
/// Panics when `rows` is 0 or more than `MAX_ROWS`, and when a weight row is not K elements long.
pub fn few_rows<'w>(encoding: Encoding, x: &[f32], rows: usize, weight_row: impl Fn(usize) -> &'w [u8], out: &mut [f32]) {
    assert!(x.len().is_multiple_of(rows) && out.len().is_multiple_of(rows));
    let arch = Arch::new();
    match rows {
        1 => arch.dispatch(Products::<1, _> { encoding, x, weight_row, out }),
        2 => arch.dispatch(Products::<2, _> { encoding, x, weight_row, out }),
        3 => arch.dispatch(Products::<3, _> { encoding, x, weight_row, out }),
        4 => arch.dispatch(Products::<4, _> { encoding, x, weight_row, out }),
        5 => arch.dispatch(Products::<5, _> { encoding, x, weight_row, out }),
        6 => arch.dispatch(Products::<6, _> { encoding, x, weight_row, out }),
        7 => arch.dispatch(Products::<7, _> { encoding, x, weight_row, out }),
        8 => arch.dispatch(Products::<8, _> { encoding, x, weight_row, out }),
        9 => arch.dispatch(Products::<9, _> { encoding, x, weight_row, out }),
        10 => arch.dispatch(Products::<10, _> { encoding, x, weight_row, out }),
        11 => arch.dispatch(Products::<11, _> { encoding, x, weight_row, out }),
        12 => arch.dispatch(Products::<12, _> { encoding, x, weight_row, out }),
        _ => panic!("{rows} rows, expected 1 to {MAX_ROWS}"),
    }
}

struct Products<'a, const M: usize, F> {
    encoding: Encoding,
    x: &'a [f32],
    weight_row: F,
    out: &'a mut [f32],
}

impl<'w, const M: usize, F: Fn(usize) -> &'w [u8]> WithSimd for Products<'_, M, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { encoding, x, weight_row, out } = self;
        let k = x.len() / M;
        let packed = Lines::<M>::pack(x, S::F32_LANES);
        let mut buffers = [Piece([0.0; PIECE]), Piece([0.0; PIECE])];
        for (group, out) in out.chunks_mut(2 * PAIRS * M).enumerate() {
            let rows = out.len() / M;
            // The second of the last pair repeats its first where there is none.
            let w: [&[u8]; 2 * PAIRS] = std::array::from_fn(|i| weight_row(2 * PAIRS * group + i.min(rows - 1)));
            assert!(w.iter().all(|w| encoding.row_bytes(k) == Some(w.len())), "rows of {k} elements in {encoding:?}");
            let mut sums = [[[simd.splat_f32s(0.0); M]; 2]; PAIRS];
            for start in (0..k).step_by(PIECE) {
                let len = PIECE.min(k - start);
                let span = encoding.span(start, len);
                let vectors = len.div_ceil(S::F32_LANES);
                let x = &S::as_simd_f32s(packed.lines()).0.as_chunks::<M>().0[start / S::F32_LANES..][..vectors];
                for (pair, sums) in w.as_chunks::<2>().0.iter().zip(&mut sums).take(rows.div_ceil(2)) {
                    for (Piece(buffer), w) in buffers.iter_mut().zip(pair) {
                        encoding.decode(&w[span.clone()], &mut buffer[..len]);
                        buffer[len..vectors * S::F32_LANES].fill(0.0);
                    }
                    add_products(simd, sums, x, buffers.each_ref().map(|Piece(buffer)| S::as_simd_f32s(buffer).0));
                }
            }
            let sums = sums.as_flattened().iter();
            for (out, sums) in out.chunks_exact_mut(M).zip(sums) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.reduce_sum_f32s(*sum);
                }
            }
        }
    }
}

/// `sums (2, M)` += products of two weight rows with M left rows, vector by vector.
#[inline(always)]
fn add_products<S: Simd, const M: usize>(simd: S, sums: &mut [[S::f32s; M]; 2], x: &[[S::f32s; M]], [w0, w1]: [&[S::f32s]; 2]) {
    let [mut sums0, mut sums1] = *sums;
    for ((x, w0), w1) in x.iter().zip(w0).zip(w1) {
        for m in 0..M {
            sums0[m] = simd.mul_add_f32s(*w0, x[m], sums0[m]);
            sums1[m] = simd.mul_add_f32s(*w1, x[m], sums1[m]);
        }
    }
    *sums = [sums0, sums1];
}

/// Decoded elements, aligned to cache lines.
#[repr(align(64))]
struct Piece([f32; PIECE]);

/// The left rows vector by vector, `(K / lanes, M, lanes)` from a cache line on, the last one filled up with zeros: the
/// innermost loop then walks a single pointer.
struct Lines<const M: usize> {
    data: Vec<f32>,
    skip: usize,
}

impl<const M: usize> Lines<M> {
    #[inline(always)]
    fn pack(x: &[f32], lanes: usize) -> Self {
        let k = x.len() / M;
        let mut data = vec![0f32; k.next_multiple_of(lanes) * M + 16];
        let skip = data.as_ptr().align_offset(64).min(16);
        for (m, row) in x.chunks_exact(k.max(1)).enumerate() {
            for (i, piece) in row.chunks(lanes).enumerate() {
                let at = skip + (i * M + m) * lanes;
                data[at..at + piece.len()].copy_from_slice(piece);
            }
        }
        Self { data, skip }
    }

    #[inline(always)]
    fn lines(&self) -> &[f32] {
        &self.data[self.skip..]
    }
}

#[cfg(test)]
mod tests;
