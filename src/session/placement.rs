//! Where and how a model computes, and whether there is memory for it there.

use candle_core::{DType, Device};

use super::demand::{Demand, LowerBlocks, WORKSPACE};
use super::fit::{self, Fit, Shortage};
use super::options::{DTypeChoice, WeightsChoice};
use crate::machine::bytes::{Bytes, available_memory, total_memory};
use crate::machine::device::{self, DeviceMemory};
use crate::model::config::Config;
use crate::model::split::{Split, StageBlocks};
use crate::model::weights::WeightStorage;
use crate::ops::{bf16_gain, product_kernels};
use crate::{Error, Result};

/// Where and how a model computes.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The blocks that each device holds.
    pub split: Split,
    /// Dtype of the weights that are not stored as their file has them, and of what is multiplied with them.
    pub dtype: DType,
    /// How matrices are stored.
    pub storage: WeightStorage,
}

impl Placement {
    /// What the choices come to for a model of this shape.
    ///
    /// # Errors
    /// Matrices as their file has them are asked for on another device than the CPU.
    pub(super) fn new(split: Split, dtype: DTypeChoice, weights: WeightsChoice, config: &Config) -> Result<Self> {
        let device = split.last();
        let dtype = dtype.on(device);
        let storage = match weights {
            WeightsChoice::Quantized if !device.is_cpu() => {
                return Err(Error::Argument("quantized weights need the CPU: other devices multiply dense weights".into()));
            }
            _ if !device.is_cpu() => WeightStorage::Tensors,
            WeightsChoice::Quantized => WeightStorage::Stored,
            WeightsChoice::Dense => WeightStorage::Dense,
            WeightsChoice::Auto => {
                let dense = config.matrix_elements().saturating_mul(dtype.size_in_bytes() as u64);
                match total_memory().is_none_or(|memory| dense <= memory.0 / 2) {
                    true => WeightStorage::Dense,
                    false => WeightStorage::Stored,
                }
            }
        };
        Ok(Self { split, dtype, storage })
    }

    /// Places all blocks of a model of this shape on one device.
    pub fn one(device: Device, dtype: DType, storage: WeightStorage, config: &Config) -> Self {
        Self { split: Split::one(device, config), dtype, storage }
    }

    /// Device of the head; mostly the only one.
    pub fn device(&self) -> &Device {
        self.split.last()
    }

    /// Whether there is memory for a demand beside the weights of a model of this shape, which take `weights` bytes of main
    /// memory where the model computes there. → what each device with its own memory has room for.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn check(&self, config: &Config, weights: Bytes, demand: &Demand) -> Result<Vec<Fit>, Shortage> {
        if self.device().is_cpu() {
            let (weights, free) = (demand.held(config, weights), available_memory());
            let fit = |free| fit::on_host(demand, config, (weights, self.storage), self.activations(), free);
            return free.map_or(Ok(()), fit).map(|()| Vec::new());
        }
        let demands: Vec<(Demand, &StageBlocks)> = self.demands(demand).into_iter().zip(self.split.stages()).collect();
        let fit = |(index, (demand, stage)): (usize, &(Demand, &StageBlocks))| {
            let others = demands
                .iter()
                .enumerate()
                .filter(|(other, (_, at))| *other != index && at.device.location() == stage.device.location());
            let taken: u64 = others.map(|(_, (demand, _))| demand.on_device(config, self.dtype).total().0).sum();
            let memory = device::memory(&stage.device)?;
            let memory = DeviceMemory { free: Bytes(memory.free.0.saturating_sub(taken)), ..memory };
            Some(fit::on_device(demand, config, self.dtype, memory))
        };
        demands.iter().enumerate().filter_map(fit).collect()
    }

    /// Memory that is free where the model computes, of all its devices together; `None` if that is not known.
    pub fn free_memory(&self) -> Option<Bytes> {
        if self.device().is_cpu() {
            return available_memory();
        }
        let mut devices: Vec<&Device> = Vec::new();
        for StageBlocks { device, .. } in self.split.stages() {
            if devices.iter().all(|other| other.location() != device.location()) {
                devices.push(device);
            }
        }
        // A device that does not say shares the machine's.
        let free = devices.into_iter().map(|device| device::memory(device).map(|memory| memory.free.0)).sum::<Option<u64>>();
        free.map(Bytes).or_else(available_memory)
    }

    /// Bytes of a device's memory that a demand takes beside the weights as they are loaded and the activation cache; of several
    /// devices, the most.
    pub fn beside(&self, config: &Config, demand: &Demand) -> Bytes {
        let beside = |demand: Demand| {
            let [made, steps] = demand.phases(config, self.dtype);
            // Blocks that leave make room for what a step takes.
            let room = if demand.lower == LowerBlocks::Leave { made.weights.0 - steps.weights.0 } else { 0 };
            Bytes(steps.beside().0.saturating_sub(room)).max(made.beside())
        };
        self.demands(demand).into_iter().map(beside).max().unwrap_or(WORKSPACE)
    }

    /// What each device takes of a demand.
    fn demands(&self, demand: &Demand) -> Vec<Demand> {
        match self.split.stages() {
            [_] => vec![demand.clone()],
            stages => stages.iter().map(|stage| demand.on_stage(stage.blocks.clone())).collect(),
        }
    }

    /// Dtype of the residual stream: f32 on the CPU, but for tensors.
    pub(super) fn activations(&self) -> DType {
        if self.storage == WeightStorage::Tensors { self.dtype } else { DType::F32 }
    }

    /// Name of the dtype that matrix products take: `f32`, `bf16` or `f16`. Matrices as their file has them are decoded to f32.
    pub fn dtype_name(&self) -> String {
        let dtype = if self.storage == WeightStorage::Stored { DType::F32 } else { self.dtype };
        format!("{dtype:?}").to_lowercase()
    }

    /// How matrices are stored, as the choice is named that asks for it: `dense` or `quantized`.
    pub fn weights_name(&self) -> &'static str {
        if self.storage == WeightStorage::Stored { "quantized" } else { "dense" }
    }

    /// Name of the kernel that multiplies the model's matrices with the activations of many tokens; none but on the CPU.
    pub fn product_kernel(&self) -> Option<&'static str> {
        let [of_f32, of_bf16] = product_kernels();
        let is_bf16 = self.storage == WeightStorage::Dense && self.dtype == DType::BF16;
        self.device().is_cpu().then_some(if is_bf16 { of_bf16 } else { of_f32 })
    }

    /// How many times as many operations a second the processor's instructions multiply in bf16 as in f32, where the model
    /// computes with dense weights in f32 on the CPU and there is such a kernel.
    pub fn gain_of_bf16(&self) -> Option<u32> {
        bf16_gain().filter(|_| self.storage == WeightStorage::Dense && self.dtype == DType::F32)
    }

    /// Kind of the device: `cpu`, `cuda` or `metal`.
    pub fn device_kind(&self) -> &'static str {
        match self.device() {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        }
    }
}
