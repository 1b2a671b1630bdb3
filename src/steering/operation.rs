//! Steering as it happens: vectors enter the residual stream after their layers, and each row has a factor of its own. Training,
//! decoding and evaluation all change residuals here and nowhere else. No block is run here.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use super::dose::{l2_norm, row_norms};
use crate::Result;

/// How a vector v enters the residual h, times a factor f. With u = v/‖v‖:
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Operation {
    /// h ← h + f·v
    #[default]
    Add,
    /// h ← h − f·(u·h)·u: the part of h along v is taken out, all of it where f is 1, nothing where f is 0. How long v is does
    /// not matter.
    Ablate,
    /// h ← h − f·ReLU(u·h)·u: as [`Operation::Ablate`] where h points along v, and nothing where it points against it.
    Null,
}

impl Operation {
    /// Whether vectors are added, which is what results and pages do not mention.
    pub fn is_addition(&self) -> bool {
        *self == Self::Add
    }
}

/// The vectors that enter the residual stream, after which layers, by which operation, with which factor on all of them.
#[derive(Debug, Clone)]
pub struct Steering {
    operation: Operation,
    /// Layers ascend. Of length 1 where the operation does not look at their length. `(1, H)` f32 each
    vectors: Vec<(usize, Tensor)>,
    /// How long each vector is.
    lengths: Vec<f64>,
    factor: f32,
}

impl Steering {
    /// Adds the vector `(H)` of each layer to the output of that layer, once.
    ///
    /// # Errors
    /// The device has no memory for the vectors.
    pub fn new(vectors: &BTreeMap<usize, Vec<f32>>, device: &Device) -> Result<Self> {
        Self::by(Operation::Add, vectors, device)
    }

    /// Steers by `operation` with the vector `(H)` of each layer. Along a vector of zeros there is nothing to take out.
    ///
    /// # Errors
    /// The device has no memory for the vectors.
    pub fn by(operation: Operation, vectors: &BTreeMap<usize, Vec<f32>>, device: &Device) -> Result<Self> {
        let on_device = |(layer, v): (&usize, &Vec<f32>)| -> Result<(usize, Tensor)> {
            let tensor = match operation {
                Operation::Add => Tensor::from_slice(v, (1, v.len()), device)?,
                Operation::Ablate | Operation::Null => Tensor::from_vec(unit(v), (1, v.len()), device)?,
            };
            Ok((*layer, tensor))
        };
        let lengths = vectors.values().map(|v| l2_norm(v)).collect();
        Ok(Self { operation, vectors: vectors.iter().map(on_device).collect::<Result<_>>()?, lengths, factor: 1.0 })
    }

    /// Returns the same vectors with `factor` in place of their factor: a magnitude, or the direction of a training step.
    pub fn with_factor(&self, factor: f32) -> Self {
        Self { factor, ..self.clone() }
    }

    /// The factor on all of the vectors.
    pub(crate) fn factor(&self) -> f32 {
        self.factor
    }

    /// How the vectors enter the residual stream.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The lowest steered layer; none without a vector.
    pub fn lowest(&self) -> Option<usize> {
        self.vectors.first().map(|(layer, _)| *layer)
    }

    /// Length of the lowest layer's vector as it steers, before any factor: 1 where something is taken out, 0 without a vector.
    pub(crate) fn lowest_norm(&self) -> f64 {
        match (self.operation, self.lengths.first()) {
            (_, None) => 0.0,
            (Operation::Add, Some(length)) => *length,
            (Operation::Ablate | Operation::Null, Some(_)) => 1.0,
        }
    }

    /// What a [`dose`](super::dose) of that vector divides by at each row of the residual before it: the residual's length, and
    /// where something is taken out, that over |u·h|. `residual (R, H)` → `(R,)`
    pub(crate) fn dose_divisors(&self, residual: &Tensor) -> Result<Vec<f32>> {
        let norms = row_norms(residual)?;
        match self.vectors.first().filter(|_| self.operation != Operation::Add) {
            None => Ok(norms),
            Some((_, u)) => {
                let u = u.to_device(residual.device())?;
                let along: Vec<f32> = self.along(&residual.to_dtype(DType::F32)?, &u)?.flatten_all()?.to_vec1()?;
                let divisor = |(norm, along): (f32, f32)| if along == 0.0 { f32::INFINITY } else { norm / along.abs() };
                Ok(norms.into_iter().zip(along).map(divisor).collect())
            }
        }
    }

