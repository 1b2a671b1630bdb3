//! The products of many rows with a frozen weight, for processors with AVX2 and without AVX-512. `gemm` packs a weight at each
//! product, which waits for memory and costs a tenth of the time; here the next piece of the weight is fetched into the cache
//! while the one before it is multiplied, and threads take small pieces, so that a slow core keeps no other waiting.
//!
//! The plan is the usual one (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a tile of
//! 6 × 16 sums stays in registers, a panel of 16 columns of the right matrix in the first-level cache, a block of rows of the
//! left one in the second. A sum's order of additions depends on the length of the rows alone.

// Pointers into the destination: the pieces of a product are columns of the same rows.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::arch::x86_64::{__m256, _MM_HINT_T0};
use std::ops::Range;

use pulp::x86::{V3, V4};
use pulp::{NullaryFnOnce, f32x8};
use rayon::prelude::*;

use super::host::{Into, Matrix};

/// Rows of a tile of sums.
const ROWS: usize = 6;

/// Columns of a tile of sums, and of a panel of the right matrix.
const COLS: usize = 16;

/// Products that a sum takes before it is written: a panel of the right matrix fills the first-level cache at most.
const DEPTH: usize = 1024;

/// Elements of the left matrix that one panel of the right meets before the next: 256 KiB, half of a small second-level cache.
const LEFT_BLOCK: usize = 64 << 10;

/// Panels of a task.
const PANELS: usize = 4;

/// Multiplications that are worth several threads.
const WORTH: usize = 1 << 18;

/// Bytes from what a tile multiplies to what it fetches of the left matrix.
const AHEAD: usize = 512;

/// Whether a product here beats gemm's: on such a processor, of rows, and not too small to be divided.
pub fn suits(a: Matrix, b: Matrix) -> Option<V3> {
    let worth = a.col_stride == 1 && a.rows * a.cols * b.cols >= WORTH;
    V3::try_new().filter(|_| worth && !V4::is_available())
}

thread_local! {
    /// What one product packed is the room of the next: fresh memory would be cleared first.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<[f32; COLS]>> = const { Cell::new(Vec::new()) };
}

/// `dst (m, n; rows row_stride apart) = [dst +] a (m, k) · b (k, n)`, by all threads.
///
/// # Safety
/// `dst` must be valid for writes of `a.rows` rows of `b.cols` elements `row_stride` apart (`row_stride` no less than
/// `b.cols`), initialised for [`Into::Add`], and overlap neither operand.
pub unsafe fn multiply(simd: V3, dst: *mut f32, row_stride: usize, into: Into, a: Matrix, b: Matrix) {
    let depth = a.cols.div_ceil(a.cols.div_ceil(DEPTH).max(1)).next_multiple_of(8);
    let mut room = LEFT.take();
    if room.len() < a.rows * a.cols {
        room.resize(a.rows * a.cols, 0.0);
    }
    let left = &mut room[..a.rows * a.cols];
    left.par_chunks_mut(ROWS * a.cols).with_min_len(8).enumerate().for_each(|(band, packed)| {
        simd.vectorize(PackLeft { simd, a, row: band * ROWS, packed });
    });
    let left = &*left;
    let panels = b.cols.div_ceil(COLS);
    let tasks = panels.div_ceil(PANELS).next_multiple_of(rayon::current_num_threads()).min(panels);
    let dst = Destination(dst);
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let panels = task * panels / tasks..(task + 1) * panels / tasks;
        let mut right = RIGHT.take();
        right.resize(right.len().max(panels.len() * depth), [0.0; COLS]);
        simd.vectorize(Columns { simd, left, right: &mut right, b, panels, depth, dst, row_stride, into });
        RIGHT.set(right);
    });
    LEFT.set(room);
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Destination(*mut f32);

// SAFETY: the tasks of a product write different columns.
unsafe impl Send for Destination {}
unsafe impl Sync for Destination {}

