//! Weights of no file: random numbers, for a model whose speed, memory or agreement between devices matters and whose text
//! does not. Activations stay finite at any depth.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::Result;

/// Where random numbers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeOn {
    /// This processor makes them, from this seed: the same on every device and in every dtype, since each has seven significant
    /// bits.
    Host(u64),
    /// The device makes them, in a fraction of the time, other ones each time.
    Device,
}

/// A tensor of this name and shape: matrices with a standard deviation of about 1/√I, norms near 1, small biases.
pub(super) fn tensor(made_on: MadeOn, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let kind = ParameterKind::of(name, shape);
    let MadeOn::Host(seed) = made_on else {
        let tensor = match kind {
            // f32: no device makes other ones.
            ParameterKind::Matrix { inputs } => Tensor::randn(0f32, 1.0 / (inputs.max(1) as f32).sqrt(), shape, device)?,
            ParameterKind::Norm => Tensor::ones(shape, DType::F32, device)?,
            ParameterKind::Bias => Tensor::zeros(shape, DType::F32, device)?,
        };
        return Ok(tensor.to_dtype(dtype)?);
    };
    let key = name.bytes().fold(seed, |key, byte| mixed(key ^ u64::from(byte)));
    let number = |index: u64| {
        let whole = (mixed(key.wrapping_add(index)) >> 57) as f32 - 64.0; // −64..=63, deviation 37
        match kind {
            // A power of two near 1/37√I: the whole number keeps its bits.
            ParameterKind::Matrix { inputs } => whole * 2f32.powi(-6 - (inputs.max(1).ilog2() / 2) as i32),
            // Above 1, bf16 has steps of 1/128.
            ParameterKind::Norm => 1.0 + (whole / 4.0).round() / 128.0,
            ParameterKind::Bias => whole / 1024.0,
        }
    };
    let numbers: Vec<f32> = (0..shape.iter().product::<usize>() as u64).into_par_iter().map(number).collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParameterKind {
    Matrix { inputs: usize },
    Norm,
    Bias,
}

impl ParameterKind {
    fn of(name: &str, shape: &[usize]) -> Self {
        match shape {
            [_, inputs] => Self::Matrix { inputs: *inputs },
            _ if name.ends_with(".bias") => Self::Bias,
            _ => Self::Norm,
        }
    }
}

/// One round of splitmix64.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
