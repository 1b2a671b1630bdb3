//! Some rows of a matrix: taken out, and put back at their positions. Each is the other's vjp. On CUDA both are one launch:
//! every row of the result is read from its position, or is zero.

use candle_core::{Device, Tensor};

use super::cuda;
use crate::Result;

/// Some of `T` rows, all different, in any order.
#[derive(Debug, Clone)]
pub struct RowSet {
    /// The rows. `(Q,)` u32
    index: Tensor,
    /// The position of each of all rows in `index`, or [`NOWHERE`]. `(T,)` u32
    positions: Tensor,
}

/// Position of a row that is not in the set.
const NOWHERE: u32 = u32::MAX;

impl RowSet {
    /// The `rows` of a matrix of `all` rows.
    pub fn new(rows: &[usize], all: usize, device: &Device) -> Result<Self> {
        let mut numbers: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        numbers.resize(rows.len() + all, NOWHERE);
        for (at, row) in rows.iter().enumerate() {
            numbers[rows.len() + row] = at as u32;
        }
        let both = Tensor::new(numbers, device)?;
        Ok(Self { index: both.narrow(0, 0, rows.len())?, positions: both.narrow(0, rows.len(), all)? })
    }

    /// Takes the rows out. `(T, ·)` → `(Q, ·)`.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        match cuda::launcher(x.device()) {
            Some(launcher) => cuda::rows::take(launcher, x, &self.index),
            None => Ok(x.index_select(&self.index, 0)?),
        }
    }

    /// Puts the rows back at their positions; other rows are zero. `(Q, ·)` → `(T, ·)`.
    pub(crate) fn put_back(&self, x: &Tensor) -> Result<Tensor> {
        match cuda::launcher(x.device()) {
            Some(launcher) => cuda::rows::take(launcher, x, &self.positions),
            None => {
                let shape = (self.positions.elem_count(), x.dim(1)?);
                Ok(Tensor::zeros(shape, x.dtype(), x.device())?.index_add(&self.index, x, 0)?)
            }
        }
    }
}
