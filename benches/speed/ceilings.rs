//! What the machine can do, and throughputs as shares of it. In criterion's terms, an element is a floating-point operation,
//! and bytes are the least that an op has to read and write.

use std::fmt;
use std::time::{Duration, Instant};

use bipo::Result;
use bipo::ops::linear::{Linear, Products};
use bipo::ops::product_kernels;
use bipo::ops::weight::{HostWeight, Weight, WeightBytes};
use candle_core::Tensor;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use half::bf16;
use rayon::prelude::*;

use crate::model::{SMOLLM2, random};

/// Best rates of several tries.
#[derive(Debug, Clone, Copy)]
pub struct Ceilings {
    matmul_flops_per_s: f64,
    bf16_flops_per_s: f64,
    copy_bytes_per_s: f64,
}

impl Ceilings {
    /// Measures products of the model's shapes and square ones, and copies of 256 MiB by all threads. Both read and written
    /// bytes count.
    pub fn measure() -> Result<Self> {
        let (hidden, inner) = (SMOLLM2.hidden, SMOLLM2.inner);
        let shapes = [(512, hidden, 2 * inner), (512, inner, hidden), (1024, 1024, 1024), (2048, 2048, 2048)];
        let (mut matmul_flops_per_s, mut bf16_flops_per_s) = (0f64, 0f64);
        for (rows, inner, outputs) in shapes {
            let (x, w) = (random(1, (rows, inner))?, random(2, (outputs, inner))?);
            let linear = dense(w.clone())?;
            let flops = 2.0 * (rows * inner * outputs) as f64;
            let best_s = best_of(5, || drop(linear.forward(&x, Products::Fastest).map(|y| y.dims2())))
                .min(best_of(5, || drop(x.matmul(&w.t().expect("two dimensions")))));
            matmul_flops_per_s = matmul_flops_per_s.max(flops / best_s);
            let halves = w.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes());
            let weight = HostWeight::bf16(WeightBytes::Owned(halves.collect()), inner)?;
            let linear = Linear { weight: Weight::Host(weight), bias: None };
            let best_s = best_of(5, || drop(linear.forward(&x, Products::Fastest).map(|y| y.dims2())));
            bf16_flops_per_s = bf16_flops_per_s.max(flops / best_s);
        }
        let from = vec![1f32; 64 << 20];
        let mut to = vec![0f32; from.len()];
        let chunk = from.len() / rayon::current_num_threads();
        let copy = || to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from));
        let copy_bytes_per_s = (8 * from.len()) as f64 / best_of(5, copy);
        Ok(Self { matmul_flops_per_s, bf16_flops_per_s, copy_bytes_per_s })
    }
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (matmul, bf16) = (self.matmul_flops_per_s * 1e-9, self.bf16_flops_per_s * 1e-9);
        let ([of_f32, of_bf16], copy) = (product_kernels(), self.copy_bytes_per_s * 1e-9);
        write!(
            f,
            "100 %: matrix products {matmul:.0} GFLOP/s by {of_f32} ({bf16:.0} in bf16 by {of_bf16}), copies {copy:.1} GB/s, {} threads",
            rayon::current_num_threads()
        )
    }
}

/// Makes a projection without bias from `weight (O, I)`.
pub fn dense(weight: Tensor) -> Result<Linear> {
    Ok(Linear { weight: Weight::Host(HostWeight::dense(weight)?), bias: None })
}

fn best_of(tries: usize, mut body: impl FnMut()) -> f64 {
    let times = (0..tries).map(|_| {
        let started = Instant::now();
        body();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Wall time as criterion's measurement; throughputs are printed as a rate and a share of the ceiling.
pub struct ShareOfCeiling(pub Ceilings);

impl Measurement for ShareOfCeiling {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, started: Instant) -> Duration {
        WallTime.end(started)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for ShareOfCeiling {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        let seconds = nanoseconds * 1e-9;
        let show = |rate: f64, unit: &str, ceiling: f64| format!("{:.1} {unit}, {:.0} %", rate * 1e-9, 100.0 * rate / ceiling);
        match throughput {
            Throughput::Elements(flops) => show(*flops as f64 / seconds, "GFLOP/s", self.0.matmul_flops_per_s),
            Throughput::Bytes(bytes) => show(*bytes as f64 / seconds, "GB/s", self.0.copy_bytes_per_s),
            _ => WallTime.formatter().format_throughput(throughput, nanoseconds),
        }
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
