//! Steering as it happens: vectors enter the residual stream after their layers, and each row has a factor of its own. Training,
//! decoding and evaluation all change residuals here and nowhere else. No block is run here.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::dose::l2_norm;
use crate::Result;

/// How a vector enters the residual stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Operation {
    /// residual ← residual + factor · v
    #[default]
    Add,
}

/// Which vectors enter the residual stream, after which layers, by which operation, with which factor on all of them.
#[derive(Debug, Clone)]
pub struct Steering {
    operation: Operation,
    /// Layers ascend. `(1, H)` f32 each
    vectors: Vec<(usize, Tensor)>,
    factor: f32,
    /// Length of the vector of the lowest layer; 0 without one.
    lowest_norm: f64,
}

impl Steering {
    /// Adds the vector `(H)` of each layer to the output of that layer, once.
    ///
    /// # Errors
    /// The device has no memory for the vectors.
    pub fn new(vectors: &BTreeMap<usize, Vec<f32>>, device: &Device) -> Result<Self> {
        let on_device = |(layer, v): (&usize, &Vec<f32>)| -> Result<(usize, Tensor)> {
            Ok((*layer, Tensor::from_slice(v, (1, v.len()), device)?))
        };
        let lowest_norm = vectors.values().next().map_or(0.0, |v| l2_norm(v));
        let vectors = vectors.iter().map(on_device).collect::<Result<_>>()?;
        Ok(Self { operation: Operation::Add, vectors, factor: 1.0, lowest_norm })
    }

    /// The same vectors with `factor` in place of their factor: a magnitude, or the direction of a training step.
    pub fn with_factor(&self, factor: f32) -> Self {
        Self { factor, ..self.clone() }
    }

    /// The lowest steered layer; none without a vector.
    pub fn lowest(&self) -> Option<usize> {
        self.vectors.first().map(|(layer, _)| *layer)
    }

    /// Length of the lowest layer's vector, before any factor; 0 without a vector.
    pub fn lowest_norm(&self) -> f64 {
        self.lowest_norm
    }

    /// The vector of a layer, where it has one. `(1, H)` f32
    pub fn at(&self, layer: usize) -> Option<&Tensor> {
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
    pub fn apply(&self, residual: &Tensor, v: &Tensor, factors: &Tensor) -> Result<Tensor> {
        match self.operation {
            Operation::Add => {
                let added = factors.matmul(v)?; // (R, H)
                Ok((residual.to_dtype(DType::F32)? + added)?.to_dtype(residual.dtype())?)
            }
        }
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
