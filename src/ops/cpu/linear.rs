//! y = x·Wᵀ and its vjp on f32 activations of the CPU, with a weight whose rows are f32 or encoded.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::few_rows::encoded::EncodedProducts;
use super::few_rows::{self, MAX_ROWS};
use super::integer::{CodedRows, IntegerKernel};
use super::product::{Matrix, Parallelism, Write, all_threads, matmul, product, product_by_rows, rows_are_independent};
use super::slices::{self, HostSlice};
use super::weight_rows::{WeightRows, for_each_block};
use crate::Result;
use crate::ops::products::Products;
use crate::ops::tiles::tiles;

/// Elements of an encoded weight that are decoded at a time for products of many rows: 8 MiB of f32.
const DECODED: usize = 2 << 20;

/// Weight rows of a task where several groups of rows meet them: they stay in the second-level cache.
const TILE_ROWS: usize = 48;

/// \[residual +\] x·Wᵀ. `x (T, I)`, stacked `parts (O, I)` → `(T, O)`.
pub fn forward(x: &Tensor, parts: &[WeightRows], residual: Option<&Tensor>, products: Products) -> Result<Tensor> {
    let ((rows, inner), outputs) = (x.dims2()?, outputs_of(parts));
    let x = x.contiguous()?;
    let x = HostSlice::new(&x)?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(HostSlice::new).transpose()?;
    let residual = residual.as_deref();
    let matrix = Matrix::new(&x, rows, inner, inner);
    // Products of f32 have one order of additions where the kernel gives a row the same bits in any batch.
    let in_one_order = rows_are_independent() && parts.iter().all(|part| part.floats().is_some());
    // In bf16 a row is rounded or not as the pass says, whatever is beside it.
    let few = rows <= MAX_ROWS && !parts.iter().any(WeightRows::multiplies_bf16);
    let by_rows = !in_one_order && (few || products != Products::Fastest);
    let in_memory = match parts {
        [part] if by_rows => part.floats().map(|floats| product_by_rows(residual, &x, floats, inner)),
        [part] => part.matrix(0..outputs).map(|w| product(residual, matrix, w.t())),
        _ => None,
    };
    if let Some(y) = in_memory {
        return slices::tensor(y, (rows, outputs));
    }
    let mut y = residual.map_or_else(|| vec![0f32; rows * outputs], <[f32]>::to_vec);
    if by_rows {
        add_by_rows(&LeftRows::new(&x, inner, parts, products), parts, &mut y);
        return slices::tensor(y, (rows, outputs));
    }
    let write = if residual.is_some() { Write::Add } else { Write::Overwrite };
    for_each_block(parts, rows_at_a_time, |first, w| {
        matmul(&mut y[first..], outputs, write, matrix, w.t(), all_threads());
    });
    slices::tensor(y, (rows, outputs))
}

/// The gradient of x, dy·W. `dy (T, O)`, stacked `parts (O, I)` → `(T, I)`.
pub fn vjp(dy: &Tensor, parts: &[WeightRows]) -> Result<Tensor> {
    let ((rows, outputs), cols) = (dy.dims2()?, parts.first().map_or(0, |part| part.cols));
    let dy = dy.contiguous()?;
    let dy = HostSlice::new(&dy)?;
    if let [part] = parts
        && let Some(w) = part.matrix(0..outputs)
    {
        return slices::tensor(product(None, Matrix::new(&dy, rows, outputs, outputs), w), (rows, cols));
    }
    let mut dx = vec![0f32; rows * cols];
    for_each_block(parts, rows_at_a_time, |first, w| {
        let (block_rows, _) = w.dims();
        let dy = Matrix::new(dy.get(first..).unwrap_or_default(), rows, block_rows, outputs);
        let write = if first == 0 { Write::Overwrite } else { Write::Add };
        matmul(&mut dx, cols, write, dy, w, all_threads());
    });
    slices::tensor(dx, (rows, cols))
}

/// Number of rows of stacked parts.
fn outputs_of(parts: &[WeightRows]) -> usize {
    parts.iter().map(|part| part.rows).sum()
}

