//! Matrix products of slices, in f32 or with both operands in bf16, always with sums in f32. [`ProductKernel`] names the kernels,
//! and [`ProductKernel::choose`] is the one place that chooses between them: a new kernel is a case of the enum, a place in
//! [`ProductKernel::all`], and an arm of [`ProductKernel::multiply`].
//! What decodes needs results that do not depend on the number of rows. Those of our own kernels never do ([`rows_are_independent`]);
//! where gemm multiplies, [`product_by_rows`] does it. The same with an encoded weight is in `few_rows`.
//!
//! Begin with [`matmul`] and [`product`], which callers use, then `kernel` for the choice; `packed` and `gemm` multiply.

// Kernels take pointers: the tasks of a product write columns of the same rows.
#![allow(unsafe_code)]

mod by_rows;
mod gemm;
mod kernel;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod packed;

pub use ::gemm::Parallelism;
pub use kernel::{ProductKernel, bf16_gain, check_kernel, kernel_names};
pub use matrix::{Matrix, Right, Write};

use kernel::Operands;
use matrix::Destination;
use rayon::prelude::*;

/// `dst (m, n; rows row_stride apart) = [dst +] a (m, k) · b (k, n)`.
pub fn matmul<'b>(
    dst: &mut [f32],
    row_stride: usize,
    write: Write,
    a: Matrix,
    b: impl Into<Right<'b>>,
    parallelism: Parallelism,
) {
    let b = b.into();
    let (m, (_, n)) = (a.rows, b.dims());
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= row_stride || m == 1);
    assert!((m - 1) * row_stride + n <= dst.len());
    let data = dst.as_mut_ptr();
    let destination = Destination { data, onto: (write == Write::Add).then_some(data.cast_const()), row_stride };
    // SAFETY: the asserts keep every element that the strides reach inside `dst`, which is borrowed mutably, so it overlaps
    // neither operand.
    unsafe { ProductKernel::choose(a, b).multiply(destination, a, b, parallelism) }
}

/// \[onto (m, n) +\] a (m, k) · b (k, n) in new memory, by all threads. → `(m, n)`
pub fn product<'b>(onto: Option<&[f32]>, a: Matrix, b: impl Into<Right<'b>>) -> Vec<f32> {
    let b = b.into();
    let (m, (_, n)) = (a.rows, b.dims());
    let mut data = Vec::with_capacity(m * n);
    if m * n > 0 {
        let onto = onto.map(|onto| onto[..m * n].as_ptr());
        let destination = Destination { data: data.as_mut_ptr(), onto, row_stride: n };
        let kernel = ProductKernel::choose(a, b);
        // SAFETY: the capacity is m rows of n elements, and a kernel writes them all. `onto` has as many, in other memory.
        unsafe {
            kernel.multiply(destination, a, b, all_threads());
            data.set_len(m * n);
        }
    }
    data
}

/// \[onto (m, n) +\] x (m, k) · w (n, k)ᵀ in new memory, by all threads, each result added in the same order for any m. → `(m, n)`
pub fn product_by_rows(onto: Option<&[f32]>, x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let (m, n) = (x.len() / k, w.len() / k);
    let mut data = Vec::with_capacity(m * n);
    let onto = onto.map(|onto| onto[..m * n].as_ptr());
    let destination = Destination { data: data.as_mut_ptr(), onto, row_stride: n };
    let rows = n.div_ceil(4 * rayon::current_num_threads()).max(16);
    // SAFETY: the capacity is m rows of n elements, and the tasks write all of them, each its own columns. `onto` has as many,
    // in other memory.
    unsafe {
        w.par_chunks(rows * k).enumerate().for_each(|(task, w)| by_rows::multiply(destination.at(0, task * rows), x, w, k));
        data.set_len(m * n);
    }
    data
}

/// Whether a row of any product of f32 has the same bits for any number of rows. With gemm it has them in two rows or more: of one row it
/// adds in another order, and for few it is slow, so that [`product_by_rows`] multiplies those.
pub fn rows_are_independent() -> bool {
    !matches!(ProductKernel::of(Operands::F32), ProductKernel::Gemm)
}

/// All threads of the pool, for a product that nothing else runs beside.
pub fn all_threads() -> Parallelism {
    Parallelism::Rayon(rayon::current_num_threads())
}

#[cfg(test)]
mod tests;
