//! Our own matrix products: those of many rows with a frozen weight, by all threads, and attention's, each by one. gemm spends
//! a tenth of the former on packing the weight and halves them between the threads; here a panel of the weight is packed just
//! before it is multiplied, the next one is fetched from memory meanwhile, and threads take small pieces, so that a slower core
//! keeps no other waiting.
//!
//! The plan is the usual one (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a tile of sums
//! in registers, a panel of columns of the right matrix and a block of rows of the left one, both packed, in the caches. What
//! depends on the processor's instructions is a [`Tiling`]: the size of a tile, what is packed, and how a tile is summed. The
//! order of a sum's additions depends on the length of the rows alone.
//!
//! Begin with [`multiply`] and [`Tiling`]; `vectors`, `avx512_bf16` and `amx` are the tilings, and `pack` is what they read. `few_left`
//! multiplies few rows, for which nothing is worth packing, with the same bits.

mod amx;
mod avx512_bf16;
mod few_left;
mod pack;
mod tile;
mod vectors;

use std::cell::Cell;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use gemm::Parallelism;
use pulp::NullaryFnOnce;
use pulp::x86::V3;
use rayon::prelude::*;

pub use self::amx::Amx;
pub use self::avx512_bf16::Avx512Bf16;
pub use self::vectors::{Avx2, Avx512};
use super::matrix::{Destination, Element, Matrix};

/// Most units of the inner dimension in a panel of the right matrix, which the second-level cache has room for.
const DEPTH: usize = 1024;

/// Units of the left matrix that a panel meets before the next panel does: 256 KiB, which stay in that cache too.
const LEFT_BLOCK: usize = 64 << 10;

/// Units of the left matrix that are packed at a time: 16 MiB.
const LEFT: usize = if cfg!(test) { 10_000 } else { 4 << 20 }; // tests go through several

/// Most panels of a task.
const PANELS: usize = 4;

/// Units of the inner dimension at which a tile fetches one address for the next panel.
const STEP: usize = 4;

/// Bytes of a line of the caches.
const LINE_BYTES: usize = 64;

/// What the instructions of a processor decide: how both matrices are packed, and how a tile of their product is summed. A *unit*
/// is what is packed of one row or column at a time: one f32, or a pair of bf16.
pub trait Tiling: Copy + Send + Sync {
    /// Rows of a tile of sums.
    const ROWS: usize;
    /// Columns of a tile of sums, and of a panel of the right matrix.
    const COLS: usize;
    /// Elements of the inner dimension in a unit.
    const UNIT: usize;
    /// The inner dimension is filled up with zeros to a multiple of so many units.
    const UNITS: usize = 1;
    /// Whether rows of zeros complete the last band of the left matrix.
    const WHOLE_BANDS: bool = false;
    /// A unit, which has four bytes.
    type Unit: Pod + Send + Sync;

    /// AVX2's instructions where the tiling's sums are those of f32, each added one after the other: [`few_left`] multiplies few rows
    /// with the same bits.
    fn in_turn(self) -> Option<V3> {
        None
    }

    /// Runs `body` compiled for the processor's instructions. `body` must be inlined always.
    fn vectorize(self, body: impl NullaryFnOnce<Output = ()>);

    /// Runs a body like [`Tiling::vectorize`], which sums tiles.
    fn with_tiles(self, body: impl NullaryFnOnce<Output = ()>) {
        self.vectorize(body);
    }

    /// Packs as many rows of the left matrix from `row` on as `packed` has room for, [`Tiling::ROWS`] at most. `packed (units, rows)`,
    /// in whatever order a tile reads them
    fn pack_left(self, a: Matrix, row: usize, packed: &mut [Self::Unit]);

    /// Packs some units of [`Tiling::COLS`] columns of the right matrix from `column` on, with zeros beyond the last. `packed
    /// (units, COLS)`
    fn pack_right<E: Element>(self, b: Matrix<E>, units: Range<usize>, column: usize, packed: &mut [Self::Unit]);

    /// Writes `[onto +] a·b` to a tile. `a (units, rows)` as [`Tiling::pack_left`] has left them, `b (units, COLS)`
    ///
    /// # Safety
    /// The tile's destination must be valid for writes of its rows and columns, which no one else uses meanwhile, and what is added
    /// for reads of the same.
    unsafe fn write_tile(self, a: &[Self::Unit], b: &[Self::Unit], tile: Tile);
}

/// Where a tile of a product goes.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Destination of the tile's first element.
    destination: Destination,
    /// Number of rows, [`Tiling::ROWS`] at most.
    rows: usize,
    /// Number of columns, [`Tiling::COLS`] at most.
    cols: usize,
    fetch: Prefetch,
}

/// What a tile fetches from memory into the second-level cache: an address at each of its steps.
#[derive(Clone, Copy)]
struct Prefetch {
    /// The first address.
    from: *const u8,
    /// Bytes from a step's address to the next step's.
    bytes: usize,
}

