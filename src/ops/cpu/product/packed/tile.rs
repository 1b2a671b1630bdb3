//! A tile of sums in vector registers, whichever: two vectors a row, while the packed rows of both matrices go by.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use bytemuck::Pod;
use pulp::Simd;

use super::super::matrix::Destination;
use super::{STEP, Tile};

/// Writes `[onto +] aᵀ·b` to a tile of at most ROWS rows, 12 at most, and COLS columns, two vectors. `a (depth, rows)`,
/// `b (depth, COLS)`; `multiply_add` adds to a row of sums what a unit of `a` and a row of `b` give.
///
/// # Safety
/// As `Tiling::write_tile`.
#[inline(always)]
pub unsafe fn write<S: Simd, U: Pod, const ROWS: usize, const COLS: usize>(
    simd: S,
    a: &[U],
    b: &[U],
    tile: Tile,
    multiply_add: impl Fn(U, &[U; COLS], &mut [S::f32s; 2]),
) where
    [f32; COLS]: Pod,
{
    let b = b.as_chunks::<COLS>().0;
    // SAFETY: as the caller promises.
    unsafe {
        match tile.rows {
            12 if ROWS >= 12 => write_rows::<S, U, 12, COLS>(simd, a, b, tile, multiply_add),
            11 if ROWS >= 11 => write_rows::<S, U, 11, COLS>(simd, a, b, tile, multiply_add),
            10 if ROWS >= 10 => write_rows::<S, U, 10, COLS>(simd, a, b, tile, multiply_add),
            9 if ROWS >= 9 => write_rows::<S, U, 9, COLS>(simd, a, b, tile, multiply_add),
            8 if ROWS >= 8 => write_rows::<S, U, 8, COLS>(simd, a, b, tile, multiply_add),
            7 if ROWS >= 7 => write_rows::<S, U, 7, COLS>(simd, a, b, tile, multiply_add),
            6 => write_rows::<S, U, 6, COLS>(simd, a, b, tile, multiply_add),
            5 => write_rows::<S, U, 5, COLS>(simd, a, b, tile, multiply_add),
            4 => write_rows::<S, U, 4, COLS>(simd, a, b, tile, multiply_add),
            3 => write_rows::<S, U, 3, COLS>(simd, a, b, tile, multiply_add),
            2 => write_rows::<S, U, 2, COLS>(simd, a, b, tile, multiply_add),
            _ => write_rows::<S, U, 1, COLS>(simd, a, b, tile, multiply_add),
        }
    }
}

/// Writes like [`write`], R rows.
///
/// # Safety
/// As [`write`].
#[inline(always)]
unsafe fn write_rows<S: Simd, U: Pod, const R: usize, const COLS: usize>(
    simd: S,
    a: &[U],
    b: &[[U; COLS]],
    tile: Tile,
    multiply_add: impl Fn(U, &[U; COLS], &mut [S::f32s; 2]),
) where
    [f32; COLS]: Pod,
{
    let Tile { destination, cols, mut fetch, .. } = tile;
    for row in 0..R {
        for column in (0..COLS).step_by(16) {
            // SAFETY: it is a hint, allowed at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(destination.at(row, column).data.cast()) };
        }
    }
    let mut sums = [[simd.splat_f32s(0.0); 2]; R];
    let (a, _) = a.as_chunks::<R>();
    let ((a_steps, a), (b_steps, b)) = (a.as_chunks::<STEP>(), b.as_chunks::<STEP>());
    for (a, b) in a_steps.iter().zip(b_steps) {
        fetch.step();
        for i in 0..STEP {
            for (sums, a) in sums.iter_mut().zip(a[i]) {
                multiply_add(a, &b[i], sums);
            }
        }
    }
    for (a, b) in a.iter().zip(b) {
        for (sums, a) in sums.iter_mut().zip(*a) {
            multiply_add(a, b, sums);
        }
    }
    for (i, mut sums) in sums.into_iter().enumerate() {
        let Destination { data, onto, .. } = destination.at(i, 0);
        // SAFETY: the caller answers for the rows; two vectors are COLS columns.
        unsafe {
            if cols == COLS {
                if let Some(onto) = onto {
                    let [left, right] = onto.cast::<[S::f32s; 2]>().read_unaligned();
                    sums = [simd.add_f32s(left, sums[0]), simd.add_f32s(right, sums[1])];
                }
                data.cast::<[S::f32s; 2]>().write_unaligned(sums);
            } else {
                let sums: [f32; COLS] = pulp::cast(sums);
                for (column, sum) in sums.iter().take(cols).enumerate() {
                    data.add(column).write(onto.map_or(*sum, |onto| onto.add(column).read() + sum));
                }
            }
        }
    }
}
