//! Packing: the elements of both matrices in the order in which a tile reads them.

use std::arch::x86_64::__m256;
use std::ops::Range;

use pulp::x86::V3;
use pulp::{NullaryFnOnce, f32x8};

use super::super::matrix::Matrix;
use super::tile::{COLS, ROWS};

/// Packs up to [`ROWS`] rows of the left matrix from `row` on, their elements side by side. `packed (K, rows)`
pub struct PackLeft<'a> {
    pub simd: V3,
    pub a: Matrix<'a>,
    pub row: usize,
    pub packed: &'a mut [f32],
}

impl NullaryFnOnce for PackLeft<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Matrix { data, cols: len, row_stride, col_stride, .. } = self.a;
        let (first, count) = (self.row * row_stride, self.packed.len() / len);
        if count < ROWS {
            for (column, packed) in self.packed.chunks_exact_mut(count).enumerate() {
                let first = first + column * col_stride;
                packed.iter_mut().enumerate().for_each(|(i, x)| *x = data[first + i * row_stride]);
            }
            return;
        }
        let (columns, _) = self.packed.as_chunks_mut::<ROWS>();
        if col_stride != 1 {
            for (column, packed) in columns.iter_mut().enumerate() {
                packed.copy_from_slice(&data[first + column * col_stride..][..ROWS]);
            }
            return;
        }
        let row = |i: usize| &data[first + i * row_stride..][..len];
        let rows: [_; ROWS] = std::array::from_fn(|i| row(i).as_chunks::<8>());
        let (eights, rest) = columns.as_chunks_mut::<8>();
        for (i, packed) in eights.iter_mut().enumerate() {
            let mut eight = [self.simd.splat_f32x8(0.0); 8];
            for (eight, row) in eight.iter_mut().zip(rows) {
                *eight = pulp::cast(row.0[i]);
            }
            for (packed, column) in packed.iter_mut().zip(transpose(self.simd, eight)) {
                let column: [f32; 8] = pulp::cast(column);
                packed.copy_from_slice(&column[..ROWS]);
            }
        }
        for (i, packed) in rest.iter_mut().enumerate() {
            *packed = rows.map(|row| row.1[i]);
        }
    }
}

/// Some rows of the right matrix, sixteen columns from `column` on, side by side, zero beyond the last. `packed (rows, 16)`
#[inline(always)]
pub fn pack_right(simd: V3, b: Matrix, rows: Range<usize>, column: usize, packed: &mut [[f32; COLS]]) {
    let cols = COLS.min(b.cols - column);
    if b.col_stride == 1 {
        for (row, packed) in rows.zip(packed) {
            let values = &b.data[row * b.row_stride + column..][..cols];
            match <&[f32; COLS]>::try_from(values) {
                Ok(values) => *packed = *values,
                Err(_) => {
                    packed[..cols].copy_from_slice(values);
                    packed[cols..].fill(0.0);
                }
            }
        }
        return;
    }
    let column_of = |i: usize| &b.data[(column + i) * b.col_stride..][rows.clone()];
    if cols < COLS {
        for (row, packed) in packed.iter_mut().enumerate() {
            *packed = std::array::from_fn(|i| if i < cols { column_of(i)[row] } else { 0.0 });
        }
        return;
    }
    let columns: [_; COLS] = std::array::from_fn(|i| column_of(i).as_chunks::<8>());
    let (eights, rest) = packed.as_chunks_mut::<8>();
    for (i, packed) in eights.iter_mut().enumerate() {
        let mut halves = [[simd.splat_f32x8(0.0); 8]; 2];
        for (half, columns) in halves.iter_mut().zip(columns.as_chunks::<8>().0) {
            for (eight, column) in half.iter_mut().zip(columns) {
                *eight = pulp::cast(column.0[i]);
            }
            *half = transpose(simd, *half);
        }
        for (j, packed) in packed.iter_mut().enumerate() {
            *packed = pulp::cast([halves[0][j], halves[1][j]]);
        }
    }
    for (i, packed) in rest.iter_mut().enumerate() {
        *packed = columns.map(|column| column.1[i]);
    }
}

/// Eight rows of eight as columns. Without closures, which a compiler may leave out of line, where it has no AVX.
#[inline(always)]
fn transpose(simd: V3, rows: [f32x8; 8]) -> [f32x8; 8] {
    let top = transpose_halves(simd, [rows[0], rows[1], rows[2], rows[3]]);
    let bottom = transpose_halves(simd, [rows[4], rows[5], rows[6], rows[7]]);
    let mut columns = rows;
    for i in 0..4 {
        columns[i] = pulp::cast(simd.avx._mm256_permute2f128_ps::<0x20>(top[i], bottom[i]));
        columns[i + 4] = pulp::cast(simd.avx._mm256_permute2f128_ps::<0x31>(top[i], bottom[i]));
    }
    columns
}

/// Columns i and i + 4 of four rows, for i of 0 to 3.
#[inline(always)]
fn transpose_halves(simd: V3, rows: [f32x8; 4]) -> [__m256; 4] {
    let avx = simd.avx;
    let r: [__m256; 4] = pulp::cast(rows);
    let (low, high) = (avx._mm256_unpacklo_ps(r[0], r[1]), avx._mm256_unpackhi_ps(r[0], r[1]));
    let (low_below, high_below) = (avx._mm256_unpacklo_ps(r[2], r[3]), avx._mm256_unpackhi_ps(r[2], r[3]));
    [
        avx._mm256_shuffle_ps::<0x44>(low, low_below),
        avx._mm256_shuffle_ps::<0xee>(low, low_below),
        avx._mm256_shuffle_ps::<0x44>(high, high_below),
        avx._mm256_shuffle_ps::<0xee>(high, high_below),
    ]
}
