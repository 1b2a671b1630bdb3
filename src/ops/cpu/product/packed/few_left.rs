//! Products of at most eight rows with a matrix whose columns are contiguous, as those of a transposed weight are. Nothing is packed:
//! eight columns at a time are turned in registers, so that the product takes as long as reading the weight. A sum's additions have
//! the order of a tile's.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, f32x8};
use rayon::prelude::*;

use super::super::matrix::{Destination, Element, Matrix};
use super::pack::floats;
use super::{Parallelism, depth};
use crate::ops::cpu::transpose::transpose;

/// Most rows: with more, packing takes less time than turning columns for each few of them.
pub const MOST_ROWS: usize = 8;

/// Columns that are summed side by side.
const COLS: usize = 8;

/// Fewest columns of a task.
const TASK: usize = 16;

/// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all. The rows of `a`, [`MOST_ROWS`] at most, and the columns
/// of `b` must be contiguous.
///
/// # Safety
/// As `ProductKernel::multiply`.
pub unsafe fn multiply<E: Element>(simd: V3, destination: Destination, a: Matrix, b: Matrix<E>, parallelism: Parallelism) {
    let most = match parallelism {
        Parallelism::None => b.cols,
        Parallelism::Rayon(threads) => b.cols.div_ceil(4 * threads.max(1)).max(TASK).next_multiple_of(COLS),
    };
    let task = |first: usize| {
        let (_, rest) = b.split_columns(first);
        let (b, _) = rest.split_columns(most);
        let destination = destination.at(0, first);
        match a.rows {
            1 => simd.vectorize(FewLeft::<1, E> { simd, destination, a, b }),
            2 => simd.vectorize(FewLeft::<2, E> { simd, destination, a, b }),
            3 => simd.vectorize(FewLeft::<3, E> { simd, destination, a, b }),
            4 => simd.vectorize(FewLeft::<4, E> { simd, destination, a, b }),
            5 => simd.vectorize(FewLeft::<5, E> { simd, destination, a, b }),
            6 => simd.vectorize(FewLeft::<6, E> { simd, destination, a, b }),
            7 => simd.vectorize(FewLeft::<7, E> { simd, destination, a, b }),
            rows => {
                assert_eq!(rows, MOST_ROWS);
                simd.vectorize(FewLeft::<MOST_ROWS, E> { simd, destination, a, b });
            }
        }
    };
    match parallelism {
        Parallelism::None => task(0),
        Parallelism::Rayon(_) => (0..b.cols.div_ceil(most)).into_par_iter().with_max_len(1).for_each(|i| task(i * most)),
    }
}

/// A product of M rows by one thread.
struct FewLeft<'a, const M: usize, E> {
    simd: V3,
    destination: Destination,
    a: Matrix<'a>,
    b: Matrix<'a, E>,
}

impl<const M: usize, E: Element> NullaryFnOnce for FewLeft<'_, M, E> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let depth = depth(self.b.rows, 1);
        for column in (0..self.b.cols).step_by(COLS) {
            for start in (0..self.b.rows).step_by(depth) {
                self.eight(column, start, depth.min(self.b.rows - start));
            }
        }
    }
}

/// Eight elements at a time of a row or column, and what is behind the last of them.
type Eights<'a, E> = (&'a [[E; 8]], &'a [E]);

impl<const M: usize, E: Element> FewLeft<'_, M, E> {
    /// Writes eight columns from `column` on, or those that are left: the sums of `len` elements from `start` on, added to what was
    /// written before where `start` is not the first.
    #[inline(always)]
    fn eight(&self, column: usize, start: usize, len: usize) {
        let Self { simd, a, b, .. } = *self;
        let count = COLS.min(b.cols - column);
        let mut columns: [Eights<E>; COLS] = [(&[], &[]); COLS];
        for (i, place) in columns.iter_mut().enumerate() {
            // The last one stands for those that are missing.
            *place = b.data[(column + i.min(count - 1)) * b.col_stride + start..][..len].as_chunks::<8>();
        }
        let mut rows: [Eights<f32>; M] = [(&[], &[]); M];
        for (m, row) in rows.iter_mut().enumerate() {
            *row = a.data[m * a.row_stride + start..][..len].as_chunks::<8>();
        }
        let mut sums = [simd.splat_f32x8(0.0); M];
        for i in 0..len / 8 {
            let mut eight = [simd.splat_f32x8(0.0); COLS];
            for (eight, column) in eight.iter_mut().zip(&columns) {
                *eight = pulp::cast(floats(&column.0[i]));
            }
            let turned = transpose(simd, eight);
            for (j, column) in turned.into_iter().enumerate() {
                for m in 0..M {
                    sums[m] = simd.mul_add_f32x8(simd.splat_f32x8(rows[m].0[i][j]), column, sums[m]);
                }
            }
        }
        for j in 0..len % 8 {
            let mut eight = [0f32; COLS];
            for (x, column) in eight.iter_mut().zip(&columns) {
                *x = column.1[j].to_f32();
            }
            for m in 0..M {
                sums[m] = simd.mul_add_f32x8(simd.splat_f32x8(rows[m].1[j]), pulp::cast(eight), sums[m]);
            }
        }
        for (m, sum) in sums.into_iter().enumerate() {
            let mut at = self.destination.at(m, column);
            if start > 0 {
                at.onto = Some(at.data);
            }
            // SAFETY: the caller of `multiply` promises that of all rows and columns, of which each task has its own. What is added where
            // `start` is not the first has been written then.
            unsafe { write(simd, at, sum, count) };
        }
    }
}

/// Writes `[onto +] sums`, the first `count` of them.
///
/// # Safety
/// As many places must be valid for writes, and what is added for reads.
#[inline(always)]
unsafe fn write(simd: V3, at: Destination, mut sums: f32x8, count: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if count == COLS {
            if let Some(onto) = at.onto {
                sums = simd.add_f32x8(onto.cast::<f32x8>().read_unaligned(), sums);
            }
            at.data.cast::<f32x8>().write_unaligned(sums);
            return;
        }
        let sums: [f32; COLS] = pulp::cast(sums);
        for (column, sum) in sums.into_iter().take(count).enumerate() {
            at.data.add(column).write(at.onto.map_or(sum, |onto| onto.add(column).read() + sum));
        }
    }
}
