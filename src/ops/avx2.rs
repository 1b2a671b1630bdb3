//! Matrix products on processors with AVX2 and without AVX-512: those of many rows with a frozen weight, by all threads, and
//! attention's, each by one. gemm spends a tenth of the former on packing the weight and halves them between the threads; here a
//! panel of the weight is packed just before it is multiplied, the next one is fetched from memory meanwhile, and threads take
//! small pieces, so that a slower core keeps no other waiting.
//!
//! The plan is the usual one (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a tile of
//! 6 × 16 sums in registers, 16 columns of the right matrix and a block of rows of the left one, both packed, in the caches. The
//! order of a sum's additions depends on the length of the rows alone.

// The pieces of a product are columns of the same rows of the destination.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m256, _MM_HINT_T0, _MM_HINT_T1};
use std::cell::Cell;
use std::ops::Range;

use gemm::Parallelism;
use pulp::x86::{V3, V4};
use pulp::{NullaryFnOnce, f32x8};
use rayon::prelude::*;

use super::host::Matrix;

/// Rows of a tile of sums.
const ROWS: usize = 6;

/// Columns of a tile of sums, and of a panel of the right matrix.
const COLS: usize = 16;

/// Most rows of the right matrix in a panel: 64 KiB, as the second-level cache has room for.
const DEPTH: usize = 1024;

/// Elements of the left matrix that a panel meets before the next panel does: 256 KiB, which stay in that cache too.
const LEFT_BLOCK: usize = 64 << 10;

/// Elements of the left matrix that are packed at a time: 16 MiB.
const LEFT: usize = if cfg!(test) { 10_000 } else { 4 << 20 }; // tests go through several

/// Most panels of a task.
const PANELS: usize = 4;

/// Products that a tile adds to each sum at a step.
const STEP: usize = 4;

/// Multiplications that are worth several threads.
const WORTH_THREADS: usize = 1 << 18;

/// Multiplications that are worth packing.
const WORTH: usize = 1 << 15;

/// Whether a product here beats gemm's: on such a processor, and not too small, or with threads to be divided between them.
pub fn suits(a: Matrix, b: Matrix, parallelism: Parallelism) -> Option<V3> {
    let worth = match parallelism {
        Parallelism::None => WORTH,
        Parallelism::Rayon(_) => WORTH_THREADS,
    };
    V3::try_new().filter(|_| a.rows * a.cols * b.cols >= worth && !V4::is_available())
}

thread_local! {
    /// What one product packed is the room of the next: fresh memory would be cleared first.
    static LEFT_ROOM: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RIGHT_ROOM: Cell<Vec<[f32; COLS]>> = const { Cell::new(Vec::new()) };
}

/// `place (m, n; rows row_stride apart) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
///
/// # Safety
/// The place must be valid for writes of `a.rows` rows of `b.cols` elements `row_stride` apart (`row_stride` no less than
/// `b.cols`), and overlap neither operand; what it adds, for reads of the same. These are one place or do not overlap.
pub unsafe fn multiply(simd: V3, place: Place, row_stride: usize, a: Matrix, b: Matrix, parallelism: Parallelism) {
    assert!(a.cols == b.rows && b.rows > 0);
    assert!([a, b].iter().all(|matrix| matrix.row_stride == 1 || matrix.col_stride == 1));
    let mut room = LEFT_ROOM.take();
    let at_once = (LEFT / a.cols).max(1).next_multiple_of(ROWS);
    let (mut rest, mut place) = (a, place);
    while rest.rows > 0 {
        let (a, below) = rest.split_rows(at_once);
        let len = a.rows * a.cols;
        room.resize(room.len().max(len), 0.0);
        let left = &mut room[..len];
        let pack = |(band, packed)| simd.vectorize(PackLeft { simd, a, row: band * ROWS, packed });
        match parallelism {
            Parallelism::None => left.chunks_mut(ROWS * a.cols).enumerate().for_each(pack),
            Parallelism::Rayon(_) => left.par_chunks_mut(ROWS * a.cols).with_min_len(8).enumerate().for_each(pack),
        }
        // SAFETY: as the caller promises, of these rows.
        unsafe { by_columns(Product { simd, left, b, place, row_stride }, parallelism) };
        place = place.at(a.rows * row_stride);
        rest = below;
    }
    LEFT_ROOM.set(room);
}

/// A product whose left matrix is packed.
#[derive(Clone, Copy)]
struct Product<'a> {
    simd: V3,
    /// Bands of [`ROWS`] rows, the last of what is left, `(K, rows)` each.
    left: &'a [f32],
    b: Matrix<'a>,
    place: Place,
    row_stride: usize,
}

