//! What the fused CPU bodies share: tensors as slices, matrix products on slices, and vectorised row kernels.
//! Not an op by itself.

// The matrix product takes pointers and strides; new memory is not cleared twice.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, Storage, StorageRef, Tensor};
use gemm::Parallelism;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx2::{self, Place};
use crate::Result;

/// Whether the fused bodies can take this tensor.
pub fn is_host_f32(t: &Tensor) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32
}

/// A contiguous f32 CPU tensor, borrowed as a slice.
pub struct HostSlice<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> HostSlice<'a> {
    /// Borrows `t`, which must be contiguous.
    pub fn new(t: &'a Tensor) -> candle_core::Result<Self> {
        let (storage, layout) = t.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("expected a contiguous tensor, found strides {:?}", layout.stride())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage, range: start..end }),
            _ => candle_core::bail!("expected an f32 tensor on the cpu, found {:?}", t.dtype()),
        }
    }
}

impl Deref for HostSlice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            // `new` admits nothing else.
            _ => &[],
        }
    }
}

/// A CPU tensor that takes ownership of `data`.
pub fn tensor(data: Vec<f32>, shape: impl candle_core::shape::ShapeWithOneHole) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// `count` rows of `width` elements in new memory, zero until `write` is called with each and its index, by all threads. Each is
/// cleared by the thread that writes it, just before: no other waits for that, and it is in the cache.
pub fn rows(count: usize, width: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    const WORTH_A_THREAD: usize = 2048;
    let mut data = Vec::with_capacity(count * width);
    let room = &mut data.spare_capacity_mut()[..count * width];
    let pieces = room.par_chunks_mut(width.max(1)).with_min_len(WORTH_A_THREAD / width.max(1));
    pieces.enumerate().for_each(|(index, row)| {
        row.fill(MaybeUninit::new(0.0));
        // SAFETY: every element was written.
        write(index, unsafe { &mut *(std::ptr::from_mut(row) as *mut [f32]) });
    });
    // SAFETY: the capacity is no less, and the chunks were all elements.
    unsafe { data.set_len(count * width) };
    data
}

