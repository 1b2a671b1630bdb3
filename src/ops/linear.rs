//! y = x·Wᵀ + b with a frozen weight: its vjp is one product, dy·W.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::encoding;
use super::host::{self, HostSlice, Into, MAX_ROWS, Matrix, RowProducts};
use super::kernels;
use super::weight::{Rows, Weight, for_each_block};
use crate::Result;

/// A frozen projection.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(O, I)`
    pub weight: Weight,
    /// `(O,)`
    pub bias: Option<Tensor>,
}

/// Elements of an encoded weight that are decoded at a time for products of many rows: 8 MiB of f32.
const DECODED: usize = 2 << 20;

impl Linear {
    /// `x (T, I)` → `(T, O)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.with_bias(match on_host(&self.weight, x) {
            true => product(x, &self.weight, None)?,
            false => matmul_wide(x, &self.tensor()?.t()?)?,
        })
    }

    /// `residual (T, O)` + [`Linear::forward`].
    pub fn forward_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        if on_host(&self.weight, x) {
            return self.with_bias(product(x, &self.weight, Some(residual))?);
        }
        self.with_bias(match kernels::launcher(x.device()) {
            Some(launcher) => kernels::product(launcher, x, self.tensor()?, Some(residual), x.dtype())?,
            None => (residual + matmul_wide(x, &self.tensor()?.t()?)?)?,
        })
    }

    /// Gradient of x. `dy (T, O)` → `(T, I)`.
    pub fn vjp(&self, dy: &Tensor) -> Result<Tensor> {
        if !on_host(&self.weight, dy) {
            return matmul_wide(dy, self.tensor()?);
        }
        let ((rows, outputs), (_, cols)) = (dy.dims2()?, self.weight.dims()?);
        let dy = dy.contiguous()?;
        let dy = HostSlice::new(&dy)?;
        let dx = self.weight.with_parts(|parts| {
            if let Some(floats) = single(parts) {
                let w = Matrix::new(floats, outputs, cols, cols);
                return host::product(None, Matrix::new(&dy, rows, outputs, outputs), w);
            }
            let mut dx = vec![0f32; rows * cols];
            for_each_block(parts, rows_at_a_time, |first, block, block_rows| {
                let dy = Matrix::new(dy.get(first..).unwrap_or_default(), rows, block_rows, outputs);
                let w = Matrix::new(block, block_rows, cols, cols);
                let into = if first == 0 { Into::Overwrite } else { Into::Add };
                host::matmul(&mut dx, cols, into, dy, w, host::all_threads());
            });
            dx
        })?;
        host::tensor(dx, (rows, cols))
    }

    fn with_bias(&self, y: Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    fn tensor(&self) -> Result<&Tensor> {
        match &self.weight {
            Weight::Tensor(tensor) => Ok(tensor),
            Weight::Host(_) => Err(candle_core::Error::msg("weights on the CPU take f32 activations on the CPU").into()),
        }
    }
}

fn on_host(weight: &Weight, x: &Tensor) -> bool {
    host::is_host_f32(x) && weight.is_host()
}

/// \[residual +\] x·Wᵀ. `x (T, I)`, `w (O, I)` → `(T, O)`.
fn product(x: &Tensor, w: &Weight, residual: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, inner), (cols, _)) = (x.dims2()?, w.dims()?);
    let x = x.contiguous()?;
    let x = HostSlice::new(&x)?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(HostSlice::new).transpose()?;
    let residual = residual.as_deref();
    let y = w.with_parts(|parts| {
        let matrix = Matrix::new(&x, rows, inner, inner);
        if let Some(floats) = single(parts).filter(|_| rows > MAX_ROWS) {
            return host::product(residual, matrix, Matrix::new(floats, cols, inner, inner).t());
        }
        let into = if residual.is_some() { Into::Add } else { Into::Overwrite };
        let mut y = residual.map_or_else(|| vec![0f32; rows * cols], <[f32]>::to_vec);
        if rows <= MAX_ROWS {
            few_rows(&x, parts, rows, &mut y);
            return y;
        }
        for_each_block(parts, rows_at_a_time, |first, block, block_rows| {
            let w = Matrix::new(block, block_rows, inner, inner);
            host::matmul(&mut y[first..], cols, into, matrix, w.t(), host::all_threads());
        });
        y
    })?;
    host::tensor(y, (rows, cols))
}

/// The elements of a matrix that is one part and f32.
fn single<'a>(parts: &[Rows<'a>]) -> Option<&'a [f32]> {
    if let [part] = parts { part.floats() } else { None }
}

/// Rows of a block: all of them where they are f32, else as many as are decoded at a time.
fn rows_at_a_time(part: &Rows) -> usize {
    if part.floats().is_some() { part.rows } else { DECODED / part.cols }
}

/// candle's product; bf16 on the CPU, which candle does not multiply, through f32.
pub(super) fn matmul_wide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() && a.dtype() == DType::BF16 {
        let product = a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?;
        return Ok(product.to_dtype(DType::BF16)?);
    }
    Ok(a.contiguous()?.matmul(b)?)
}

/// A few rows: bound by reading the weight, so that is done once, by all threads. Adds to `y (rows, outputs)`.
fn few_rows(x: &[f32], parts: &[Rows], rows: usize, y: &mut [f32]) {
    let outputs: usize = parts.iter().map(|part| part.rows).sum();
    let most = outputs.div_ceil(4 * rayon::current_num_threads()).max(16);
    let mut by_output = vec![0f32; outputs * rows];
    let mut tasks = Vec::new();
    let mut rest = by_output.as_mut_slice();
    for part in parts {
        for start in (0..part.rows).step_by(most) {
            let len = most.min(part.rows - start);
            let (out, later) = rest.split_at_mut(len * rows);
            tasks.push((part, start, out));
            rest = later;
        }
    }
    tasks.into_par_iter().for_each(|(part, start, out)| match part.floats() {
        Some(w) => few_rows_dense(x, &w[start * part.cols..][..out.len() / rows * part.cols], rows, part.cols, out),
        None => encoding::few_rows(part.encoding(), x, rows, |row| part.row(start + row), out),
    });
    for (o, column) in by_output.chunks_exact(rows).enumerate() {
        for (m, value) in column.iter().enumerate() {
            y[m * outputs + o] += *value;
        }
    }
}

fn few_rows_dense(x: &[f32], w: &[f32], rows: usize, k: usize, out: &mut [f32]) {
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
