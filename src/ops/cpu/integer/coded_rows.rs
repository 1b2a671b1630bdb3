//! Left rows as whole numbers from −127 to 127, with a factor for each block of 32, and the sums that a weight's summands are
//! multiplied with.

use super::{BLOCK, LANES, PIECE, RUN};
use crate::ops::cpu::vector::vectorised;

/// Rows of one length, rounded to 8 bits a block. Rows that are not finite have factors that are not numbers, so that their
/// products are not either.
pub struct CodedRows {
    rows: usize,
    cols: usize,
    /// Rounded elements by block. `(blocks, M)`
    codes: Vec<[i8; BLOCK]>,
    /// Factor of each block. `(blocks, M)`
    factors: Vec<f32>,
    /// Sum of each run of 16 rounded elements, `(runs / 8, M)`, filled up with zeros.
    sums: Vec<[f32; LANES]>,
}

/// The elements from `start` on of each of M rows.
pub struct CodedPiece<'a, const M: usize> {
    /// Index of the first element in its row.
    pub start: usize,
    /// Rounded elements. `(blocks)` of `[M]`
    pub codes: &'a [[[i8; BLOCK]; M]],
    /// Factors of the blocks. `(blocks)` of `[M]`
    pub factors: &'a [[f32; M]],
    /// `(runs / 8)` of `[M]`
    pub sums: &'a [[[f32; LANES]; M]],
}

impl<const M: usize> CodedPiece<'_, M> {
    /// Number of elements of a row.
    pub fn len(&self) -> usize {
        self.codes.len() * BLOCK
    }
}

impl CodedRows {
    /// Rounds rows of `cols` elements, a multiple of 32. `x (M, cols)`
    pub fn new(x: &[f32], cols: usize) -> Self {
        assert!(cols > 0 && cols.is_multiple_of(BLOCK) && x.len().is_multiple_of(cols), "rows of {cols} elements");
        let (rows, blocks) = (x.len() / cols, cols / BLOCK);
        let mut coded = Self {
            rows,
            cols,
            codes: vec![[0; BLOCK]; blocks * rows],
            factors: vec![0.0; blocks * rows],
            sums: vec![[0.0; LANES]; (2 * blocks).div_ceil(LANES) * rows],
        };
        vectorised(
            #[inline(always)]
            || {
                for (row, x) in x.chunks_exact(cols).enumerate() {
                    for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                        let at = block * rows + row;
                        coded.factors[at] = round(x, &mut coded.codes[at]);
                        for (half, run) in coded.codes[at].as_chunks::<RUN>().0.iter().enumerate() {
                            let sum: i32 = run.iter().map(|code| i32::from(*code)).sum();
                            let run = 2 * block + half;
                            coded.sums[run / LANES * rows + row][run % LANES] = sum as f32 * coded.factors[at];
                        }
                    }
                }
            },
        );
        coded
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The rows from left to right. There must be M of them.
    #[inline(always)]
    pub fn pieces<const M: usize>(&self) -> impl Iterator<Item = CodedPiece<'_, M>> {
        let pieces = self.codes.as_chunks::<M>().0.chunks(PIECE / BLOCK);
        let factors = self.factors.as_chunks::<M>().0.chunks(PIECE / BLOCK);
        let sums = self.sums.as_chunks::<M>().0.chunks(PIECE / RUN / LANES);
        let pieces = pieces.zip(factors).zip(sums).enumerate();
        pieces.map(|(i, ((codes, factors), sums))| CodedPiece { start: i * PIECE, codes, factors, sums })
    }
}

/// Added to a small number, it leaves no bits below 1: the sum is rounded to whole numbers, ties to even, and its lowest bits are
/// the whole number.
const TO_UNITS: f32 = 1.5 * (1 << 23) as f32;

/// Rounds a block to whole numbers of its factor, the largest size over 127. → the factor
#[inline(always)]
fn round(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> f32 {
    // Sizes compare as their bits do, and those of an infinity and of what is not a number are the largest.
    let bits = x.iter().fold(0, |most: u32, x| most.max(x.abs().to_bits()));
    if bits >= f32::INFINITY.to_bits() {
        return f32::NAN;
    }
    let largest = f32::from_bits(bits);
    let per_unit = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (x * per_unit + TO_UNITS).to_bits() as i8;
    }
    largest / 127.0
}
