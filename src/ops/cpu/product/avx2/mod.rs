//! Matrix products on processors with AVX2 and without AVX-512: those of many rows with a frozen weight, by all threads,
//! and attention's, each by one. gemm spends a tenth of the former on packing the weight and halves them between the
//! threads; here a panel of the weight is packed just before it is multiplied, the next one is fetched from memory
//! meanwhile, and threads take small pieces, so that a slower core keeps no other waiting.
//!
//! The plan is the usual one (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a tile of
//! 6 × 16 sums in registers, 16 columns of the right matrix and a block of rows of the left one, both packed, in the
//! caches. The order of a sum's additions depends on the length of the rows alone.

mod pack;
mod tile;

use std::cell::Cell;
use std::ops::Range;

use gemm::Parallelism;
use pulp::NullaryFnOnce;
use pulp::x86::{V3, V4};
use rayon::prelude::*;

use self::pack::{PackLeft, pack_right};
use self::tile::{COLS, Prefetch, ROWS, STEP, Tile};
use super::matrix::{Destination, Matrix};

/// Most rows of the right matrix in a panel: 64 KiB, as the second-level cache has room for.
const DEPTH: usize = 1024;

/// Elements of the left matrix that a panel meets before the next panel does: 256 KiB, which stay in that cache too.
const LEFT_BLOCK: usize = 64 << 10;

/// Elements of the left matrix that are packed at a time: 16 MiB.
const LEFT: usize = if cfg!(test) { 10_000 } else { 4 << 20 }; // tests go through several

/// Most panels of a task.
const PANELS: usize = 4;

/// Whether a product is computed here: on such a processor all of them are, small ones too. gemm would be a little faster
/// with those, but its order of additions depends on the number of rows: a row has the same bits alone and in a batch.
pub fn suits(a: Matrix, b: Matrix) -> Option<V3> {
    V3::try_new().filter(|_| a.rows * a.cols * b.cols > 0 && !V4::is_available())
}

thread_local! {
    /// Where products pack their matrices, kept for the next one: fresh memory would be cleared first.
    static LEFT_BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RIGHT_BUFFER: Cell<Vec<[f32; COLS]>> = const { Cell::new(Vec::new()) };
}

/// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
///
/// # Safety
/// As `ProductKernel::multiply`.
pub unsafe fn multiply(simd: V3, destination: Destination, a: Matrix, b: Matrix, parallelism: Parallelism) {
    assert!(a.cols == b.rows && b.rows > 0);
    assert!([a, b].iter().all(|matrix| matrix.row_stride == 1 || matrix.col_stride == 1));
    let mut buffer = LEFT_BUFFER.take();
    let at_once = (LEFT / a.cols).max(1).next_multiple_of(ROWS);
    let (mut rest, mut destination) = (a, destination);
    while rest.rows > 0 {
        let (a, below) = rest.split_rows(at_once);
        let len = a.rows * a.cols;
        buffer.resize(buffer.len().max(len), 0.0);
        let left = &mut buffer[..len];
        let pack = |(band, packed)| simd.vectorize(PackLeft { simd, a, row: band * ROWS, packed });
        match parallelism {
            Parallelism::None => left.chunks_mut(ROWS * a.cols).enumerate().for_each(pack),
            Parallelism::Rayon(_) => left.par_chunks_mut(ROWS * a.cols).with_min_len(8).enumerate().for_each(pack),
        }
        // SAFETY: as the caller promises, of these rows.
        unsafe { by_columns(PackedProduct { simd, left, b, destination }, parallelism) };
        destination = destination.at(a.rows, 0);
        rest = below;
    }
    LEFT_BUFFER.set(buffer);
}

/// A product whose left matrix is packed.
#[derive(Clone, Copy)]
struct PackedProduct<'a> {
    simd: V3,
    /// Bands of [`ROWS`] rows, the last of what is left, `(K, rows)` each.
    left: &'a [f32],
    b: Matrix<'a>,
    destination: Destination,
}