    /// The vector of a layer, where it has one. `(1, H)` f32
    pub(crate) fn at(&self, layer: usize) -> Option<&Tensor> {
        self.vectors().find_map(|(steered, v)| (steered == layer).then_some(v))
    }

    /// Each layer with its vector, ascending. `(1, H)` f32 each
    pub fn vectors(&self) -> impl Iterator<Item = (usize, &Tensor)> {
        self.vectors.iter().map(|(layer, v)| (*layer, v))
    }

    /// What each row's vectors are multiplied with: the row's own factor in `rows (R, 1)` f32, 0 where it is not steered, times
    /// the factor of all. → `(R, 1)` f32
    pub fn factors(&self, rows: &Tensor) -> Result<Tensor> {
        match self.factor {
            1.0 => Ok(rows.clone()),
            factor => Ok((rows * f64::from(factor))?),
        }
    }

    /// Steers `residual (R, H)` with the vector `v (1, H)` of its layer and `factors (R, 1)` from [`Steering::factors`]. The
    /// sum is taken in f32 and rounded once, to the residual's dtype.
    ///
    /// A factor is multiplied with the vector before anything is added, so that it does not matter to a bit whether a row is
    /// steered with factor 1 by m·v or with factor m by v: 1·m, 0·m and 1·v are exact. A row with factor 0 keeps its bits.
    ///
    /// Vector and factors are brought to the residual where they lie on another device.
    pub fn apply(&self, residual: &Tensor, v: &Tensor, factors: &Tensor) -> Result<Tensor> {
        let (v, factors) = (&v.to_device(residual.device())?, &factors.to_device(residual.device())?);
        let h = residual.to_dtype(DType::F32)?;
        let steered = match self.operation {
            Operation::Add => (h + factors.matmul(v)?)?,
            Operation::Ablate | Operation::Null => {
                let taken_out = (self.along(&h, v)? * factors)?; // (R, 1)
                (h - taken_out.matmul(v)?)?
            }
        };
        Ok(steered.to_dtype(residual.dtype())?)
    }

    /// The gradients at what [`Steering::apply`] was given, from `dy (R, H)`, that of its result. `rows (R, 1)` are the rows' own
    /// factors, and `residual` is what was steered. → `(1, H)` f32 at the vector of the layer that is `index`-th of all, over the
    /// factor of all, and `(R, H)` at the residual
    pub(crate) fn vjp(&self, index: usize, rows: &Tensor, residual: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = &rows.to_device(dy.device())?;
        let dy32 = dy.to_dtype(DType::F32)?;
        if self.operation == Operation::Add {
            return Ok((rows.t()?.matmul(&dy32)?, dy.clone()));
        }
        let (u, length) = (&self.vectors[index].1.to_device(dy.device())?, self.lengths[index]);
        let h = residual.to_dtype(DType::F32)?;
        let along = self.along(&h, u)?;
        let mut slope = products(&dy32, u)?; // (R, 1)
        if self.operation == Operation::Null {
            slope = (slope * along.gt(0f32)?.to_dtype(DType::F32)?)?;
        }
        // At u: −Σ f·(slope·h + along·dy). A change of v along itself does not turn u.
        let (by_h, by_dy) = ((rows * &slope)?.t()?.matmul(&h)?, (rows * along)?.t()?.matmul(&dy32)?);
        let du = (by_h + by_dy)?.neg()?; // (1, H)
        let turning = (&du - products(&du, u)?.matmul(u)?)?;
        let dv = (turning * if length > 0.0 { 1.0 / length } else { 0.0 })?;
        let dh = (dy32 - (self.factors(rows)? * slope)?.matmul(u)?)?.to_dtype(dy.dtype())?;
        Ok((dv, dh))
    }

    /// How far each row of `h (R, H)` reaches along `u (1, H)`. → `(R, 1)`
    fn along(&self, h: &Tensor, u: &Tensor) -> Result<Tensor> {
        let along = products(h, u)?;
        Ok(if self.operation == Operation::Null { along.relu()? } else { along })
    }
}

/// The product of each row of `x (R, H)` with `u (1, H)`, whose bits do not depend on the other rows. → `(R, 1)`
fn products(x: &Tensor, u: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_mul(u)?.sum_keepdim(1)?)
}

/// v/‖v‖; zeros stay zeros.
fn unit(v: &[f32]) -> Vec<f32> {
    let length = l2_norm(v);
    v.iter().map(|x| if length > 0.0 { (f64::from(*x) / length) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