/// A strided view of a matrix inside a slice: element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// From element (0, 0) on.
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    /// 1, or `row_stride` is.
    pub col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `cols` elements, `row_stride` apart.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The first `rows` rows and the others.
    pub fn split_rows(self, rows: usize) -> (Self, Self) {
        let rows = rows.min(self.rows);
        let rest = Self { data: &self.data[(rows * self.row_stride).min(self.data.len())..], rows: self.rows - rows, ..self };
        (Self { rows, ..self }, rest)
    }

    /// The first `cols` columns and the others.
    fn split_columns(self, cols: usize) -> (Self, Self) {
        let (left, right) = self.t().split_rows(cols);
        (left.t(), right.t())
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// Whether [`matmul`] adds to what the destination holds.
#[derive(Clone, Copy, PartialEq)]
pub enum Into {
    /// The destination is overwritten.
    Overwrite,
    /// The product is added to the destination.
    Add,
}

/// `dst (m, n; rows row_stride apart) = [dst +] a (m, k) · b (k, n)`.
pub fn matmul(dst: &mut [f32], row_stride: usize, into: Into, a: Matrix, b: Matrix, parallelism: Parallelism) {
    let (m, n) = (a.rows, b.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= row_stride || m == 1);
    assert!((m - 1) * row_stride + n <= dst.len());
    // SAFETY: the asserts keep every element that the strides reach inside `dst`, which is borrowed mutably, so it overlaps
    // neither operand.
    unsafe { gemm_into(dst.as_mut_ptr(), row_stride, into, a, b, parallelism) }
}

/// \[onto (m, n) +\] a (m, k) · b (k, n) in new memory, by all threads. → `(m, n)`
pub fn product(onto: Option<&[f32]>, a: Matrix, b: Matrix) -> Vec<f32> {
    let (m, n) = (a.rows, b.cols);
    let mut dst = Vec::with_capacity(m * n);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2::suits(a, b, all_threads()) {
        let place = Place { dst: dst.as_mut_ptr(), onto: onto.map(|onto| onto[..m * n].as_ptr()) };
        // SAFETY: the capacity is m rows of n elements, `n` apart; all are written. `onto` has as many.
        unsafe {
            avx2::multiply(simd, place, n, a, b, all_threads());
            dst.set_len(m * n);
        }
        return dst;
    }
    if let Some(onto) = onto {
        let mut dst = rows(m, n, |row, y| y.copy_from_slice(&onto[row * n..][..n]));
        matmul(&mut dst, n, Into::Add, a, b, all_threads());
        return dst;
    }
    if m * n > 0 {
        // SAFETY: as above. Overwriting reads none of them and writes all.
        unsafe {
            gemm_into(dst.as_mut_ptr(), n, Into::Overwrite, a, b, all_threads());
            dst.set_len(m * n);
        }
    }
    dst
}

/// Rows or columns from which on a product is worth two halves.
const WORTH_HALVING: usize = 128;

/// # Safety
/// `dst` must be valid for writes of `a.rows` rows of `b.cols` elements `row_stride` apart (`row_stride` no less than
/// `b.cols`), initialised for [`Into::Add`], and overlap neither operand.
unsafe fn gemm_into(dst: *mut f32, row_stride: usize, into: Into, a: Matrix, b: Matrix, parallelism: Parallelism) {
    assert_eq!(a.cols, b.rows);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2::suits(a, b, parallelism) {
        let place = Place { dst, onto: (into == Into::Add).then_some(dst.cast_const()) };
        // SAFETY: as the caller promises.
        return unsafe { avx2::multiply(simd, place, row_stride, a, b, parallelism) };
    }
    let threads = match parallelism {
        Parallelism::None => 0,
        Parallelism::Rayon(threads) => threads,
    };
    // Two halves with threads of their own beat gemm's own division by 5 to 10 %: of the weight's rows where they must be
    // packed, else of the activations'. The halves are the same whatever the number of threads, so that the bits are.
    let by_columns = b.col_stride != 1 && b.cols >= 2 * WORTH_HALVING;
    if threads == 0 || !(by_columns || a.rows >= WORTH_HALVING) {
        // SAFETY: as the caller promises.
        return unsafe { gemm_whole(dst, row_stride, into, a, b, parallelism) };
    }
    let (first, second, offset) = if by_columns {
        let (left, right) = b.split_columns((b.cols / 2).next_multiple_of(64));
        ((a, left), (a, right), left.cols)
    } else {
        let (top, bottom) = a.split_rows((a.rows / 2).next_multiple_of(8));
        ((top, b), (bottom, b), top.rows * row_stride)
    };
    let each = if threads > 3 { Parallelism::Rayon(threads / 2) } else { Parallelism::None };
    // SAFETY: the halves of `dst` are other elements of what the caller promises.
    let halves = unsafe { [Destination(dst), Destination(dst.add(offset))] };
    let run = |half: Destination, (a, b): (Matrix, Matrix)| {
        // SAFETY: as above.
        unsafe { gemm_whole(half.pointer(), row_stride, into, a, b, each) }
    };
    if threads == 1 {
        run(halves[0], first);
        run(halves[1], second);
    } else {
        rayon::join(|| run(halves[0], first), || run(halves[1], second));
    }
}

/// Where one half of a product goes.
#[derive(Clone, Copy)]
struct Destination(*mut f32);

// SAFETY: the halves of a product write different elements.
unsafe impl Send for Destination {}
unsafe impl Sync for Destination {}

impl Destination {
    fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// # Safety
/// As [`gemm_into`].
unsafe fn gemm_whole(dst: *mut f32, row_stride: usize, into: Into, a: Matrix, b: Matrix, parallelism: Parallelism) {
    // SAFETY: the caller answers for `dst`; `Matrix::new` keeps what the strides of the operands reach inside their slices.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            dst,
            1,
            row_stride as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        )
    }
}

/// All threads of the pool, for a product that nothing else runs beside.
pub fn all_threads() -> Parallelism {
    Parallelism::Rayon(rayon::current_num_threads())
}

