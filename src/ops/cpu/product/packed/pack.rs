//! Packing: the elements of both matrices in the order in which a tile reads them, as f32 or as pairs of bf16, the first of a pair
//! in the lower half. Loops, not closures, which a compiler may leave out of line, where it has no AVX.

use std::ops::Range;

use pulp::f32x8;
use pulp::x86::V3;

use super::super::matrix::{Element, Matrix, bf16_bits};
use crate::ops::cpu::transpose::transpose;

/// Packs COUNT rows of the left matrix from `row` on, side by side, into columns of COLUMN numbers from `offset` on; with ROUNDED
/// as bf16 have them. COUNT is 8 at most. `packed (K, COLUMN)`
#[inline(always)]
pub fn pack_left<const COUNT: usize, const COLUMN: usize, const ROUNDED: bool>(
    simd: V3,
    a: Matrix,
    row: usize,
    packed: &mut [f32],
    offset: usize,
) {
    let Matrix { data, cols: len, row_stride, col_stride, .. } = a;
    let (columns, first) = (packed.as_chunks_mut::<COLUMN>().0, row * row_stride);
    if col_stride != 1 {
        for (column, packed) in columns.iter_mut().enumerate() {
            let from = &data[first + column * col_stride..][..COUNT];
            for i in 0..COUNT {
                packed[offset + i] = rounded_if::<ROUNDED>(from[i]);
            }
        }
        return;
    }
    let mut rows = [(&[] as &[[f32; 8]], &[] as &[f32]); COUNT];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = data[first + i * row_stride..][..len].as_chunks::<8>();
    }
    let (eights, rest) = columns.as_chunks_mut::<8>();
    for (i, packed) in eights.iter_mut().enumerate() {
        let mut eight = [simd.splat_f32x8(0.0); 8];
        for (eight, row) in eight.iter_mut().zip(rows) {
            *eight = pulp::cast(rounded_eight_if::<ROUNDED>(row.0[i]));
        }
        for (packed, column) in packed.iter_mut().zip(transpose(simd, eight)) {
            let column: [f32; 8] = pulp::cast(column);
            packed[offset..offset + COUNT].copy_from_slice(&column[..COUNT]);
        }
    }
    for (i, packed) in rest.iter_mut().enumerate() {
        for (packed, row) in packed[offset..offset + COUNT].iter_mut().zip(rows) {
            *packed = rounded_if::<ROUNDED>(row.1[i]);
        }
    }
}

/// Packs fewer rows than a whole band has. `packed (K, rows)`
#[inline(always)]
pub fn pack_few_left<const ROUNDED: bool>(a: Matrix, row: usize, packed: &mut [f32]) {
    let Matrix { data, cols: len, row_stride, col_stride, .. } = a;
    let count = packed.len() / len;
    for (column, packed) in packed.chunks_exact_mut(count).enumerate() {
        for (i, x) in packed.iter_mut().enumerate() {
            *x = rounded_if::<ROUNDED>(data[(row + i) * row_stride + column * col_stride]);
        }
    }
}

/// Packs some rows of the right matrix, COLS columns from `column` on, side by side, zero beyond the last. `packed (rows, COLS)`
#[inline(always)]
pub fn pack_right<const COLS: usize, E: Element>(
    simd: V3,
    b: Matrix<E>,
    rows: Range<usize>,
    column: usize,
    packed: &mut [f32],
) {
    let cols = COLS.min(b.cols - column);
    let packed = packed.as_chunks_mut::<COLS>().0;
    if b.col_stride == 1 {
        for (row, packed) in rows.zip(packed) {
            let values = &b.data[row * b.row_stride + column..][..cols];
            match values.first_chunk::<COLS>() {
                Some(values) => {
                    for (packed, value) in packed.iter_mut().zip(values) {
                        *packed = value.to_f32();
                    }
                }
                None => {
                    for (i, packed) in packed.iter_mut().enumerate() {
                        *packed = values.get(i).map_or(0.0, |value| value.to_f32());
                    }
                }
            }
        }
        return;
    }
    let column_of = |i: usize| &b.data[(column + i) * b.col_stride..][rows.clone()];
    if cols < COLS {
        for (row, packed) in packed.iter_mut().enumerate() {
            for (i, x) in packed.iter_mut().enumerate() {
                *x = if i < cols { column_of(i)[row].to_f32() } else { 0.0 };
            }
        }
        return;
    }
    let mut columns = [(&[] as &[[E; 8]], &[] as &[E]); COLS];
    for (i, column) in columns.iter_mut().enumerate() {
        *column = column_of(i).as_chunks::<8>();
    }
    let (eights, rest) = packed.as_chunks_mut::<8>();
    for (i, packed) in eights.iter_mut().enumerate() {
        for (group, columns) in columns.as_chunks::<8>().0.iter().enumerate() {
            let mut eight = [simd.splat_f32x8(0.0); 8];
            for (eight, column) in eight.iter_mut().zip(columns) {
                *eight = pulp::cast(floats(&column.0[i]));
            }
            write_group(simd, eight, packed, group);
        }
    }
    for (i, packed) in rest.iter_mut().enumerate() {
        for (x, column) in packed.iter_mut().zip(&columns) {
            *x = column.1[i].to_f32();
        }
    }
}

