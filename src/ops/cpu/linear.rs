//! y = x·Wᵀ and its vjp on f32 activations of the CPU, with a weight whose rows are f32 or encoded.

use candle_core::Tensor;
use rayon::prelude::*;

use super::few_rows::dense::DenseProducts;
use super::few_rows::encoded::EncodedProducts;
use super::few_rows::{self, MAX_ROWS};
use super::product::{Matrix, Write, all_threads, matmul, product};
use super::slices::{self, HostSlice};
use super::weight_rows::{WeightRows, for_each_block};
use crate::Result;
use crate::ops::tiles::tiles;

/// Elements of an encoded weight that are decoded at a time for products of many rows: 8 MiB of f32.
const DECODED: usize = 2 << 20;

/// \[residual +\] x·Wᵀ. `x (T, I)`, stacked `parts (O, I)` → `(T, O)`.
pub fn forward(x: &Tensor, parts: &[WeightRows], residual: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, inner), outputs) = (x.dims2()?, outputs_of(parts));
    let x = x.contiguous()?;
    let x = HostSlice::new(&x)?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(HostSlice::new).transpose()?;
    let residual = residual.as_deref();
    let matrix = Matrix::new(&x, rows, inner, inner);
    if let Some(floats) = single(parts).filter(|_| rows > MAX_ROWS) {
        let y = product(residual, matrix, Matrix::new(floats, outputs, inner, inner).t());
        return slices::tensor(y, (rows, outputs));
    }
    let mut y = residual.map_or_else(|| vec![0f32; rows * outputs], <[f32]>::to_vec);
    if rows <= MAX_ROWS {
        add_few_rows(&x, parts, rows, &mut y);
        return slices::tensor(y, (rows, outputs));
    }
    let write = if residual.is_some() { Write::Add } else { Write::Overwrite };
    for_each_block(parts, rows_at_a_time, |first, block, block_rows| {
        let w = Matrix::new(block, block_rows, inner, inner);
        matmul(&mut y[first..], outputs, write, matrix, w.t(), all_threads());
    });
    slices::tensor(y, (rows, outputs))
}

/// The gradient of x, dy·W. `dy (T, O)`, stacked `parts (O, I)` → `(T, I)`.
pub fn vjp(dy: &Tensor, parts: &[WeightRows]) -> Result<Tensor> {
    let ((rows, outputs), cols) = (dy.dims2()?, parts.first().map_or(0, |part| part.cols));
    let dy = dy.contiguous()?;
    let dy = HostSlice::new(&dy)?;
    if let Some(floats) = single(parts) {
        let w = Matrix::new(floats, outputs, cols, cols);
        return slices::tensor(product(None, Matrix::new(&dy, rows, outputs, outputs), w), (rows, cols));
    }
    let mut dx = vec![0f32; rows * cols];
    for_each_block(parts, rows_at_a_time, |first, block, block_rows| {
        let dy = Matrix::new(dy.get(first..).unwrap_or_default(), rows, block_rows, outputs);
        let w = Matrix::new(block, block_rows, cols, cols);
        let write = if first == 0 { Write::Overwrite } else { Write::Add };
        matmul(&mut dx, cols, write, dy, w, all_threads());
    });
    slices::tensor(dx, (rows, cols))
}

/// Number of rows of stacked parts.
fn outputs_of(parts: &[WeightRows]) -> usize {
    parts.iter().map(|part| part.rows).sum()
}

/// The elements of a matrix that is one part and f32.
fn single<'a>(parts: &[WeightRows<'a>]) -> Option<&'a [f32]> {
    if let [part] = parts { part.floats() } else { None }
}

/// Number of rows of a block: all of them where they are f32, else as many as are decoded at a time.
fn rows_at_a_time(part: &WeightRows) -> usize {
    if part.floats().is_some() { part.rows } else { DECODED / part.cols }
}

/// Products of a few rows, bound by reading the weight: all threads together read it once. Adds to `y (rows, outputs)`.
fn add_few_rows(x: &[f32], parts: &[WeightRows], rows: usize, y: &mut [f32]) {
    let outputs = outputs_of(parts);
    let most = outputs.div_ceil(4 * rayon::current_num_threads()).max(16);
    let mut by_output = vec![0f32; outputs * rows];
    let mut tasks = Vec::new();
    let mut rest = by_output.as_mut_slice();
    for part in parts {
        for range in tiles(part.rows, most) {
            let (out, later) = rest.split_at_mut(range.len() * rows);
            tasks.push((part, range, out));
            rest = later;
        }
    }
    tasks.into_par_iter().for_each(|(part, range, out)| match part.floats() {
        Some(w) => {
            let w = &w[range.start * part.cols..range.end * part.cols];
            few_rows::multiply(rows, DenseProducts { x, w, out });
        }
        None => {
            let (encoding, weight_row) = (part.encoding(), |row| part.row(range.start + row));
            few_rows::multiply(rows, EncodedProducts { encoding, x, weight_row, out });
        }
    });
    for (o, column) in by_output.chunks_exact(rows).enumerate() {
        for (m, value) in column.iter().enumerate() {
            y[m * outputs + o] += *value;
        }
    }
}
