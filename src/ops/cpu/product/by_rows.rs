//! Products of rows with the rows of an f32 weight as it lies in memory, by the vector instructions of any processor: nothing is
//! packed, and the order of additions of one result does not depend on how many rows there are, so that a row's results have the
//! same bits alone and in a batch. It serves processors without kernels of our own, whose products depend on the number of rows.

use pulp::{Arch, Simd, WithSimd};

use super::matrix::Destination;
use crate::ops::cpu::vector::rest_dot;

/// Left rows and weight rows whose sums are held in registers together: with these numbers they fill sixteen.
const LEFT: usize = 4;
const WEIGHTS: usize = 3;

/// Products of any number of rows with f32 rows of a weight, each of which is read from memory once.
struct RowProducts<'a> {
    /// Left rows. `(M, K)`
    x: &'a [f32],
    /// Weight rows. `(n, K)`
    w: &'a [f32],
    k: usize,
    /// Destination of the product. `(M, n)`
    destination: Destination,
}

/// `destination (M, n) = [onto +] x (M, k) · w (n, k)ᵀ` by one thread, with the widest vector instructions of the machine.
///
/// # Safety
/// The destination must be valid for writes of M rows of n elements, which no one else uses meanwhile, and what is added for
/// reads of the same.
pub unsafe fn multiply(destination: Destination, x: &[f32], w: &[f32], k: usize) {
    Arch::new().dispatch(RowProducts { x, w, k, destination });
}

impl WithSimd for RowProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, k, destination } = self;
        match x.len() / k {
            1 => return few_rows::<S, 1>(simd, x, w, destination),
            2 => return few_rows::<S, 2>(simd, x, w, destination),
            3 => return few_rows::<S, 3>(simd, x, w, destination),
            4 => return few_rows::<S, 4>(simd, x, w, destination),
            5 => return few_rows::<S, 5>(simd, x, w, destination),
            6 => return few_rows::<S, 6>(simd, x, w, destination),
            _ => {}
        }
        for (group, w) in w.chunks(WEIGHTS * k).enumerate() {
            // Where fewer are left, the last one stands for those that are missing.
            let count = w.len() / k;
            let w: [&[f32]; WEIGHTS] = std::array::from_fn(|o| &w[o.min(count - 1) * k..(o.min(count - 1) + 1) * k]);
            for (block, x) in x.chunks(LEFT * k).enumerate() {
                let destination = destination.at(block * LEFT, group * WEIGHTS);
                let write = |row: usize, products: [f32; WEIGHTS]| {
                    for (column, product) in products.into_iter().take(count).enumerate() {
                        // SAFETY: the caller of `multiply` promises that of all rows and columns.
                        unsafe { write(destination.at(row, column), product) };
                    }
                };
                match x.len() / k {
                    LEFT => row_products::<S, LEFT>(simd, x, w, write),
                    3 => row_products::<S, 3>(simd, x, w, write),
                    2 => row_products::<S, 2>(simd, x, w, write),
                    _ => row_products::<S, 1>(simd, x, w, write),
                }
            }
        }
    }
}

/// `destination (R, n) = [onto +] x (R, k) · w (n, k)ᵀ`, bound by reading the weight, two of whose rows go by at a time.
#[inline(always)]
fn few_rows<S: Simd, const R: usize>(simd: S, x: &[f32], w: &[f32], destination: Destination) {
    let k = x.len() / R;
    let mut pairs = w.chunks_exact(2 * k);
    for (pair, w) in pairs.by_ref().enumerate() {
        let (w0, w1) = w.split_at(k);
        few_row_products::<S, R, 2>(simd, x, [w0, w1], destination.at(0, 2 * pair));
    }
    if !pairs.remainder().is_empty() {
        few_row_products::<S, R, 1>(simd, x, [pairs.remainder()], destination.at(0, w.len() / k - 1));
    }
}

/// Writes the products of R left rows with O weight rows.
#[inline(always)]
fn few_row_products<S: Simd, const R: usize, const O: usize>(simd: S, x: &[f32], w: [&[f32]; O], destination: Destination) {
    let k = w[0].len();
    let x: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&x[r * k..(r + 1) * k]));
    let w = w.map(S::as_simd_f32s);
    let mut sums = [[simd.splat_f32s(0.0); R]; O];
    for i in 0..w[0].0.len() {
        for o in 0..O {
            let weight = w[o].0[i];
            for r in 0..R {
                sums[o][r] = simd.mul_add_f32s(weight, x[r].0[i], sums[o][r]);
            }
        }
    }
    for o in 0..O {
        for r in 0..R {
            let mut product = simd.reduce_sum_f32s(sums[o][r]);
            if !w[o].1.is_empty() {
                product += rest_dot(w[o].1, x[r].1);
            }
            // SAFETY: the caller of `multiply` promises that of all rows and columns.
            unsafe { write(destination.at(r, o), product) };
        }
    }
}

/// Writes a product, and what is added to it, to its place.
///
/// # Safety
/// The place may be written, and what is added read.
#[inline(always)]
unsafe fn write(at: Destination, product: f32) {
    // SAFETY: as the caller promises.
    unsafe { *at.data = at.onto.map_or(0.0, |onto| *onto) + product };
}

/// Products of each of R left rows with the weight rows. An array of sums for each weight row stays in registers; one of
/// arrays would not.
#[inline(always)]
fn row_products<S: Simd, const R: usize>(
    simd: S,
    x: &[f32],
    w: [&[f32]; WEIGHTS],
    mut write: impl FnMut(usize, [f32; WEIGHTS]),
) {
    let k = w[0].len();
    let x: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&x[r * k..(r + 1) * k]));
    let w = w.map(S::as_simd_f32s);
    let vectors = w[0].0.len();
    let (x_vectors, [w0, w1, w2]) = (x.map(|(x, _)| &x[..vectors]), w.map(|(w, _)| &w[..vectors]));
    let [mut sums0, mut sums1, mut sums2] = [[simd.splat_f32s(0.0); R]; WEIGHTS];
    for i in 0..vectors {
        let (w0, w1, w2) = (w0[i], w1[i], w2[i]);
        for r in 0..R {
            let x = x_vectors[r][i];
            sums0[r] = simd.mul_add_f32s(w0, x, sums0[r]);
            sums1[r] = simd.mul_add_f32s(w1, x, sums1[r]);
            sums2[r] = simd.mul_add_f32s(w2, x, sums2[r]);
        }
    }
    let has_tail = !w[0].1.is_empty();
    for r in 0..R {
        let products = [sums0[r], sums1[r], sums2[r]].map(|sum| simd.reduce_sum_f32s(sum));
        if !has_tail {
            write(r, products);
            continue;
        }
        let [tail0, tail1, tail2] = w.map(|(_, w)| rest_dot(w, x[r].1));
        write(r, [products[0] + tail0, products[1] + tail1, products[2] + tail2]);
    }
}
