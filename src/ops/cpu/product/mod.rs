//! Matrix products of f32 slices. [`ProductKernel`] names the kernels, and [`ProductKernel::choose`] is the one place that
//! chooses between them: a new kernel is a case of the enum, a condition there, and an arm of [`ProductKernel::multiply`].
//! [`product_by_rows`] is for what decodes: it takes as long as reading the weight does where rows are few, and its results do
//! not depend on their number. The same with an encoded weight is in `few_rows`.

// Kernels take pointers: the tasks of a product write columns of the same rows.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod by_rows;
mod gemm;
mod matrix;

pub use ::gemm::Parallelism;
pub use matrix::{Matrix, Write};

use matrix::Destination;
use rayon::prelude::*;

/// What multiplies two matrices.
#[derive(Clone, Copy)]
enum ProductKernel {
    /// Our own, for processors with AVX2 and without AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// That of the crate `gemm`, for every processor.
    Gemm,
}

impl ProductKernel {
    /// The kernel for a product on this machine.
    fn choose(a: Matrix, b: Matrix) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = avx2::suits(a, b) {
            return Self::Avx2(simd);
        }
        Self::Gemm
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Gemm => "gemm",
        }
    }

    /// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
    ///
    /// # Safety
    /// The destination must be valid for writes of `a.rows` rows of `b.cols` elements `row_stride` apart (`row_stride` no
    /// less than `b.cols`), and overlap neither operand; what is added must be valid for reads of the same.
    unsafe fn multiply(self, destination: Destination, a: Matrix, b: Matrix, parallelism: Parallelism) {
        assert_eq!(a.cols, b.rows);
        // SAFETY: as the caller promises.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => unsafe { avx2::multiply(simd, destination, a, b, parallelism) },
            Self::Gemm => unsafe { gemm::multiply(destination, a, b, parallelism) },
        }
    }
}

/// `dst (m, n; rows row_stride apart) = [dst +] a (m, k) · b (k, n)`.
pub fn matmul(dst: &mut [f32], row_stride: usize, write: Write, a: Matrix, b: Matrix, parallelism: Parallelism) {
    let (m, n) = (a.rows, b.cols);
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
pub fn product(onto: Option<&[f32]>, a: Matrix, b: Matrix) -> Vec<f32> {
    let (m, n) = (a.rows, b.cols);
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

/// Returns the name of the kernel that multiplies matrices on this machine: `avx2`, which is bipo's own, or `gemm`, the crate.
pub fn kernel_name() -> &'static str {
    let one = Matrix::new(&[0.0], 1, 1, 1);
    ProductKernel::choose(one, one).name()
}

/// Whether a row of a packed product has the same bits for any number of rows: not with gemm's kernels.
#[cfg(test)]
pub fn rows_are_independent() -> bool {
    kernel_name() != ProductKernel::Gemm.name()
}

/// All threads of the pool, for a product that nothing else runs beside.
pub fn all_threads() -> Parallelism {
    Parallelism::Rayon(rayon::current_num_threads())
}

#[cfg(test)]
mod tests;