/// Packs COUNT rows of the left matrix from `row` on as pairs, side by side, into columns of COLUMN pairs from `offset` on. COUNT
/// is 8 at most. `packed (pairs, COLUMN)`
#[inline(always)]
fn pack_left_pairs<const COUNT: usize, const COLUMN: usize>(
    simd: V3,
    a: Matrix,
    row: usize,
    packed: &mut [u32],
    offset: usize,
) {
    let columns = packed.as_chunks_mut::<COLUMN>().0;
    if a.col_stride != 1 {
        for (pair, packed) in columns.iter_mut().enumerate() {
            for i in 0..COUNT {
                packed[offset + i] = pair_of(a, row + i, pair);
            }
        }
        return;
    }
    let mut rows = [&[] as &[f32]; COUNT];
    for (i, into) in rows.iter_mut().enumerate() {
        *into = &a.data[(row + i) * a.row_stride..][..a.cols];
    }
    let whole = a.cols / 16;
    let (eights, rest) = columns.split_at_mut(8 * whole);
    for (i, packed) in eights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut eight = [simd.splat_f32x8(0.0); 8];
        for (eight, row) in eight.iter_mut().zip(rows) {
            *eight = pulp::cast(eight_joined(&row.as_chunks::<2>().0.as_chunks::<8>().0[i]));
        }
        for (packed, column) in packed.iter_mut().zip(transpose(simd, eight)) {
            let column: [u32; 8] = pulp::cast(column);
            packed[offset..offset + COUNT].copy_from_slice(&column[..COUNT]);
        }
    }
    for (pair, packed) in rest.iter_mut().enumerate() {
        for i in 0..COUNT {
            packed[offset + i] = pair_of(a, row + i, 8 * whole + pair);
        }
    }
}

/// Packs a band of twelve rows of the left matrix from `row` on as pairs, or the fewer rows that `packed` has room for. `packed
/// (pairs, rows)`
#[inline(always)]
pub fn pack_left_band(simd: V3, a: Matrix, row: usize, packed: &mut [u32]) {
    let count = packed.len() / a.cols.div_ceil(2);
    if count == 12 {
        pack_left_pairs::<8, 12>(simd, a, row, packed, 0);
        pack_left_pairs::<4, 12>(simd, a, row + 8, packed, 8);
        return;
    }
    for (pair, packed) in packed.chunks_exact_mut(count).enumerate() {
        for (i, packed) in packed.iter_mut().enumerate() {
            *packed = pair_of(a, row + i, pair);
        }
    }
}

