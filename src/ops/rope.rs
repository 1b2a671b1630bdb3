//! Rotary position embedding, half-split form: (x₁, x₂) → (x₁·cos − x₂·sin, x₂·cos + x₁·sin). A rotation, so its vjp is
//! the rotation by the opposite angle. Tables for every kind of frequency scaling that [`RopeScaling`] names.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use super::host::{self, HostSlice};
use super::kernels::{self, Argument, Call, Element, Launcher, Module};
use super::rows::RowSet;
use crate::Result;
use crate::model::config::RopeScaling;

/// Rotations of one pass.
#[derive(Debug, Clone)]
pub struct Angles {
    /// Of each row the cosines, then the sines. `(T, D)` f32
    table: Tensor,
    /// Of the sines: −1 for the opposite rotations.
    sign: f32,
}

impl Angles {
    /// Angles for tokens at `positions`, each in a sequence of `lengths` tokens (dynamic scaling depends on it).
    pub fn new(rope: &Rope, positions: &[usize], lengths: &[usize], device: &Device) -> Result<Self> {
        let half = rope.head_dim / 2;
        let (width, mut table) = (2 * half, Vec::with_capacity(positions.len() * 2 * half));
        // The sequences of a batch have the same positions: a GPU would wait for the sines of each.
        let mut known = HashMap::new();
        for (row, (&position, &length)) in positions.iter().zip(lengths).enumerate() {
            let of_length = if rope.depends_on_length(length) { length } else { 0 };
            let same = *known.entry((position, of_length)).or_insert(row);
            if same < row {
                table.extend_from_within(same * width..(same + 1) * width);
                continue;
            }
            let frequencies = rope.frequencies(length);
            let angles = || frequencies.iter().map(|frequency| position as f32 * frequency);
            table.extend(angles().map(f32::cos));
            table.extend(angles().map(f32::sin));
        }
        Ok(Self { table: Tensor::from_vec(table, (positions.len(), width), device)?, sign: 1.0 })
    }

    /// The opposite rotation: what the gradient passes through.
    pub fn inverse(&self) -> Self {
        Self { table: self.table.clone(), sign: -self.sign }
    }

    /// Pairs of dimensions of a head, `D/2`.
    fn pairs(&self) -> Result<usize> {
        Ok(self.table.dim(1)? / 2)
    }

    /// The angles of some rows.
    pub fn select(&self, rows: &RowSet) -> Result<Self> {
        Ok(Self { table: rows.take(&self.table)?, sign: self.sign })
    }
}

/// Rotates every head. `x (T, heads·D)` → the same shape.
pub fn forward(x: &Tensor, angles: &Angles) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    forward_columns(x, 0..width, angles)
}

/// Rotates the heads that lie in some columns. `x (T, ·)` → `(T, columns)`.
pub fn forward_columns(x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
    match kernels::launcher(x.device()) {
        Some(launcher) => forward_kernel(launcher, x, columns, angles),
        None if host::is_host_f32(x) => forward_host(x, columns, angles),
        None => forward_composed(&x.narrow(1, columns.start, columns.len())?, angles),
    }
}

/// Rows whose queries alone are wanted, and their angles.
pub type Selected<'a> = (&'a RowSet, &'a Angles);

/// Queries and keys, rotated, and values of rows that hold all three; the queries of the selected rows alone, where some are.
/// `qkv (T, Q + 2·KV)` → `(T, Q)`, twice `(T, KV)`.
pub fn split(
    qkv: &Tensor,
    [q_width, kv_width]: [usize; 2],
    angles: &Angles,
    selected: Option<Selected>,
) -> Result<[Tensor; 3]> {
    if let Some(launcher) = kernels::launcher(qkv.device()) {
        let [q, k, v] = split_kernel(launcher, qkv, [q_width, kv_width], angles)?;
        return Ok([selected.map_or(Ok(q.clone()), |(rows, _)| rows.take(&q))?, k, v]);
    }
    let q = match selected {
        Some((rows, angles)) => forward_columns(&rows.take(qkv)?, 0..q_width, angles)?,
        None => forward_columns(qkv, 0..q_width, angles)?,
    };
    let k = forward_columns(qkv, q_width..q_width + kv_width, angles)?;
    let values = q_width + kv_width..q_width + 2 * kv_width;
    let v = if host::is_host_f32(qkv) {
        copy_host(qkv, values)?
    } else {
        qkv.narrow(1, values.start, values.len())?.contiguous()?
    };
    Ok([q, k, v])
}

