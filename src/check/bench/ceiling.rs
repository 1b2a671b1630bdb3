//! The best rate of a matrix product, computed as the model computes its own. The speed of steps is given as a share of it.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::model::Model;
use crate::ops::linear::{Linear, Products};
use crate::ops::weight::{HostWeight, Weight};

/// Returns the floating-point operations per second of the fastest of several products, as a model computes them whose matrices
/// are of `dtype`.
///
/// # Errors
/// A product fails.
pub fn matmul_flops_per_s(model: &Model, dtype: DType, time: Duration) -> Result<f64> {
    let (hidden, inner) = (model.config.hidden_size, model.config.intermediate_size);
    let square = if model.device().is_cpu() { [512, 1024, 1536] } else { [2048, 4096, 8192] };
    let own = [(512, hidden, 2 * inner), (512, inner, hidden)];
    let shapes: Vec<(usize, usize, usize)> = square.into_iter().map(|n| (n, n, n)).chain(own).collect();
    let each = time / shapes.len() as u32;
    let mut best = 0f64;
    for (rows, inner, outputs) in shapes {
        let seconds = product_s(dtype, model.device(), (rows, inner, outputs), each)?;
        best = best.max(2.0 * (rows * inner * outputs) as f64 / seconds);
    }
    Ok(best)
}

/// Returns the seconds that x·Wᵀ takes, the best of several tries. `x (rows, inner)`, `W (outputs, inner)`
fn product_s(dtype: DType, device: &Device, (rows, inner, outputs): (usize, usize, usize), time: Duration) -> Result<f64> {
    let on_host = device.is_cpu();
    let random = |shape: (usize, usize)| Tensor::randn(0f32, 1.0, shape, device);
    let (x, weight) = (random((rows, inner))?, random((outputs, inner))?);
    let (x, weight) = match on_host {
        true => (x, Weight::Host(HostWeight::of_dtype(&weight, dtype)?)),
        false => (x.to_dtype(dtype)?, weight.to_dtype(dtype)?.into()),
    };
    let linear = Linear { weight, bias: None };
    // A device that works in the background gets several products at a time, so that its queue is never empty.
    let at_a_time = if on_host { 1 } else { 10 };
    let run = || -> Result<f64> {
        let started = Instant::now();
        for _ in 0..at_a_time {
            linear.forward(&x, Products::Fastest)?;
        }
        device.synchronize()?;
        Ok(started.elapsed().as_secs_f64() / f64::from(at_a_time))
    };
    run()?;
    let (begun, mut best) = (Instant::now(), run()?);
    while begun.elapsed() < time {
        best = best.min(run()?);
    }
    Ok(best)
}