/// One task some panels of columns.
///
/// # Safety
/// As [`multiply`], of the rows of `left`.
unsafe fn by_columns(product: Product, parallelism: Parallelism) {
    let (inner, panels) = (product.b.rows, product.b.cols.div_ceil(COLS));
    let depth = inner.div_ceil(inner.div_ceil(DEPTH)).next_multiple_of(8);
    let run = |panels: Range<usize>| {
        let mut right = RIGHT_ROOM.take();
        right.resize(right.len().max(panels.len() * depth), [0.0; COLS]);
        product.simd.vectorize(Columns { product, right: &mut right, panels, depth });
        RIGHT_ROOM.set(right);
    };
    match parallelism {
        Parallelism::None => tasks(panels, 1).into_iter().for_each(run),
        Parallelism::Rayon(threads) => tasks(panels, threads.max(1)).into_par_iter().with_max_len(1).for_each(run),
    }
}

/// Panels of each task: as many for each thread, the last tasks of a share smaller, so that all threads end together.
fn tasks(panels: usize, threads: usize) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    for thread in 0..threads {
        let (mut start, end) = (thread * panels / threads, (thread + 1) * panels / threads);
        while start < end {
            let len = PANELS.min((end - start).div_ceil(2));
            tasks.push(start..start + len);
            start += len;
        }
    }
    tasks
}

/// Where a product goes, and what it is added to, if to anything.
#[derive(Clone, Copy)]
pub struct Place {
    /// Written.
    pub dst: *mut f32,
    /// Read, with the rows as far apart.
    pub onto: Option<*const f32>,
}

// SAFETY: the tasks of a product write different columns, and read no others.
unsafe impl Send for Place {}
unsafe impl Sync for Place {}

impl Place {
    /// The same, some elements on.
    fn at(self, offset: usize) -> Self {
        Self { dst: self.dst.wrapping_add(offset), onto: self.onto.map(|onto| onto.wrapping_add(offset)) }
    }
}

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

/// Rows of a panel of the right matrix that are to be packed.
struct Next {
    rows: Range<usize>,
    panel: usize,
}

/// What a tile fetches from memory into the second-level cache: an address at each of its steps.
struct Fetch {
    from: *const f32,
    /// From a step's address to the next step's.
    bytes: usize,
}

/// Some panels of columns of a product.
struct Columns<'a> {
    product: Product<'a>,
    right: &'a mut [[f32; COLS]],
    panels: Range<usize>,
    depth: usize,
}

impl NullaryFnOnce for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let inner = self.product.b.rows;
        let block_rows = (LEFT_BLOCK / self.depth / ROWS).max(1) * ROWS;
        for start in (0..inner).step_by(self.depth) {
            let rows = start..(start + self.depth).min(inner);
            for (block, left) in self.product.left.chunks(block_rows * inner).enumerate() {
                for panel in self.panels.clone() {
                    if block == 0 {
                        self.pack_right(rows.clone(), panel);
                    }
                    let next = self.next(&rows, panel).filter(|_| block == 0);
                    self.tiles(rows.clone(), panel, block * block_rows, left, next);
                }
            }
        }
    }
}