/// Number of rows of a block: all of them where none is decoded, else as many as are decoded at a time.
fn rows_at_a_time(part: &WeightRows) -> usize {
    if part.matrix(0..0).is_some() { part.rows } else { DECODED / part.cols }
}

/// Left rows in groups of at most [`MAX_ROWS`], each of which meets a row of the weight at once.
struct LeftRows<'a> {
    /// Elements of the left rows. `(rows, K)`
    x: &'a [f32],
    rows: usize,
    /// Each group rounded to whole numbers, and what multiplies them, if they are to be.
    coded: Option<(IntegerKernel, Vec<CodedRows>)>,
}

impl<'a> LeftRows<'a> {
    /// Rows of `cols` elements for products with `parts`.
    fn new(x: &'a [f32], cols: usize, parts: &[WeightRows], products: Products) -> Self {
        let mut left = Self { x, rows: x.len() / cols.max(1), coded: None };
        let wanted = products == Products::Integer && parts.iter().any(|part| part.encoding().has_codes());
        left.coded = IntegerKernel::choose().filter(|_| wanted).map(|kernel| {
            let rows = left.groups().map(|group| CodedRows::new(&x[group.start * cols..group.end * cols], cols));
            (kernel, rows.collect())
        });
        left
    }

    /// Groups of nearly one size.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, groups) = (self.rows, self.rows.div_ceil(MAX_ROWS));
        (0..groups).map(move |i| i * rows / groups..(i + 1) * rows / groups)
    }
}

/// Adds the products of each left row to `y (rows, outputs)`, in an order that does not depend on how many rows there are. All
/// threads together read the weight once: a task multiplies a tile of it with group by group of rows.
fn add_by_rows(left: &LeftRows, parts: &[WeightRows], y: &mut [f32]) {
    let outputs = outputs_of(parts);
    let most = outputs.div_ceil(4 * rayon::current_num_threads()).max(16);
    let most = if left.rows > MAX_ROWS { most.min(TILE_ROWS) } else { most };
    let tasks: Vec<(&WeightRows, Range<usize>)> =
        parts.iter().flat_map(|part| tiles(part.rows, most).map(move |range| (part, range))).collect();
    let results: Vec<Vec<f32>> = tasks.par_iter().map(|(part, range)| multiply_tile(part, range.clone(), left)).collect();
    y.par_chunks_exact_mut(outputs).enumerate().for_each(|(row, y)| {
        let mut y = y.iter_mut();
        for ((_, range), result) in tasks.iter().zip(&results) {
            y.by_ref().zip(&result[row * range.len()..(row + 1) * range.len()]).for_each(|(y, product)| *y += product);
        }
    });
}

/// Products of all left rows with some rows of a weight. → `(rows, range)`
fn multiply_tile(part: &WeightRows, range: Range<usize>, left: &LeftRows) -> Vec<f32> {
    let (n, k) = (range.len(), part.cols);
    let mut out = vec![0f32; left.rows * n];
    if let Some(w) = part.floats() {
        let w = &w[range.start * k..range.end * k];
        if !rows_are_independent() {
            return product_by_rows(None, left.x, w, k);
        }
        let (x, w) = (Matrix::new(left.x, left.rows, k, k), Matrix::new(w, n, k, k));
        matmul(&mut out, n, Write::Overwrite, x, w.t(), Parallelism::None);
        return out;
    }
    for (index, group) in left.groups().enumerate() {
        let mut by_output = vec![0f32; n * group.len()]; // (n, rows of the group)
        let (encoding, weight_row) = (part.encoding(), |row| part.row(range.start + row));
        match &left.coded {
            Some((kernel, groups)) if encoding.has_codes() => {
                kernel.multiply(&groups[index], encoding, weight_row, &mut by_output);
            }
            _ => {
                let x = &left.x[group.start * k..group.end * k];
                few_rows::multiply(group.len(), EncodedProducts { encoding, x, weight_row, out: &mut by_output });
            }
        }
        for (o, products) in by_output.chunks_exact(group.len()).enumerate() {
            group.clone().zip(products).for_each(|(row, product)| out[row * n + o] = *product);
        }
    }
    out
}