impl Prefetch {
    /// Fetches the address of a step.
    #[inline(always)]
    fn step(&mut self) {
        // SAFETY: it is a hint, allowed at any address.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(self.from.cast()) };
        self.from = self.from.wrapping_add(self.bytes);
    }
}

/// Memory for packed units that begins where a line of the caches does.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE_BYTES / 4]);

// SAFETY: sixteen numbers of four bytes fill the 64 bytes, and any bits are such numbers.
unsafe impl Zeroable for Line {}
unsafe impl Pod for Line {}

thread_local! {
    /// Where products pack their matrices, kept for the next one: fresh memory would be cleared first.
    static LEFT_BUFFER: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static RIGHT_BUFFER: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The first `units` units of a buffer, which grows where it is too short.
fn units_of<U: Pod>(buffer: &mut Vec<Line>, units: usize) -> &mut [U] {
    let lines = (units * size_of::<U>()).div_ceil(LINE_BYTES);
    buffer.resize(buffer.len().max(lines), Line::zeroed());
    &mut bytemuck::cast_slice_mut(buffer)[..units]
}

/// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
///
/// # Safety
/// As `ProductKernel::multiply`.
pub unsafe fn multiply<T: Tiling, E: Element>(
    tiling: T,
    destination: Destination,
    a: Matrix,
    b: Matrix<E>,
    parallelism: Parallelism,
) {
    assert!(a.cols == b.rows && b.rows > 0);
    assert!(a.row_stride == 1 || a.col_stride == 1);
    assert!(b.row_stride == 1 || b.col_stride == 1);
    if (1..=few_left::MOST_ROWS).contains(&a.rows)
        && a.col_stride == 1
        && b.row_stride == 1
        && let Some(simd) = tiling.in_turn()
    {
        // SAFETY: as the caller promises.
        return unsafe { few_left::multiply(simd, destination, a, b, parallelism) };
    }
    let units = b.rows.div_ceil(T::UNIT).next_multiple_of(T::UNITS);
    let mut buffer = LEFT_BUFFER.take();
    let at_once = (LEFT / units).max(1).next_multiple_of(T::ROWS);
    let (mut rest, mut destination) = (a, destination);
    while rest.rows > 0 {
        let (a, below) = rest.split_rows(at_once);
        let packed_rows = if T::WHOLE_BANDS { a.rows.next_multiple_of(T::ROWS) } else { a.rows };
        let left = units_of(&mut buffer, packed_rows * units);
        let pack = |(band, packed)| tiling.vectorize(PackLeft { tiling, a, row: band * T::ROWS, packed });
        match parallelism {
            Parallelism::None => left.chunks_mut(T::ROWS * units).enumerate().for_each(pack),
            Parallelism::Rayon(_) => left.par_chunks_mut(T::ROWS * units).with_min_len(8).enumerate().for_each(pack),
        }
        // SAFETY: as the caller promises, of these rows.
        unsafe { by_columns(PackedProduct { tiling, left, rows: a.rows, units, b, destination }, parallelism) };
        destination = destination.at(a.rows, 0);
        rest = below;
    }
    LEFT_BUFFER.set(buffer);
}

/// Packs a band of the left matrix.
struct PackLeft<'a, T: Tiling> {
    tiling: T,
    a: Matrix<'a>,
    row: usize,
    packed: &'a mut [T::Unit],
}

impl<T: Tiling> NullaryFnOnce for PackLeft<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.tiling.pack_left(self.a, self.row, self.packed);
    }
}

/// A product whose left matrix is packed.
#[derive(Clone, Copy)]
struct PackedProduct<'a, T: Tiling, E> {
    tiling: T,
    /// Bands of [`Tiling::ROWS`] rows, the last of what is left, `(units, rows)` each.
    left: &'a [T::Unit],
    /// Number of rows of the product.
    rows: usize,
    /// Number of units of the inner dimension.
    units: usize,
    b: Matrix<'a, E>,
    destination: Destination,
}

/// Units of the inner dimension that are summed before their sum is added to that of the units before them, `multiple` a factor.
fn depth(units: usize, multiple: usize) -> usize {
    units.div_ceil(units.div_ceil(DEPTH)).next_multiple_of(multiple.max(8))
}

