//! Rotary position embedding, half-split form: (x₁, x₂) → (x₁·cos − x₂·sin, x₂·cos + x₁·sin). A rotation, times a
//! factor where the angles have one, so its vjp is the same by the opposite angle.

use std::ops::Range;

use candle_core::{D, DType, Tensor};

pub use super::angles::{Angles, Rope, RopeParameters, RopeScaling};
use super::cpu::slices::is_host_f32;
use super::rows::RowSet;
use super::{cpu, cuda};
use crate::Result;

impl Angles {
    /// The angles of some rows.
    pub(crate) fn select(&self, rows: &RowSet) -> Result<Self> {
        Ok(Self { table: rows.take(&self.table)?, sign: self.sign })
    }
}

/// Rotates every head. `x (T, heads·D)` → the same shape.
pub fn forward(x: &Tensor, angles: &Angles) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    forward_columns(x, 0..width, angles)
}

/// Rotates the heads that lie in some columns. `x (T, ·)` → `(T, columns)`.
pub(crate) fn forward_columns(x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
    match cuda::launcher(x.device()) {
        Some(launcher) => cuda::rope::forward(launcher, x, columns, angles),
        None if is_host_f32(x) => cpu::rope::forward(x, columns, angles),
        None => forward_composed(&x.narrow(1, columns.start, columns.len())?, angles),
    }
}

/// Some rows, the only ones whose queries are wanted, and their angles.
pub(crate) type Selected<'a> = (&'a RowSet, &'a Angles);

/// Rotated queries, rotated keys and values, from rows that hold all three. Where rows are selected, only their queries are
/// given. `qkv (T, Q + 2·KV)` → `(T, Q)`, twice `(T, KV)`.
pub(crate) fn split(
    qkv: &Tensor,
    [q_width, kv_width]: [usize; 2],
    angles: &Angles,
    selected: Option<Selected>,
) -> Result<[Tensor; 3]> {
    if let Some(launcher) = cuda::launcher(qkv.device()) {
        let [q, k, v] = cuda::rope::split(launcher, qkv, [q_width, kv_width], angles)?;
        return Ok([selected.map_or(Ok(q.clone()), |(rows, _)| rows.take(&q))?, k, v]);
    }
    let q = match selected {
        Some((rows, angles)) => forward_columns(&rows.take(qkv)?, 0..q_width, angles)?,
        None => forward_columns(qkv, 0..q_width, angles)?,
    };
    let k = forward_columns(qkv, q_width..q_width + kv_width, angles)?;
    let values = q_width + kv_width..q_width + 2 * kv_width;
    let v = if is_host_f32(qkv) {
        cpu::rope::copy_columns(qkv, values)?
    } else {
        qkv.narrow(1, values.start, values.len())?.contiguous()?
    };
    Ok([q, k, v])
}

/// The gradient of the rows that [`split`] took, given those of its results. → `(T, Q + 2·KV)`.
pub(crate) fn join([q, k, v]: [&Tensor; 3], angles: &Angles, selected: Option<Selected>) -> Result<Tensor> {
    let inverse = &angles.inverse();
    if let Some(launcher) = cuda::launcher(q.device()) {
        let q = selected.map_or(Ok(q.clone()), |(rows, _)| rows.put_back(q))?;
        return cuda::rope::join(launcher, [&q, k, v], inverse);
    }
    let q = match selected {
        Some((rows, angles)) => rows.put_back(&forward(q, &angles.inverse())?)?,
        None if is_host_f32(q) => return cpu::rope::join([q, k, v], inverse),
        None => forward(q, inverse)?,
    };
    Ok(Tensor::cat(&[&q, &forward(k, inverse)?, v], 1)?)
}

pub(super) fn forward_composed(x: &Tensor, angles: &Angles) -> Result<Tensor> {
    let ((rows, width), half) = (x.dims2()?, angles.pairs()?);
    let heads = width / (2 * half);
    let wide = x.to_dtype(DType::F32)?.reshape((rows, heads, 2 * half))?;
    let (x1, x2) = (wide.narrow(2, 0, half)?, wide.narrow(2, half, half)?);
    let table = angles.table.unsqueeze(1)?; // (T, 1, D)
    let (cos, sin) = (table.narrow(2, 0, half)?, (table.narrow(2, half, half)? * f64::from(angles.sign))?);
    let y1 = (x1.broadcast_mul(&cos)? - x2.broadcast_mul(&sin)?)?;
    let y2 = (x2.broadcast_mul(&cos)? + x1.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[y1, y2], D::Minus1)?.reshape((rows, width))?.to_dtype(x.dtype())?)
}
