//! Some rows of a matrix: taken out, and put back in their places. Each is the other's vjp, and with kernels one launch: every
//! row of the result is read from its place, or is zero.

use candle_core::{Device, Tensor};

use super::kernels::{self, Argument, Call, Element, Launcher, Module};
use crate::Result;

/// Some rows of `T`, all different, in any order.
#[derive(Debug, Clone)]
pub struct RowSet {
    /// Which. `(Q,)` u32
    index: Tensor,
    /// Where each of all rows is among them, [`NOWHERE`] if it is not. `(T,)` u32
    places: Tensor,
}

const NOWHERE: u32 = u32::MAX;

impl RowSet {
    /// These rows of `all`.
    pub fn new(rows: &[usize], all: usize, device: &Device) -> Result<Self> {
        let mut numbers: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        numbers.resize(rows.len() + all, NOWHERE);
        for (at, row) in rows.iter().enumerate() {
            numbers[rows.len() + row] = at as u32;
        }
        let both = Tensor::new(numbers, device)?;
        Ok(Self { index: both.narrow(0, 0, rows.len())?, places: both.narrow(0, rows.len(), all)? })
    }

    /// `(T, ·)` → `(Q, ·)`.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        match kernels::launcher(x.device()) {
            Some(launcher) => take_kernel(launcher, x, &self.index),
            None => Ok(x.index_select(&self.index, 0)?),
        }
    }

    /// Zero where no row is. `(Q, ·)` → `(T, ·)`.
    pub fn put_back(&self, x: &Tensor) -> Result<Tensor> {
        match kernels::launcher(x.device()) {
            Some(launcher) => take_kernel(launcher, x, &self.places),
            None => {
                let shape = (self.places.elem_count(), x.dim(1)?);
                Ok(Tensor::zeros(shape, x.dtype(), x.device())?.index_add(&self.index, x, 0)?)
            }
        }
    }
}

fn take_kernel(launcher: &dyn Launcher, x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let ((count, width), rows, x) = (x.dims2()?, index.elem_count(), x.contiguous()?);
    let arguments = vec![
        Argument::read(&x),
        Argument::Read(index, Element::U32),
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::size(count)?,
    ];
    let by_row = Call::by_row(Module::Rows, "take_rows", &x, [rows, width]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for_one(launcher)
}