/// Up to [`ROWS`] rows from `row`, their elements side by side: `packed (K, rows)`.
struct PackLeft<'a> {
    simd: V3,
    a: Matrix<'a>,
    row: usize,
    packed: &'a mut [f32],
}

impl NullaryFnOnce for PackLeft<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let len = self.a.cols;
        let row = |i: usize| &self.a.data[(self.row + i) * self.a.row_stride..][..len];
        if self.packed.len() < ROWS * len {
            let count = self.packed.len() / len;
            for (column, packed) in self.packed.chunks_exact_mut(count).enumerate() {
                packed.iter_mut().enumerate().for_each(|(i, x)| *x = row(i)[column]);
            }
            return;
        }
        let rows: [_; ROWS] = std::array::from_fn(|i| row(i).as_chunks::<8>());
        let (columns, _) = self.packed.as_chunks_mut::<ROWS>();
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

/// Some panels of columns of a product.
struct Columns<'a> {
    simd: V3,
    left: &'a [f32],
    right: &'a mut [[f32; COLS]],
    b: Matrix<'a>,
    panels: Range<usize>,
    depth: usize,
    dst: Destination,
    row_stride: usize,
    into: Into,
}

impl NullaryFnOnce for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let bands = (LEFT_BLOCK / self.depth / ROWS).max(1);
        for start in (0..self.b.rows).step_by(self.depth) {
            let rows = start..(start + self.depth).min(self.b.rows);
            for (block, left) in self.left.chunks(bands * ROWS * self.b.rows).enumerate() {
                for panel in self.panels.clone() {
                    if block == 0 {
                        self.pack_right(rows.clone(), panel);
                    }
                    let next = (block == 0).then(|| self.after(start, panel));
                    self.tiles(rows.clone(), panel, block * bands * ROWS, left, next);
                }
            }
        }
    }
}

impl Columns<'_> {
    /// Sixteen columns of some rows of the right matrix, side by side, zero beyond the last.
    #[inline(always)]
    fn pack_right(&mut self, rows: Range<usize>, panel: usize) {
        let (b, column) = (self.b, panel * COLS);
        let cols = COLS.min(b.cols - column);
        let packed = &mut self.right[(panel - self.panels.start) * self.depth..][..rows.len()];
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
            let mut halves = [[self.simd.splat_f32x8(0.0); 8]; 2];
            for (half, columns) in halves.iter_mut().zip(columns.as_chunks::<8>().0) {
                for (eight, column) in half.iter_mut().zip(columns) {
                    *eight = pulp::cast(column.0[i]);
                }
                *half = transpose(self.simd, *half);
            }
            for (j, packed) in packed.iter_mut().enumerate() {
                *packed = pulp::cast([halves[0][j], halves[1][j]]);
            }
        }
        for (i, packed) in rest.iter_mut().enumerate() {
            *packed = columns.map(|column| column.1[i]);
        }
    }

    /// One panel's tiles in a block of rows, from `first` on.
    #[inline(always)]
    fn tiles(&self, rows: Range<usize>, panel: usize, first: usize, left: &[f32], next: Option<(usize, usize)>) {
        let inner = self.b.rows;
        let b = &self.right[(panel - self.panels.start) * self.depth..][..rows.len()];
        let cols = COLS.min(self.b.cols - panel * COLS);
        let bands = left.len().div_ceil(ROWS * inner);
        for (i, a) in left.chunks(ROWS * inner).enumerate() {
            if let Some((start, panel)) = next {
                self.fetch(start, panel, i, bands);
            }
            let count = a.len() / inner;
            let a = &a[rows.start * count..rows.end * count];
            // SAFETY: the rows and columns of this tile are in the product, and another task writes none of them.
            unsafe {
                let dst = self.dst.0.add((first + i * ROWS) * self.row_stride + panel * COLS);
                let tile = Tile { dst, row_stride: self.row_stride, cols, add: self.into == Into::Add || rows.start > 0 };
                match count {
                    ROWS => tile.write::<ROWS>(self.simd, a, b),
                    5 => tile.write::<5>(self.simd, a, b),
                    4 => tile.write::<4>(self.simd, a, b),
                    3 => tile.write::<3>(self.simd, a, b),
                    2 => tile.write::<2>(self.simd, a, b),
                    _ => tile.write::<1>(self.simd, a, b),
                }
            }
        }
    }

    /// What is packed after this panel: where its rows start, and which it is.
    fn after(&self, start: usize, panel: usize) -> (usize, usize) {
        if panel + 1 < self.panels.end { (start, panel + 1) } else { (start + self.depth, self.panels.start) }
    }

    /// Asks for part `i` of `parts` of a panel, which no one waits for.
    #[inline(always)]
    fn fetch(&self, start: usize, panel: usize, i: usize, parts: usize) {
        let depth = self.depth.min(self.b.rows.saturating_sub(start));
        let b = self.b;
        let lines = depth;
        let per = lines.div_ceil(parts);
        let across = depth.div_ceil(COLS);
        for line in i * per..((i + 1) * per).min(lines) {
            let at = match b.col_stride {
                1 => (start + line) * b.row_stride + panel * COLS,
                stride => (panel * COLS + line / across) * stride + start + line % across * COLS,
            };
            if let Some(element) = b.data.get(at) {
                self.simd.sse._mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast());
            }
        }
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

