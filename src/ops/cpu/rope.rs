//! The rotary embedding of f32 rows, one pass over memory.

use std::ops::Range;

use candle_core::Tensor;

use super::slices::{self, HostSlice};
use super::vector::vectorised;
use crate::Result;
use crate::ops::angles::Angles;

/// Rotates the heads that lie in some columns. `x (T, ·)` → `(T, columns)`.
pub fn forward(x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
    let ((rows, stride), half, sign) = (x.dims2()?, angles.pairs()?, angles.sign);
    let x = x.contiguous()?;
    let (x, table) = (HostSlice::new(&x)?, HostSlice::new(&angles.table)?);
    let (x, table) = (&*x, &*table);
    let y = slices::rows(rows, columns.len(), |row, y| {
        let x = &x[row * stride..][..stride];
        rotate(&x[columns.clone()], &table[row * 2 * half..][..2 * half], sign, y);
    });
    slices::tensor(y, (rows, columns.len()))
}

/// Copies some columns by all threads, where candle's copy takes one thread. `x (T, ·)` → `(T, columns)`.
pub fn copy_columns(x: &Tensor, columns: Range<usize>) -> Result<Tensor> {
    let ((rows, stride), x) = (x.dims2()?, x.contiguous()?);
    let x = HostSlice::new(&x)?;
    let x = &*x;
    let y = slices::rows(rows, columns.len(), |row, y| y.copy_from_slice(&x[row * stride..][columns.clone()]));
    slices::tensor(y, (rows, columns.len()))
}

/// The gradient of queries, keys and values side by side, by the opposite `angles`. → `(T, Q + 2·KV)`
pub fn join([q, k, v]: [&Tensor; 3], angles: &Angles) -> Result<Tensor> {
    let ((rows, q_width), (_, kv_width)) = (q.dims2()?, k.dims2()?);
    let (half, sign) = (angles.pairs()?, angles.sign);
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let [q, k, v, table] = [HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?, HostSlice::new(&angles.table)?];
    let [q, k, v, table] = [&*q, &*k, &*v, &*table];
    let joined = slices::rows(rows, q_width + 2 * kv_width, |row, y| {
        let angles = &table[row * 2 * half..][..2 * half];
        let (y_q, y_kv) = y.split_at_mut(q_width);
        let (y_k, y_v) = y_kv.split_at_mut(kv_width);
        rotate(&q[row * q_width..][..q_width], angles, sign, y_q);
        rotate(&k[row * kv_width..][..kv_width], angles, sign, y_k);
        y_v.copy_from_slice(&v[row * kv_width..][..kv_width]);
    });
    slices::tensor(joined, (rows, q_width + 2 * kv_width))
}

/// Rotates the heads of one row, by cosines and then sines of its pairs. `x (heads·D)`, `angles (D)` → `y (heads·D)`
fn rotate(x: &[f32], angles: &[f32], sign: f32, y: &mut [f32]) {
    let half = angles.len() / 2;
    let (cos, sin) = angles.split_at(half);
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
                let (y1, y2) = y.split_at_mut(half);
                let (x1, x2) = x.split_at(half);
                for i in 0..half {
                    let sin = sign * sin[i];
                    y1[i] = x1[i] * cos[i] - x2[i] * sin;
                    y2[i] = x2[i] * cos[i] + x1[i] * sin;
                }
            }
        },
    );
}
