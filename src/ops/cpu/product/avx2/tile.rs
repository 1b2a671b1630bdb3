//! A tile of a product: 6 × 16 sums that stay in registers while the packed rows of both matrices go by.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1};

use pulp::f32x8;
use pulp::x86::V3;

use super::super::matrix::Destination;

/// Rows of a tile of sums.
pub const ROWS: usize = 6;

/// Columns of a tile of sums, and of a panel of the right matrix.
pub const COLS: usize = 16;

/// Products that a tile adds to each sum at a step.
pub const STEP: usize = 4;

/// What a tile fetches from memory into the second-level cache: an address at each of its steps.
pub struct Prefetch {
    /// The first address.
    pub from: *const f32,
    /// Bytes from a step's address to the next step's.
    pub bytes: usize,
}

/// A tile of a product: rows of `cols` columns, [`COLS`] at most.
pub struct Tile {
    pub simd: V3,
    /// Of its first element.
    pub destination: Destination,
    pub cols: usize,
    pub fetch: Prefetch,
}

impl Tile {
    /// Writes `[onto +] aᵀ·b`. `a (depth, R)`, `b (depth, 16)`
    ///
    /// # Safety
    /// The destination must be valid for writes of `R` rows of `cols` elements, which no one else uses meanwhile, and what
    /// is added for reads of the same.
    #[inline(always)]
    pub unsafe fn write<const R: usize>(self, a: &[f32], b: &[[f32; COLS]]) {
        let Self { simd, destination, cols, mut fetch } = self;
        for row in 0..R {
            simd.sse._mm_prefetch::<_MM_HINT_T0>(destination.at(row, 0).data.cast());
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
            let Destination { data, onto, .. } = destination.at(i, 0);
            // SAFETY: the caller answers for the rows; 16 columns are `[[f32; 8]; 2]`.
            unsafe {
                if cols == COLS {
                    let mut sums = sums;
                    if let Some(onto) = onto {
                        let [left, right]: [f32x8; 2] = pulp::cast(onto.cast::<[[f32; 8]; 2]>().read());
                        sums = [simd.add_f32x8(left, sums[0]), simd.add_f32x8(right, sums[1])];
                    }
                    data.cast::<[[f32; 8]; 2]>().write(pulp::cast(sums));
                } else {
                    let sums: [f32; COLS] = pulp::cast(sums);
                    for (column, sum) in sums.iter().take(cols).enumerate() {
                        data.add(column).write(onto.map_or(0.0, |onto| onto.add(column).read()) + sum);
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