/// The gradient of [`split`]'s rows, given those of its results, and its other arguments. → `(T, Q + 2·KV)`.
pub fn join([q, k, v]: [&Tensor; 3], angles: &Angles, selected: Option<Selected>) -> Result<Tensor> {
    let inverse = &angles.inverse();
    if let Some(launcher) = kernels::launcher(q.device()) {
        let q = selected.map_or(Ok(q.clone()), |(rows, _)| rows.put_back(q))?;
        return join_kernel(launcher, [&q, k, v], inverse);
    }
    let q = match selected {
        Some((rows, angles)) => rows.put_back(&forward(q, &angles.inverse())?)?,
        None if host::is_host_f32(q) => return join_host([q, k, v], inverse),
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

fn forward_kernel(launcher: &dyn Launcher, x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
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

fn split_kernel(
    launcher: &dyn Launcher,
    qkv: &Tensor,
    [q_width, kv_width]: [usize; 2],
    angles: &Angles,
) -> Result<[Tensor; 3]> {
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
    let outputs = Call { shared_floats: 0, ..by_row }.launch(launcher)?;
    outputs.try_into().map_err(|_| candle_core::Error::msg("kernel rope_split gave too few results").into())
}

fn join_kernel(launcher: &dyn Launcher, [q, k, v]: [&Tensor; 3], angles: &Angles) -> Result<Tensor> {
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

fn forward_host(x: &Tensor, columns: Range<usize>, angles: &Angles) -> Result<Tensor> {
    let ((rows, stride), half, sign) = (x.dims2()?, angles.pairs()?, angles.sign);
    let x = x.contiguous()?;
    let (x, table) = (HostSlice::new(&x)?, HostSlice::new(&angles.table)?);
    let (x, table) = (&*x, &*table);
    let y = host::rows(rows, columns.len(), |row, y| {
        let x = &x[row * stride..][..stride];
        rotate(&x[columns.clone()], &table[row * 2 * half..][..2 * half], sign, y);
    });
    host::tensor(y, (rows, columns.len()))
}

/// Some columns, by all threads. candle's copy takes one.
fn copy_host(x: &Tensor, columns: Range<usize>) -> Result<Tensor> {
    let ((rows, stride), x) = (x.dims2()?, x.contiguous()?);
    let x = HostSlice::new(&x)?;
    let x = &*x;
    let y = host::rows(rows, columns.len(), |row, y| y.copy_from_slice(&x[row * stride..][columns.clone()]));
    host::tensor(y, (rows, columns.len()))
}

fn join_host([q, k, v]: [&Tensor; 3], angles: &Angles) -> Result<Tensor> {
    let ((rows, q_width), (_, kv_width)) = (q.dims2()?, k.dims2()?);
    let (half, sign) = (angles.pairs()?, angles.sign);
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let [q, k, v, table] = [HostSlice::new(&q)?, HostSlice::new(&k)?, HostSlice::new(&v)?, HostSlice::new(&angles.table)?];
    let [q, k, v, table] = [&*q, &*k, &*v, &*table];
    let joined = host::rows(rows, q_width + 2 * kv_width, |row, y| {
        let angles = &table[row * 2 * half..][..2 * half];
        let (y_q, y_kv) = y.split_at_mut(q_width);
        let (y_k, y_v) = y_kv.split_at_mut(kv_width);
        rotate(&q[row * q_width..][..q_width], angles, sign, y_q);
        rotate(&k[row * kv_width..][..kv_width], angles, sign, y_k);
        y_v.copy_from_slice(&v[row * kv_width..][..kv_width]);
    });
    host::tensor(joined, (rows, q_width + 2 * kv_width))
}

/// Rotates the heads of one row, by cosines and then sines of its pairs. `x (heads·D)`, `angles (D)` → `y (heads·D)`
fn rotate(x: &[f32], angles: &[f32], sign: f32, y: &mut [f32]) {
    let half = angles.len() / 2;
    let (cos, sin) = angles.split_at(half);
    host::vectorised(
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

/// The model's rotary frequencies.
#[derive(Debug, Clone)]
pub struct Rope {
    head_dim: usize,
    theta: f64,
    scaling: RopeScaling,
    /// One a pair of dimensions, for every scaling but the dynamic one past its trained context. `(D/2,)`
    frequencies: Vec<f32>,
}

impl Rope {
    /// Frequencies θ^(−2i/D), scaled.
    pub fn new(head_dim: usize, theta: f64, scaling: &RopeScaling) -> Self {
        let plain = plain_frequencies(head_dim, theta);
        let frequencies = match scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => plain,
            RopeScaling::Linear { factor } => plain.iter().map(|f| (*f as f64 / factor) as f32).collect(),
            RopeScaling::Factors(factors) => plain.iter().zip(factors).map(|(f, by)| f / by).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => plain
                .iter()
                .map(|f| {
                    llama3(*f as f64, *factor, *low_freq_factor, *high_freq_factor, *original_max_position_embeddings as f64)
                        as f32
                })
                .collect(),
        };
        Self { head_dim, theta, scaling: scaling.clone(), frequencies }
    }

    /// Whether the frequencies of a sequence of `length` tokens depend on its length.
    pub fn depends_on_length(&self, length: usize) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { original_max_position_embeddings: trained, .. } if length > trained)
    }

    /// Frequencies in a sequence of `length` tokens. Past the trained context, dynamic scaling stretches the base:
    /// θ·(factor·length/trained − (factor − 1))^(D/(D−2)), as transformers has it.
    fn frequencies(&self, length: usize) -> std::borrow::Cow<'_, [f32]> {
        match self.scaling {
            RopeScaling::Dynamic { factor, original_max_position_embeddings: trained } if length > trained => {
                let stretch = factor * length as f64 / trained as f64 - (factor - 1.0);
                let d = self.head_dim as f64;
                plain_frequencies(self.head_dim, self.theta * stretch.powf(d / (d - 2.0))).into()
            }
            _ => self.frequencies.as_slice().into(),
        }
    }
}

fn plain_frequencies(head_dim: usize, theta: f64) -> Vec<f32> {
    (0..head_dim).step_by(2).map(|i| theta.powf(-(i as f64) / head_dim as f64) as f32).collect()
}

/// Llama 3.1's scaling: long wavelengths divided by `factor`, short ones kept, a linear blend between.
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let wavelength = 2.0 * std::f64::consts::PI / frequency;
    if wavelength > context / low {
        return frequency / factor;
    }
    if wavelength < context / high {
        return frequency;
    }
    let smooth = (context / wavelength - low) / (high - low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}
