//! The rows of a frozen matrix on the CPU, as its file or its memory holds them, and the same rows as f32.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::encoding::Encoding;
use super::product::{Matrix, Right};
use crate::ops::tiles::tiles;

/// The order in which a file holds the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// The order that the model wants.
    Plain,
    /// Rotary pairs interleaved in each head, as llama.cpp has queries and keys: wanted row j·D/2 + i of a head is the
    /// file's row 2i + j.
    Interleaved {
        /// Number of heads that the rows belong to.
        heads: usize,
    },
    /// The rotated dimensions in front in each head, halves after each other. The model wants the first halves of the rotated
    /// and of the other dimensions, then the second halves, so that rows i and i + D/2 are a pair everywhere.
    PartlyRotated {
        /// Number of heads that the rows belong to.
        heads: usize,
        /// Number of rotated dimensions of a head.
        rotary_dim: usize,
    },
}

impl RowOrder {
    /// The row of the file that is row `wanted` of `rows`.
    pub fn stored(self, wanted: usize, rows: usize) -> usize {
        match self {
            Self::Plain => wanted,
            Self::Interleaved { heads } => {
                let (width, half) = (rows / heads, rows / heads / 2);
                let (head, within) = (wanted / width, wanted % width);
                head * width + 2 * (within % half) + within / half
            }
            Self::PartlyRotated { heads, rotary_dim } => {
                let (width, half) = (rows / heads, rows / heads / 2);
                let (head, within) = (wanted / width, wanted % width);
                let (second, pair, rotated) = (within / half, within % half, rotary_dim / 2);
                let of_head = if pair < rotated {
                    second * rotated + pair
                } else {
                    rotary_dim + second * (half - rotated) + pair - rotated
                };
                head * width + of_head
            }
        }
    }
}

/// Rows of a matrix on the CPU, borrowed.
#[derive(Clone, Copy)]
pub struct WeightRows<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    encoding: Encoding,
    order: RowOrder,
    bytes: &'a [u8],
    row_bytes: usize,
    elements: Elements<'a>,
}

/// The elements of a matrix, where products take them as they lie in memory.
#[derive(Clone, Copy)]
enum Elements<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    /// Rows that are decoded to f32.
    Encoded,
}

impl<'a> WeightRows<'a> {
    /// f32 elements, row by row.
    pub fn dense(floats: &'a [f32], rows: usize, cols: usize) -> Self {
        let bytes = bytemuck::cast_slice(floats);
        let (encoding, order) = (Encoding::F32, RowOrder::Plain);
        Self { rows, cols, encoding, order, bytes, row_bytes: 4 * cols, elements: Elements::F32(floats) }
    }

    /// bf16 elements, row by row, whose products are those of bf16, the other matrix rounded to bf16 too, unless their order must
    /// not depend on the number of rows.
    pub fn bf16(elements: &'a [bf16], rows: usize, cols: usize) -> Self {
        let bytes = bytemuck::cast_slice(elements);
        let (encoding, order) = (Encoding::Bf16, RowOrder::Plain);
        Self { rows, cols, encoding, order, bytes, row_bytes: 2 * cols, elements: Elements::Bf16(elements) }
    }

    /// Encoded rows, which lie in `order`. The bytes must be whole rows of `cols` elements.
    pub fn encoded(bytes: &'a [u8], encoding: Encoding, order: RowOrder, [rows, cols]: [usize; 2]) -> Self {
        // f32 in a file on a machine of its byte order is f32 in memory, where the file aligns it.
        let as_floats = encoding == Encoding::F32 && order == RowOrder::Plain && cfg!(target_endian = "little");
        let floats = as_floats.then(|| bytemuck::try_cast_slice(bytes).ok()).flatten();
        let elements = floats.map_or(Elements::Encoded, Elements::F32);
        Self { rows, cols, encoding, order, bytes, row_bytes: encoding.row_bytes(cols).unwrap_or(0), elements }
    }

    /// The elements, if they are f32 in memory.
    pub fn floats(&self) -> Option<&'a [f32]> {
        if let Elements::F32(floats) = self.elements { Some(floats) } else { None }
    }

    /// Whether its products are those of bf16.
    pub fn multiplies_bf16(&self) -> bool {
        matches!(self.elements, Elements::Bf16(_))
    }

    /// Some rows as products take them, if they need no decoding. → `(range, cols)`
    pub fn matrix(&self, range: Range<usize>) -> Option<Right<'a>> {
        let (rows, elements) = (range.len(), range.start * self.cols..range.end * self.cols);
        match self.elements {
            Elements::F32(floats) => Some(Matrix::new(&floats[elements], rows, self.cols, self.cols).into()),
            Elements::Bf16(halves) => Some(Right::Bf16(Matrix::new(&halves[elements], rows, self.cols, self.cols))),
            Elements::Encoded => None,
        }
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
pub fn decode_row(parts: &[WeightRows], mut index: usize, out: &mut [f32]) {
    for part in parts {
        if index < part.rows {
            return part.encoding.decode(part.row(index), out);
        }
        index -= part.rows;
    }
}

/// Cuts stacked parts into blocks of at most `most` rows of a part and calls `f` with the first row of each and the block itself.
/// Rows that products do not take as they lie in memory are decoded before.
pub fn for_each_block(parts: &[WeightRows], most: impl Fn(&WeightRows) -> usize, mut f: impl FnMut(usize, Right)) {
    let mut first = 0;
    let mut decoded = Vec::new();
    for part in parts {
        let most = most(part).max(1);
        for range in tiles(part.rows, most) {
            let rows = range.len();
            let block = part.matrix(range.clone()).unwrap_or_else(|| {
                decoded.resize(rows * part.cols, 0.0);
                part.decode(range, &mut decoded);
                Matrix::new(&decoded, rows, part.cols, part.cols).into()
            });
            f(first, block);
            first += rows;
        }
    }
}
