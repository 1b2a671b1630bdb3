//! Products by the crate `gemm`, which has kernels for every processor. Large ones are cut in two halves, each with threads
//! of its own: that beats gemm's own division by 5 to 10 %.

use gemm::Parallelism;
use half::bf16;
use rayon::prelude::*;

use super::matrix::{Destination, Element, Matrix, bf16_bits};
use crate::ops::cpu::slices::WORTH_A_THREAD;

/// Rows or columns from which on a product is worth two halves.
const WORTH_HALVING: usize = 128;

/// Products that one call of gemm adds to a result. gemm adds as many or more before it writes a result, whatever the number of
/// rows and columns; of longer sums it makes pieces whose lengths depend on both.
const DEPTH: usize = 512;

/// Fewest products of a sum that gemm adds in its usual order.
const FEWEST_DEEP: usize = 3;

/// Elements of a result up to which gemm adds in another order where both operands lie along the sum.
const FEW_RESULTS: usize = 256;

/// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
///
/// # Safety
/// As `ProductKernel::multiply`.
pub unsafe fn multiply(destination: Destination, a: Matrix, b: Matrix, parallelism: Parallelism) {
    // SAFETY: as the caller promises.
    let destination = unsafe { with_rows_to_add(destination, a.rows, b.cols) };
    let threads = match parallelism {
        Parallelism::None => 0,
        Parallelism::Rayon(threads) => threads,
    };
    // The halves are of the weight's rows where they must be packed, else of the activations'. They are the same whatever
    // the number of threads, so that the bits are.
    let by_columns = b.col_stride != 1 && b.cols >= 2 * WORTH_HALVING;
    if threads == 0 || !(by_columns || a.rows >= WORTH_HALVING) {
        // SAFETY: as the caller promises.
        return unsafe { multiply_whole(destination, a, b, parallelism) };
    }
    let (first, second, halfway) = if by_columns {
        let (left, right) = b.split_columns((b.cols / 2).next_multiple_of(64));
        ((a, left), (a, right), destination.at(0, left.cols))
    } else {
        let (top, bottom) = a.split_rows((a.rows / 2).next_multiple_of(8));
        ((top, b), (bottom, b), destination.at(top.rows, 0))
    };
    let each = if threads > 3 { Parallelism::Rayon(threads / 2) } else { Parallelism::None };
    let run = |half: Destination, (a, b): (Matrix, Matrix)| {
        // SAFETY: the halves are different elements of what the caller promises.
        unsafe { multiply_whole(half, a, b, each) }
    };
    if threads == 1 {
        run(destination, first);
        run(halfway, second);
    } else {
        rayon::join(|| run(destination, first), || run(halfway, second));
    }
}

/// Elements of a matrix of bf16 that are widened at a time: 8 MiB of f32.
const WIDENED: usize = 2 << 20;

/// Multiplies like [`multiply`], with the left matrix rounded to bf16, and a right one of bf16.
///
/// # Safety
/// As [`multiply`].
pub unsafe fn multiply_bf16(mut destination: Destination, a: Matrix, b: Matrix<bf16>, parallelism: Parallelism) {
    let rounded: Vec<f32> = a.data[..a.extent()].par_iter().map(|x| f32::from_bits(bf16_bits(*x) << 16)).collect();
    let (mut a, mut b) = (Matrix { data: &rounded, ..a }, b);
    loop {
        // A piece of whole columns or whole rows, whichever lie side by side.
        let (piece, rest, left, left_rest) = if b.row_stride == 1 {
            let (piece, rest) = b.split_columns((WIDENED / b.rows.max(1)).max(1));
            (piece, rest, a, a)
        } else {
            let rows = (WIDENED / b.cols.max(1)).max(1);
            let ((piece, rest), (left, left_rest)) = (b.split_rows(rows), a.split_columns(rows));
            (piece, rest, left, left_rest)
        };
        let floats: Vec<f32> = piece.data[..piece.extent()].par_iter().map(|x| Element::to_f32(*x)).collect();
        let (rows, cols, row_stride, col_stride) = (piece.rows, piece.cols, piece.row_stride, piece.col_stride);
        let widened = Matrix { data: &floats, rows, cols, row_stride, col_stride };
        // SAFETY: as the caller promises, of these columns.
        unsafe { multiply(destination, left, widened, parallelism) };
        if rest.rows == 0 || rest.cols == 0 {
            return;
        }
        if b.row_stride == 1 {
            destination = destination.at(0, piece.cols);
        } else {
            destination.onto = Some(destination.data);
        }
        (a, b) = (left_rest, rest);
    }
}

