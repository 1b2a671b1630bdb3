//! The rotary embedding's launches: kernels/rope.cu.

use std::ops::Range;

use candle_core::Tensor;

use super::call::{Argument, Call, Element, Launcher, Module};
use crate::Result;
use crate::ops::angles::Angles;

/// Rotates the heads that lie in some columns. `x (T, ·)` → `(T, columns)`.
pub fn forward(launcher: &dyn Launcher, x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
    let ((rows, stride), x) = (x.dims2()?, x.contiguous()?);
    let arguments = vec![
        Argument::read(&x),
        Argument::Read(&angles.table, Element::F32),
        Argument::output((rows, columns.len())),
        Argument::size(stride)?,
        Argument::size(columns.start)?,
        Argument::size(columns.len())?,
        Argument::size(angles.pairs()?)?,
        Argument::F32(angles.sign),
    ];
    let by_row = Call::by_row(Module::Rope, "rope", &x, [rows, columns.len() / 2]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for_one(launcher)
}

/// Rotated queries and keys, and values. `qkv (T, Q + 2·KV)` → `(T, Q)`, twice `(T, KV)`.
pub fn split(launcher: &dyn Launcher, qkv: &Tensor, [q_width, kv_width]: [usize; 2], angles: &Angles) -> Result<[Tensor; 3]> {
    let ((rows, _), qkv) = (qkv.dims2()?, qkv.contiguous()?);
    let arguments = vec![
        Argument::read(&qkv),
        Argument::Read(&angles.table, Element::F32),
        Argument::output((rows, q_width)),
        Argument::output((rows, kv_width)),
        Argument::output((rows, kv_width)),
        Argument::size(q_width)?,
        Argument::size(kv_width)?,
        Argument::size(angles.pairs()?)?,
        Argument::F32(angles.sign),
    ];
    let by_row = Call::by_row(Module::Rope, "rope_split", &qkv, [rows, (q_width + kv_width) / 2]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for(launcher)
}

/// The gradient of the rows that [`split`] took; `angles` are the opposite ones. → `(T, Q + 2·KV)`
pub fn join(launcher: &dyn Launcher, [q, k, v]: [&Tensor; 3], angles: &Angles) -> Result<Tensor> {
    let ((rows, q_width), (_, kv_width)) = (q.dims2()?, k.dims2()?);
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let arguments = vec![
        Argument::read(&q),
        Argument::read(&k),
        Argument::read(&v),
        Argument::Read(&angles.table, Element::F32),
        Argument::output((rows, q_width + 2 * kv_width)),
        Argument::size(q_width)?,
        Argument::size(kv_width)?,
        Argument::size(angles.pairs()?)?,
        Argument::F32(angles.sign),
    ];
    let by_row = Call::by_row(Module::Rope, "rope_join", &q, [rows, (q_width + kv_width) / 2]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch_for_one(launcher)
}