/// A tile of a product: up to [`ROWS`] rows of `cols` columns, [`COLS`] at most.
struct Tile {
    dst: *mut f32,
    row_stride: usize,
    cols: usize,
    add: bool,
}

impl Tile {
    /// `a (depth, R)`, `b (depth, 16)`.
    ///
    /// # Safety
    /// `dst` must be valid for reads and writes of `R` rows of `cols` elements `row_stride` apart.
    #[inline(always)]
    unsafe fn write<const R: usize>(self, simd: V3, a: &[f32], b: &[[f32; COLS]]) {
        for row in 0..R {
            simd.sse._mm_prefetch::<_MM_HINT_T0>(self.dst.wrapping_add(row * self.row_stride).cast());
        }
        let mut sums = [[simd.splat_f32x8(0.0); 2]; R];
        let (a, _) = a.as_chunks::<R>();
        let ((a_fours, a), (b_fours, b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
        for (a, b) in a_fours.iter().zip(b_fours) {
            let ahead = a.as_ptr().cast::<i8>().wrapping_add(AHEAD);
            simd.sse._mm_prefetch::<_MM_HINT_T0>(ahead);
            simd.sse._mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
            for i in 0..4 {
                multiply_add(simd, &mut sums, &a[i], &b[i]);
            }
        }
        for (a, b) in a.iter().zip(b) {
            multiply_add(simd, &mut sums, a, b);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let row = unsafe { std::slice::from_raw_parts_mut(self.dst.add(i * self.row_stride), self.cols) };
            match <&mut [f32; COLS]>::try_from(&mut *row) {
                Ok(row) if self.add => {
                    let [left, right]: [f32x8; 2] = pulp::cast(*row);
                    *row = pulp::cast([simd.add_f32x8(left, sums[0]), simd.add_f32x8(right, sums[1])]);
                }
                Ok(row) => *row = pulp::cast(sums),
                Err(_) => {
                    let sums: [f32; COLS] = pulp::cast(sums);
                    for (y, sum) in row.iter_mut().zip(sums) {
                        *y = if self.add { *y + sum } else { sum };
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn multiply_add<const R: usize>(simd: V3, sums: &mut [[f32x8; 2]; R], a: &[f32; R], b: &[f32; COLS]) {
    let b: [f32x8; 2] = pulp::cast(*b);
    for (sums, a) in sums.iter_mut().zip(a) {
        let a = simd.splat_f32x8(*a);
        sums[0] = simd.mul_add_f32x8(a, b[0], sums[0]);
        sums[1] = simd.mul_add_f32x8(a, b[1], sums[1]);
    }
}