/// Runs `body` compiled for the widest vector instructions of this machine. `body` must be `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

const LANES: usize = 16;

/// Σ a·b in sixteen partial sums: the same order whatever the machine's vector width.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            sums[i] = x[i].mul_add(y[i], sums[i]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Σ a·b·c, as [`dot`].
#[inline(always)]
pub fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((x, y), z) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            sums[i] = (x[i] * y[i]).mul_add(z[i], sums[i]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((x, y), z)| x * y * z).sum();
    sums.iter().sum::<f32>() + rest
}

/// Largest element; −∞ of nothing.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            maxima[i] = if x[i] > maxima[i] { x[i] } else { maxima[i] };
        }
    }
    maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| m.max(x))
}

/// Replaces each x by exp(x − shift) and returns their sum.
#[inline(always)]
pub fn exp_sum(a: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = a.as_chunks_mut::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            x[i] = exp(x[i] - shift);
            sums[i] += x[i];
        }
    }
    let mut total = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp(*x - shift);
        total += *x;
    }
    total
}

/// e^x within 2 units in the last place, without a branch, so that loops over it vectorise: x = n·ln 2 + r, e^r by the
/// degree-6 polynomial of Cephes' `expf`. NaN stays NaN; below −87.3 the result is 0 or the smallest normal number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    /// Has its last bit at 1, so that what is added is rounded to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    let clamped = if x < -87.336_54 { -87.336_54 } else { x };
    let clamped = if clamped > 88.722_83 { 88.722_83 } else { clamped };
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, clamped));
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, c);
    }
    let p = (p * r).mul_add(r, r) + 1.0;
    // Times 2^n: n is added to the exponent, which cannot overflow, since p < 1 where n is 128.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < -87.336_54 { 0.0 } else { scaled }
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `y[r] += a · x[r]` for a slice.
#[inline(always)]
pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = a.mul_add(*x, *y);
    }
}

/// Products of up to [`MAX_ROWS`] rows with every row of a weight, each weight row read once. The order of additions of
/// one result does not depend on how many rows there are, so that a row's result is the same alone and in a batch.
pub struct RowProducts<'a, const M: usize> {
    /// Left rows. `(M, K)`
    pub x: &'a [f32],
    /// Weight rows. `(n, K)`
    pub w: &'a [f32],
    /// Row length.
    pub k: usize,
    /// Results, `M` rows of `n`. `(n, M)`
    pub out: &'a mut [f32],
}

/// The most rows that one pass over the weight serves.
pub const MAX_ROWS: usize = 12;

impl<const M: usize> WithSimd for RowProducts<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, k, out } = self;
        let rows: [&[f32]; M] = std::array::from_fn(|m| &x[m * k..(m + 1) * k]);
        let mut weights = w.chunks_exact(2 * k);
        let mut outs = out.chunks_exact_mut(2 * M);
        for (pair, out) in weights.by_ref().zip(outs.by_ref()) {
            let (w0, w1) = pair.split_at(k);
            row_products(simd, &rows, &[w0, w1], out);
        }
        if !weights.remainder().is_empty() {
            row_products(simd, &rows, &[weights.remainder()], outs.into_remainder());
        }
    }
}

#[inline(always)]
fn row_products<S: Simd, const M: usize, const O: usize>(simd: S, x: &[&[f32]; M], w: &[&[f32]; O], out: &mut [f32]) {
    let x = x.map(|row| S::as_simd_f32s(row));
    let w = w.map(|row| S::as_simd_f32s(row));
    let mut sums = [[simd.splat_f32s(0.0); M]; O];
    let vectors = w[0].0.len();
    for i in 0..vectors {
        for o in 0..O {
            let weight = w[o].0[i];
            for m in 0..M {
                sums[o][m] = simd.mul_add_f32s(weight, x[m].0[i], sums[o][m]);
            }
        }
    }
    for o in 0..O {
        for m in 0..M {
            let tail: f32 = w[o].1.iter().zip(x[m].1).map(|(w, x)| w * x).sum();
            out[o * M + m] = simd.reduce_sum_f32s(sums[o][m]) + tail;
        }
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
