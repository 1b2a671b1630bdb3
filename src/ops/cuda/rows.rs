//! The launch that takes rows out, or puts them back: kernels/rows.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Element, Launcher, Module};
use crate::Result;

/// Row `index[i]` of x, or zeros where that is beyond its rows. `x (T, ·)`, `index (Q,)` u32 → `(Q, ·)`
pub fn take(launcher: &dyn Launcher, x: &Tensor, index: &Tensor) -> Result<Tensor> {
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