/// Packs some pairs of rows of the right matrix, COLS columns from `column` on, side by side, zero beyond the last column and
/// row. `packed (pairs, COLS)`
#[inline(always)]
pub fn pack_right_pairs<const COLS: usize, E: Element>(
    simd: V3,
    b: Matrix<E>,
    pairs: Range<usize>,
    column: usize,
    packed: &mut [u32],
) {
    let packed = packed.as_chunks_mut::<COLS>().0;
    let cols = COLS.min(b.cols - column);
    // Those that need no zeros.
    let whole = if cols < COLS { 0 } else { (b.rows / 2).clamp(pairs.start, pairs.end) - pairs.start };
    let (whole, rest) = packed.split_at_mut(whole);
    let first_left = pairs.start + whole.len();
    if b.col_stride == 1 {
        for (pair, packed) in pairs.zip(whole) {
            let row = |row: usize| b.data[row * b.row_stride + column..].first_chunk::<COLS>();
            if let (Some(low), Some(high)) = (row(2 * pair), row(2 * pair + 1)) {
                for i in 0..COLS {
                    packed[i] = joined([low[i], high[i]]);
                }
            }
        }
    } else {
        let mut columns = [&[] as &[[E; 2]]; COLS];
        if !whole.is_empty() {
            for (i, into) in columns.iter_mut().enumerate() {
                *into = &b.data[(column + i) * b.col_stride + 2 * pairs.start..].as_chunks::<2>().0[..whole.len()];
            }
        }
        let (eights, rest) = whole.as_chunks_mut::<8>();
        let done = 8 * eights.len();
        for (i, packed) in eights.iter_mut().enumerate() {
            for (group, columns) in columns.as_chunks::<8>().0.iter().enumerate() {
                let mut eight = [simd.splat_f32x8(0.0); 8];
                for (eight, column) in eight.iter_mut().zip(columns) {
                    *eight = pulp::cast(eight_joined(&column.as_chunks::<8>().0[i]));
                }
                write_group(simd, eight, packed, group);
            }
        }
        for (i, packed) in rest.iter_mut().enumerate() {
            for (packed, column) in packed.iter_mut().zip(&columns) {
                *packed = joined(column[done + i]);
            }
        }
    }
    for (i, packed) in rest.iter_mut().enumerate() {
        for (j, packed) in packed.iter_mut().enumerate() {
            *packed = if j < cols { pair_of(b.t(), column + j, first_left + i) } else { 0 };
        }
    }
}

/// Packs rows of the left matrix from `row` on as pairs, in tiles of sixteen rows and sixteen pairs, each row's pairs side by side,
/// zero beyond the last row and column. `packed (pairs / 16, rows, 16)`
#[inline(always)]
pub fn pack_left_tiles(a: Matrix, row: usize, rows: usize, packed: &mut [u32]) {
    for (block, packed) in packed.chunks_exact_mut(16 * rows).enumerate() {
        for (i, packed) in packed.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let from = (row + i < a.rows).then(|| &a.data[(row + i) * a.row_stride..]);
            let whole = from.filter(|_| a.col_stride == 1 && 32 * (block + 1) <= a.cols);
            match whole.and_then(|from| from[32 * block..].first_chunk::<32>()) {
                Some(from) => {
                    for j in 0..16 {
                        packed[j] = joined([from[2 * j], from[2 * j + 1]]);
                    }
                }
                None => {
                    for (j, packed) in packed.iter_mut().enumerate() {
                        *packed = if row + i < a.rows { pair_of(a, row + i, 16 * block + j) } else { 0 };
                    }
                }
            }
        }
    }
}

/// A pair of a row's elements, zero beyond the last.
#[inline(always)]
fn pair_of<E: Element>(a: Matrix<E>, row: usize, pair: usize) -> u32 {
    let mut bits = 0;
    for half in 0..2 {
        let column = 2 * pair + half;
        if column < a.cols {
            bits |= a.data[row * a.row_stride + column * a.col_stride].bf16_bits() << (16 * half);
        }
    }
    bits
}

/// A pair of elements, the first in the lower half.
#[inline(always)]
fn joined<E: Element>([low, high]: [E; 2]) -> u32 {
    low.bf16_bits() | high.bf16_bits() << 16
}

/// Eight pairs of elements.
#[inline(always)]
fn eight_joined<E: Element>(x: &[[E; 2]; 8]) -> [u32; 8] {
    let mut pairs = [0; 8];
    for i in 0..8 {
        pairs[i] = joined(x[i]);
    }
    pairs
}

/// Eight elements as f32.
#[inline(always)]
pub fn floats<E: Element>(x: &[E; 8]) -> [f32; 8] {
    let mut floats = [0.0; 8];
    for i in 0..8 {
        floats[i] = x[i].to_f32();
    }
    floats
}

#[inline(always)]
fn rounded_if<const ROUNDED: bool>(x: f32) -> f32 {
    if ROUNDED { f32::from_bits(bf16_bits(x) << 16) } else { x }
}

#[inline(always)]
fn rounded_eight_if<const ROUNDED: bool>(mut x: [f32; 8]) -> [f32; 8] {
    for x in &mut x {
        *x = rounded_if::<ROUNDED>(*x);
    }
    x
}

/// Writes eight columns of eight as group `group` of eight columns of as many rows.
#[inline(always)]
fn write_group<T: Copy, const COLS: usize>(simd: V3, columns: [f32x8; 8], packed: &mut [[T; COLS]; 8], group: usize)
where
    [T; 8]: bytemuck::Pod,
{
    for (packed, row) in packed.iter_mut().zip(transpose(simd, columns)) {
        packed.as_chunks_mut::<8>().0[group] = pulp::cast(row);
    }
}