/// The destination with the rows that are to be added already in it, since gemm adds to nothing else.
///
/// # Safety
/// As [`multiply`].
unsafe fn with_rows_to_add(destination: Destination, rows: usize, cols: usize) -> Destination {
    let own = destination.data.cast_const();
    if destination.onto.is_some_and(|onto| onto != own) {
        (0..rows).into_par_iter().with_min_len(WORTH_A_THREAD / cols.max(1)).for_each(|row| {
            let row = destination.at(row, 0);
            if let Some(onto) = row.onto {
                // SAFETY: as the caller promises; the two do not overlap.
                unsafe { std::ptr::copy_nonoverlapping(onto, row.data, cols) }
            }
        });
    }
    Destination { onto: destination.onto.map(|_| own), ..destination }
}

/// The product by a call of gemm for each [`DEPTH`] of it: the order of additions of a result depends on nothing but its position
/// in the sum. So a row of two rows or more has the same bits in any batch, and zeros behind it change nothing.
///
/// # Safety
/// As [`multiply`], and what is added must be the destination itself.
unsafe fn multiply_whole(mut destination: Destination, mut a: Matrix, mut b: Matrix, parallelism: Parallelism) {
    loop {
        let ((left, left_rest), (right, right_rest)) = (a.split_columns(DEPTH), b.split_rows(DEPTH));
        // SAFETY: as the caller promises.
        unsafe { multiply_at_once(destination, left, right, parallelism) };
        if left_rest.cols == 0 {
            return;
        }
        destination.onto = Some(destination.data);
        (a, b) = (left_rest, right_rest);
    }
}

/// The product by one call of gemm, at most [`DEPTH`] deep. gemm has other orders for sums of two products or fewer, and for results of
/// few elements whose operands both lie along the sum: copies keep them away from these.
///
/// # Safety
/// As [`multiply_whole`].
unsafe fn multiply_at_once(destination: Destination, a: Matrix, b: Matrix, parallelism: Parallelism) {
    let (left, right);
    let (mut a, mut b) = (a, b);
    let both_lie_along = a.col_stride == 1 && b.row_stride == 1;
    if a.cols < FEWEST_DEEP || (both_lie_along && a.rows * b.cols <= FEW_RESULTS) {
        let depth = a.cols.max(FEWEST_DEEP);
        left = padded_rows(a, a.rows, depth);
        right = padded_rows(b, depth, b.cols);
        (a, b) = (Matrix::new(&left, a.rows, depth, depth), Matrix::new(&right, depth, b.cols, b.cols));
    }
    // SAFETY: the caller answers for the destination; `Matrix::new` keeps what the strides of the operands reach inside
    // their slices.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            destination.data,
            1,
            destination.row_stride as isize,
            destination.onto.is_some(),
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

/// The elements of a matrix row by row, with zeros behind them. → `(rows, cols)`
fn padded_rows(matrix: Matrix, rows: usize, cols: usize) -> Vec<f32> {
    let mut padded = vec![0f32; rows * cols];
    for (i, row) in padded.chunks_exact_mut(cols.max(1)).take(matrix.rows).enumerate() {
        for (j, x) in row.iter_mut().take(matrix.cols).enumerate() {
            *x = matrix.data[i * matrix.row_stride + j * matrix.col_stride];
        }
    }
    padded
}