impl Columns<'_> {
    /// Sixteen columns of some rows of the right matrix, side by side, zero beyond the last.
    #[inline(always)]
    fn pack_right(&mut self, rows: Range<usize>, panel: usize) {
        let (Product { simd, b, .. }, column) = (self.product, panel * COLS);
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

    /// What is packed after some rows of a panel: the same of the next panel, the next rows, or what the next task begins with.
    #[inline(always)]
    fn next(&self, rows: &Range<usize>, panel: usize) -> Option<Next> {
        let (Matrix { rows: inner, cols, .. }, depth) = (self.product.b, self.depth);
        let (start, panel) = match panel + 1 == self.panels.end {
            true if rows.end == inner => (0, panel + 1),
            true => (rows.end, self.panels.start),
            false => (rows.start, panel + 1),
        };
        ((panel + 1) * COLS <= cols).then(|| Next { rows: start..(start + depth).min(inner), panel })
    }

    /// The part of what is packed next that tile `index` fetches, in `steps` steps. Without it a thread would wait for memory.
    #[inline(always)]
    fn fetch(&self, next: &Next, index: usize, steps: usize) -> Option<Fetch> {
        let (b, column) = (self.product.b, next.panel * COLS);
        if b.col_stride == 1 {
            let row = next.rows.start + index * steps;
            let from = || b.data.as_ptr().wrapping_add(row * b.row_stride + column);
            return (row < next.rows.end).then(|| Fetch { from: from(), bytes: b.row_stride * size_of::<f32>() });
        }
        let from = || b.data.as_ptr().wrapping_add((column + index) * b.col_stride + next.rows.start);
        (index < COLS).then(|| Fetch { from: from(), bytes: STEP * size_of::<f32>() })
    }

    /// One panel's tiles in a block of rows, from `first` on.
    #[inline(always)]
    fn tiles(&self, rows: Range<usize>, panel: usize, first: usize, left: &[f32], next: Option<Next>) {
        let Product { simd, b: Matrix { rows: inner, cols, .. }, place, row_stride, .. } = self.product;
        let b = &self.right[(panel - self.panels.start) * self.depth..][..rows.len()];
        for (i, a) in left.chunks(ROWS * inner).enumerate() {
            let count = a.len() / inner;
            let a = &a[rows.start * count..rows.end * count];
            let mut place = place.at((first + i * ROWS) * row_stride + panel * COLS);
            if rows.start > 0 {
                place.onto = Some(place.dst);
            }
            let fetch = next.as_ref().and_then(|next| self.fetch(next, i, rows.len() / STEP));
            let fetch = fetch.unwrap_or(Fetch { from: a.as_ptr(), bytes: 0 });
            let tile = Tile { simd, place, row_stride, cols: COLS.min(cols - panel * COLS), fetch };
            // SAFETY: the rows and columns of this tile are in the product, and another task writes none of them.
            unsafe {
                match count {
                    ROWS => tile.write::<ROWS>(a, b),
                    5 => tile.write::<5>(a, b),
                    4 => tile.write::<4>(a, b),
                    3 => tile.write::<3>(a, b),
                    2 => tile.write::<2>(a, b),
                    _ => tile.write::<1>(a, b),
                }
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

/// A tile of a product: rows of `cols` columns, [`COLS`] at most.
struct Tile {
    simd: V3,
    place: Place,
    row_stride: usize,
    cols: usize,
    fetch: Fetch,
}

impl Tile {
    /// `a (depth, R)`, `b (depth, 16)`.
    ///
    /// # Safety
    /// The place must be valid for writes of `R` rows of `cols` elements `row_stride` apart, which no one else uses meanwhile, and
    /// what it adds for reads.
    #[inline(always)]
    unsafe fn write<const R: usize>(self, a: &[f32], b: &[[f32; COLS]]) {
        let Self { simd, place, row_stride, cols, mut fetch } = self;
        for row in 0..R {
            simd.sse._mm_prefetch::<_MM_HINT_T0>(place.at(row * row_stride).dst.cast());
        }
        let mut sums = [[simd.splat_f32x8(0.0); 2]; R];
        let (a, _) = a.as_chunks::<R>();
        let ((a_steps, a), (b_steps, b)) = (a.as_chunks::<STEP>(), b.as_chunks::<STEP>());
        for (a, b) in a_steps.iter().zip(b_steps) {
            simd.sse._mm_prefetch::<_MM_HINT_T1>(fetch.from.cast());
            fetch.from = fetch.from.wrapping_byte_add(fetch.bytes);
            for i in 0..STEP {
                multiply_add(simd, &mut sums, &a[i], &b[i]);
            }
        }
        for (a, b) in a.iter().zip(b) {
            multiply_add(simd, &mut sums, a, b);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let Place { dst, onto } = place.at(i * row_stride);
            // SAFETY: the caller answers for the rows; 16 columns are `[[f32; 8]; 2]`.
            unsafe {
                if cols == COLS {
                    let mut sums = sums;
                    if let Some(onto) = onto {
                        let [left, right]: [f32x8; 2] = pulp::cast(onto.cast::<[[f32; 8]; 2]>().read());
                        sums = [simd.add_f32x8(left, sums[0]), simd.add_f32x8(right, sums[1])];
                    }
                    dst.cast::<[[f32; 8]; 2]>().write(pulp::cast(sums));
                } else {
                    let sums: [f32; COLS] = pulp::cast(sums);
                    for (column, sum) in sums.iter().take(cols).enumerate() {
                        dst.add(column).write(onto.map_or(0.0, |onto| onto.add(column).read()) + sum);
                    }
                }
            }
        }
    }
}

/// sums (R, 16) += a (R) · b (16)
#[inline(always)]
fn multiply_add<const R: usize>(simd: V3, sums: &mut [[f32x8; 2]; R], a: &[f32; R], b: &[f32; COLS]) {
    let b: [f32x8; 2] = pulp::cast(*b);
    for (sums, a) in sums.iter_mut().zip(a) {
        let a = simd.splat_f32x8(*a);
        sums[0] = simd.mul_add_f32x8(a, b[0], sums[0]);
        sums[1] = simd.mul_add_f32x8(a, b[1], sums[1]);
    }
}

#[cfg(test)]
#[path = "avx2_tests.rs"]
mod tests;