/// Runs a product in tasks of some panels of columns each.
///
/// # Safety
/// As [`multiply`], of the rows of `left`.
unsafe fn by_columns(product: PackedProduct, parallelism: Parallelism) {
    let (inner, panels) = (product.b.rows, product.b.cols.div_ceil(COLS));
    let depth = inner.div_ceil(inner.div_ceil(DEPTH)).next_multiple_of(8);
    let run = |panels: Range<usize>| {
        let mut right = RIGHT_BUFFER.take();
        right.resize(right.len().max(panels.len() * depth), [0.0; COLS]);
        product.simd.vectorize(PanelTask { product, right: &mut right, panels, depth });
        RIGHT_BUFFER.set(right);
    };
    match parallelism {
        Parallelism::None => tasks(panels, 1).into_iter().for_each(run),
        Parallelism::Rayon(threads) => tasks(panels, threads.max(1)).into_par_iter().with_max_len(1).for_each(run),
    }
}

/// Panels of each task. Each thread has as many panels, and the last tasks of its share are smaller, so that all threads
/// end together.
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

/// Rows of a panel of the right matrix that are to be packed.
struct Next {
    rows: Range<usize>,
    panel: usize,
}

/// Some panels of columns of a product.
struct PanelTask<'a> {
    product: PackedProduct<'a>,
    right: &'a mut [[f32; COLS]],
    panels: Range<usize>,
    depth: usize,
}

impl NullaryFnOnce for PanelTask<'_> {
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
                        self.pack(rows.clone(), panel);
                    }
                    let next = self.next(&rows, panel).filter(|_| block == 0);
                    self.tiles(rows.clone(), panel, block * block_rows, left, next);
                }
            }
        }
    }
}

impl PanelTask<'_> {
    /// Packs some rows of a panel.
    #[inline(always)]
    fn pack(&mut self, rows: Range<usize>, panel: usize) {
        let PackedProduct { simd, b, .. } = self.product;
        let packed = &mut self.right[(panel - self.panels.start) * self.depth..][..rows.len()];
        pack_right(simd, b, rows, panel * COLS, packed);
    }

    /// What is packed after some rows of a panel: the same of the next panel, the next rows, or what the next task begins
    /// with.
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

    /// The part of what is packed next that tile `index` fetches, in `steps` steps. Without it a thread would wait for
    /// memory.
    #[inline(always)]
    fn fetch(&self, next: &Next, index: usize, steps: usize) -> Option<Prefetch> {
        let (b, column) = (self.product.b, next.panel * COLS);
        if b.col_stride == 1 {
            let row = next.rows.start + index * steps;
            let from = || b.data.as_ptr().wrapping_add(row * b.row_stride + column);
            return (row < next.rows.end).then(|| Prefetch { from: from(), bytes: b.row_stride * size_of::<f32>() });
        }
        let from = || b.data.as_ptr().wrapping_add((column + index) * b.col_stride + next.rows.start);
        (index < COLS).then(|| Prefetch { from: from(), bytes: STEP * size_of::<f32>() })
    }

    /// One panel's tiles in a block of rows, from `first` on.
    #[inline(always)]
    fn tiles(&self, rows: Range<usize>, panel: usize, first: usize, left: &[f32], next: Option<Next>) {
        let PackedProduct { simd, b: Matrix { rows: inner, cols, .. }, destination, .. } = self.product;
        let b = &self.right[(panel - self.panels.start) * self.depth..][..rows.len()];
        for (i, a) in left.chunks(ROWS * inner).enumerate() {
            let count = a.len() / inner;
            let a = &a[rows.start * count..rows.end * count];
            let mut destination = destination.at(first + i * ROWS, panel * COLS);
            if rows.start > 0 {
                destination.onto = Some(destination.data);
            }
            let fetch = next.as_ref().and_then(|next| self.fetch(next, i, rows.len() / STEP));
            let fetch = fetch.unwrap_or(Prefetch { from: a.as_ptr(), bytes: 0 });
            let tile = Tile { simd, destination, cols: COLS.min(cols - panel * COLS), fetch };
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

#[cfg(test)]
mod tests;
