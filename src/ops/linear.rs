//! y = x·Wᵀ + b with a frozen weight: its vjp is one product, dy·W.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::host::{self, HostSlice, Into, MAX_ROWS, Matrix, RowProducts};
use crate::Result;

/// A frozen projection.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(O, I)`
    pub weight: Tensor,
    /// `(O,)`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `x (T, I)` → `(T, O)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = product(x, &self.weight)?;
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    /// Gradient of x. `dy (T, O)` → `(T, I)`.
    pub fn vjp(&self, dy: &Tensor) -> Result<Tensor> {
        if !host::is_host_f32(dy) {
            return matmul_wide(dy, &self.weight);
        }
        let ((rows, inner), (_, cols)) = (dy.dims2()?, self.weight.dims2()?);
        let dy = dy.contiguous()?;
        let (dy, w) = (HostSlice::new(&dy)?, HostSlice::new(&self.weight)?);
        let mut dx = vec![0f32; rows * cols];
        let (dy, w) = (Matrix::new(&dy, rows, inner, inner), Matrix::new(&w, inner, cols, cols));
        host::matmul(&mut dx, cols, Into::Overwrite, dy, w, host::all_threads());
        host::tensor(dx, (rows, cols))
    }
}

/// x·Wᵀ. `x (T, I)`, `w (O, I)` → `(T, O)`.
fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if !host::is_host_f32(x) {
        return matmul_wide(x, &w.t()?);
    }
    let ((rows, inner), (cols, _)) = (x.dims2()?, w.dims2()?);
    let x = x.contiguous()?;
    let (x, w) = (HostSlice::new(&x)?, HostSlice::new(w)?);
    if rows <= MAX_ROWS {
        return host::tensor(few_rows(&x, &w, rows, inner), (rows, cols));
    }
    let mut y = vec![0f32; rows * cols];
    let (x, w) = (Matrix::new(&x, rows, inner, inner), Matrix::new(&w, cols, inner, inner));
    host::matmul(&mut y, cols, Into::Overwrite, x, w.t(), host::all_threads());
    host::tensor(y, (rows, cols))
}

/// candle's product; bf16 on the CPU, which candle does not multiply, through f32.
fn matmul_wide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() && a.dtype() == DType::BF16 {
        let product = a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?;
        return Ok(product.to_dtype(DType::BF16)?);
    }
    Ok(a.contiguous()?.matmul(b)?)
}

/// A few rows: bound by reading the weight, so that is done once, by all threads. `(rows, inner)` → `(rows, outputs)`.
fn few_rows(x: &[f32], w: &[f32], rows: usize, inner: usize) -> Vec<f32> {
    let outputs = w.len() / inner;
    let mut by_output = vec![0f32; outputs * rows];
    let chunk = outputs.div_ceil(4 * rayon::current_num_threads()).max(16);
    by_output
        .par_chunks_mut(chunk * rows)
        .zip(w.par_chunks(chunk * inner))
        .for_each(|(out, w)| few_rows_chunk(x, w, rows, inner, out));
    if rows == 1 {
        return by_output;
    }
    let mut y = vec![0f32; outputs * rows];
    for (o, column) in by_output.chunks_exact(rows).enumerate() {
        for (m, value) in column.iter().enumerate() {
            y[m * outputs + o] = *value;
        }
    }
    y
}

fn few_rows_chunk(x: &[f32], w: &[f32], rows: usize, k: usize, out: &mut [f32]) {
    let arch = pulp::Arch::new();
    match rows {
        1 => arch.dispatch(RowProducts::<1> { x, w, k, out }),
        2 => arch.dispatch(RowProducts::<2> { x, w, k, out }),
        3 => arch.dispatch(RowProducts::<3> { x, w, k, out }),
        4 => arch.dispatch(RowProducts::<4> { x, w, k, out }),
        5 => arch.dispatch(RowProducts::<5> { x, w, k, out }),
        6 => arch.dispatch(RowProducts::<6> { x, w, k, out }),
        7 => arch.dispatch(RowProducts::<7> { x, w, k, out }),
        8 => arch.dispatch(RowProducts::<8> { x, w, k, out }),
        9 => arch.dispatch(RowProducts::<9> { x, w, k, out }),
        10 => arch.dispatch(RowProducts::<10> { x, w, k, out }),
        11 => arch.dispatch(RowProducts::<11> { x, w, k, out }),
        _ => arch.dispatch(RowProducts::<12> { x, w, k, out }),
    }
}
