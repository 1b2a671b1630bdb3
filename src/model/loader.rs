//! The tensors of one part of a model: named below a prefix, and read in the dtypes and onto the device that the model is
//! loaded with. What a tensor is for is the business of the part that asks for it.

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use super::weights::{WeightStorage, Weights};
use crate::Result;
use crate::ops::gated_mlp::GatedMlp;
use crate::ops::linear::Linear;
use crate::ops::weight::Weight;

/// Reads tensors by their names below `prefix`.
#[derive(Clone)]
pub(super) struct Loader<'a> {
    pub weights: &'a Weights,
    pub config: &'a Config,
    /// Dtype of the matrices, where they are not left as their file has them.
    pub matrices: DType,
    /// Dtype of everything else.
    pub activations: DType,
    pub storage: WeightStorage,
    pub device: &'a Device,
    /// Ends in a full stop where it is not empty.
    pub prefix: String,
}

impl<'a> Loader<'a> {
    /// A loader of the same tensors onto another device.
    pub fn onto(&self, device: &'a Device) -> Self {
        Self { device, ..self.clone() }
    }

    /// The tensors of a part.
    pub fn part(&self, name: &str) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// A loader of the same tensors, with the matrices in f32 on the CPU where they would be multiplied in bf16: small ones
    /// that decide.
    pub fn exact(&self) -> Self {
        let is_bf16 = self.storage == WeightStorage::Dense && self.matrices == DType::BF16;
        Self { matrices: if is_bf16 { DType::F32 } else { self.matrices }, ..self.clone() }
    }

    /// Reads a vector. `(len)`
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        self.weights.load(&format!("{}{name}", self.prefix), &[len], self.config, self.activations, self.device)
    }

    /// Reads a matrix. `(O, I)`
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        let name = format!("{}{name}", self.prefix);
        match self.storage {
            WeightStorage::Tensors => {
                self.weights.load(&name, &shape, self.config, self.matrices, self.device).map(Weight::Tensor)
            }
            storage => self.weights.host_matrix(&name, shape, self.config, self.matrices, storage).map(Weight::Host),
        }
    }

    /// Projections of the same input, each with its name and number of outputs, as one whose outputs follow each other.
    pub fn linear(&self, parts: &[(&str, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        let matrix = |(name, outputs): &(&str, usize)| self.matrix(&format!("{name}.weight"), [*outputs, inputs]);
        let weight = Weight::stack(parts.iter().map(matrix).collect::<Result<_>>()?)?;
        let biases = |(name, outputs): &(&str, usize)| self.vector(&format!("{name}.bias"), *outputs);
        let bias = bias.then(|| parts.iter().map(biases).collect::<Result<Vec<_>>>()).transpose()?;
        Ok(Linear { weight, bias: bias.map(|parts| Tensor::cat(&parts, 0)).transpose()? })
    }

    /// Reads an MLP whose inner width is `inner`.
    pub fn gated_mlp(&self, config: &Config, inner: usize) -> Result<GatedMlp> {
        let (h, bias) = (config.hidden_size, config.architecture.mlp_bias);
        Ok(GatedMlp {
            gate_up_proj: self.linear(&[("gate_proj", inner), ("up_proj", inner)], h, bias)?,
            down_proj: self.linear(&[("down_proj", h)], inner, bias)?,
            activation: config.architecture.activation,
        })
    }
}