/// Runs a product in tasks of some panels of columns each.
///
/// # Safety
/// As [`multiply`], of the rows of `left`.
unsafe fn by_columns<T: Tiling, E: Element>(product: PackedProduct<T, E>, parallelism: Parallelism) {
    let (units, panels) = (product.units, product.b.cols.div_ceil(T::COLS));
    let depth = depth(units, T::UNITS);
    let run = |panels: Range<usize>| {
        let mut buffer = RIGHT_BUFFER.take();
        let right = units_of(&mut buffer, panels.len() * depth * T::COLS);
        product.tiling.with_tiles(PanelTask { product, right, panels, depth });
        RIGHT_BUFFER.set(buffer);
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

/// Units of a panel of the right matrix that are to be packed.
struct Next {
    units: Range<usize>,
    panel: usize,
}

/// Some panels of columns of a product.
struct PanelTask<'a, T: Tiling, E> {
    product: PackedProduct<'a, T, E>,
    right: &'a mut [T::Unit],
    panels: Range<usize>,
    depth: usize,
}

impl<T: Tiling, E: Element> NullaryFnOnce for PanelTask<'_, T, E> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let inner = self.product.units;
        let block_rows = (LEFT_BLOCK / self.depth / T::ROWS).max(1) * T::ROWS;
        for start in (0..inner).step_by(self.depth) {
            let units = start..(start + self.depth).min(inner);
            for (block, left) in self.product.left.chunks(block_rows * inner).enumerate() {
                for panel in self.panels.clone() {
                    if block == 0 {
                        self.pack(units.clone(), panel);
                    }
                    let next = self.next(&units, panel).filter(|_| block == 0);
                    self.tiles(units.clone(), panel, block * block_rows, left, next);
                }
            }
        }
    }
}

impl<T: Tiling, E: Element> PanelTask<'_, T, E> {
    /// Packs some units of a panel.
    #[inline(always)]
    fn pack(&mut self, units: Range<usize>, panel: usize) {
        let PackedProduct { tiling, b, .. } = self.product;
        let packed = &mut self.right[(panel - self.panels.start) * self.depth * T::COLS..][..units.len() * T::COLS];
        tiling.pack_right(b, units, panel * T::COLS, packed);
    }

    /// What is packed after some units of a panel: the same of the next panel, the next units, or what the next task begins
    /// with.
    #[inline(always)]
    fn next(&self, units: &Range<usize>, panel: usize) -> Option<Next> {
        let (inner, cols, depth) = (self.product.units, self.product.b.cols, self.depth);
        let (start, panel) = match panel + 1 == self.panels.end {
            true if units.end == inner => (0, panel + 1),
            true => (units.end, self.panels.start),
            false => (units.start, panel + 1),
        };
        ((panel + 1) * T::COLS <= cols).then(|| Next { units: start..(start + depth).min(inner), panel })
    }

    /// The part of what is packed next that tile `index` fetches, in `steps` steps. Without it a thread would wait for
    /// memory.
    #[inline(always)]
    fn fetch(&self, next: &Next, index: usize, steps: usize) -> Option<Prefetch> {
        let (b, column) = (self.product.b, next.panel * T::COLS);
        let elements = next.units.start * T::UNIT..next.units.end * T::UNIT;
        if b.col_stride == 1 {
            // A row of a panel is one line of the caches, or several, each of which is fetched by tiles of its own.
            let lines = (T::COLS * size_of::<E>() / LINE_BYTES).max(1);
            let row = elements.start + index / lines * steps;
            let column = column + index % lines * (LINE_BYTES / size_of::<E>());
            let from = || b.data.as_ptr().wrapping_add(row * b.row_stride + column).cast();
            return (row < elements.end).then(|| Prefetch { from: from(), bytes: b.row_stride * size_of::<E>() });
        }
        let from = || b.data.as_ptr().wrapping_add((column + index) * b.col_stride + elements.start).cast();
        (index < T::COLS).then(|| Prefetch { from: from(), bytes: STEP * T::UNIT * size_of::<E>() })
    }

    /// One panel's tiles in a block of rows, from `first` on.
    #[inline(always)]
    fn tiles(&self, units: Range<usize>, panel: usize, first: usize, left: &[T::Unit], next: Option<Next>) {
        let PackedProduct { tiling, rows, units: inner, b: Matrix { cols, .. }, destination, .. } = self.product;
        let b = &self.right[(panel - self.panels.start) * self.depth * T::COLS..][..units.len() * T::COLS];
        for (i, a) in left.chunks(T::ROWS * inner).enumerate() {
            let (row, packed_rows) = (first + i * T::ROWS, a.len() / inner);
            let a = &a[units.start * packed_rows..units.end * packed_rows];
            let mut destination = destination.at(row, panel * T::COLS);
            if units.start > 0 {
                destination.onto = Some(destination.data);
            }
            let fetch = next.as_ref().and_then(|next| self.fetch(next, i, units.len() / STEP));
            let fetch = fetch.unwrap_or(Prefetch { from: a.as_ptr().cast(), bytes: 0 });
            let (rows, cols) = (T::ROWS.min(rows - row), T::COLS.min(cols - panel * T::COLS));
            // SAFETY: the rows and columns of this tile are in the product, and another task writes none of them.
            unsafe { tiling.write_tile(a, b, Tile { destination, rows, cols, fetch }) }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod amx_emulator;

#[cfg(test)]
mod tests;
