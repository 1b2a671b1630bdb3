//! The device that a model runs on: how it is opened by name, what it is called, and how much memory it has. The rest of the
//! library uses candle's `Device` directly.

use std::fmt;

use candle_core::Device;

use crate::machine::bytes::Bytes;
use crate::{Error, Result};

/// Compute capability that build.rs compiles the kernels' PTX for.
#[cfg(feature = "cuda")]
const OLDEST: (i32, i32) = (8, 0);

/// Opens the one device of this name: `auto`, `cpu`, `cuda[:N]` or `metal`. `auto` is the kind of device that this program is
/// built for.
///
/// # Errors
/// As [`open_all`], or the name is that of several.
pub fn open(name: &str) -> Result<Device> {
    match open_all(name)?.as_slice() {
        [device] => Ok(device.clone()),
        devices => Err(Error::Argument(format!("device {name}: expected one device, found {}", devices.len()))),
    }
}

/// Opens the devices of this name, which have a model's blocks between them: one, as [`open`] does, or those of [`names`].
///
/// # Errors
/// The name is unknown, or a device cannot be used. No other device is used in its place.
pub fn open_all(name: &str) -> Result<Vec<Device>> {
    let open_one = |DeviceName { kind, number }: DeviceName| match kind {
        "cuda" => cuda(number),
        "metal" => metal(number),
        _ => Ok(Device::Cpu),
    };
    names(name)?.into_iter().map(open_one).collect()
}

/// A device by its kind and its number among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    /// `cpu`, `cuda` or `metal`.
    pub kind: &'static str,
    /// 0 for the first.
    pub number: usize,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.number)
    }
}

/// The devices that a name stands for, none of which is opened: one, or several by their numbers, such as `cuda:0,1` or
/// `cuda:all`. A number may stand twice: so many stages then share the device. `cpu:0,1` is two stages on the CPU.
///
/// # Errors
/// The name is unknown.
pub fn names(name: &str) -> Result<Vec<DeviceName>> {
    let (kind, list) = match name.split_once(':') {
        Some((kind, list)) => (kind, Some(list)),
        None => (name, None),
    };
    let kind = match kind {
        "cpu" => "cpu",
        "cuda" => "cuda",
        "metal" => "metal",
        "auto" if list.is_none() && cfg!(feature = "cuda") => "cuda",
        "auto" if list.is_none() && cfg!(feature = "metal") => "metal",
        "auto" if list.is_none() => "cpu",
        _ => {
            let expected = "expected auto, cpu, cuda[:N], cuda:N,N,..., cuda:all or metal";
            return Err(Error::Argument(format!("device {name}: {expected}")));
        }
    };
    let numbers: Option<Vec<usize>> = match list {
        None => Some(vec![0]),
        Some("all") if kind == "cuda" => Some((0..gpus().len().max(1)).collect()),
        Some(list) => list.split(',').map(|number| number.parse().ok()).collect(),
    };
    match numbers {
        Some(numbers) => Ok(numbers.into_iter().map(|number| DeviceName { kind, number }).collect()),
        None => {
            let expected = format!("expected {kind}:N with a number N, or several such as {kind}:0,1");
            Err(Error::Argument(format!("device {name}: {expected}")))
        }
    }
}

fn cuda(ordinal: usize) -> Result<Device> {
    if !cfg!(feature = "cuda") {
        return Err(Error::Argument("this bipo is built for the CPU: build it with the feature cuda".into()));
    }
    let unusable = |error: candle_core::Error| {
        let reason = crate::machine::error::reason(&error);
        Error::Argument(format!(
            "cuda:{ordinal} cannot be used: no GPU, or no driver as new as this bipo's CUDA ({reason}); see what nvidia-smi \
             says"
        ))
    };
    let device = Device::new_cuda(ordinal).map_err(unusable)?;
    #[cfg(feature = "cuda")]
    check_capability(&device, ordinal)?;
    Ok(device)
}

/// Refuses a GPU that is too old for the kernels. The driver would report this only after a model is loaded, and less clearly.
#[cfg(feature = "cuda")]
fn check_capability(device: &Device, ordinal: usize) -> Result<()> {
    let capability = device.as_cuda_device()?.cuda_stream().context().compute_capability();
    match capability {
        Ok(capability) if capability < OLDEST => Err(Error::Argument(format!(
            "cuda:{ordinal} cannot be used: {}, and bipo's kernels need {}.{} or later",
            describe(device),
            OLDEST.0,
            OLDEST.1
        ))),
        _ => Ok(()),
    }
}

fn metal(ordinal: usize) -> Result<Device> {
    if !cfg!(feature = "metal") {
        return Err(Error::Argument("this bipo is built without Metal: build it with the feature metal".into()));
    }
    Device::new_metal(ordinal).map_err(|e| Error::Argument(format!("metal cannot be used: {e}")))
}

/// Returns the names of this machine's GPUs that this program is built for, as [`open`] takes them.
pub fn gpus() -> Vec<String> {
    #[cfg(feature = "cuda")]
    if let Ok(count) = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count() {
        return (0..count).map(|ordinal| format!("cuda:{ordinal}")).collect();
    }
    if cfg!(feature = "metal") { vec!["metal".to_owned()] } else { Vec::new() }
}

/// Returns the device, as [`open`] takes it, of one of the processes that share this machine and its `gpus`, by its number among
/// them. A launcher can show each process one GPU alone: that one is its own.
pub fn of_local_rank(rank: usize, gpus: &[String]) -> String {
    gpus.get(rank % gpus.len().max(1)).cloned().unwrap_or_else(|| "auto".to_owned())
}

/// Returns the version of NVIDIA's driver; `None` if the system is not Linux, or has none.
pub fn nvidia_driver() -> Option<String> {
    nvidia_version(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// Finds the number behind the words, as in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27`.
fn nvidia_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// Memory of a device that has its own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Memory that any process can still take.
    pub free: Bytes,
    /// Total memory of the device.
    pub total: Bytes,
}

/// Returns the device's memory at this moment; `None` for the CPU and for devices that do not report their memory.
pub fn memory(device: &Device) -> Option<DeviceMemory> {
    #[cfg(feature = "cuda")]
    if let Ok(cuda) = device.as_cuda_device() {
        let (free, total) = cuda.cuda_stream().context().mem_get_info().ok()?;
        return Some(DeviceMemory { free: Bytes(free as u64), total: Bytes(total as u64) });
    }
    let _ = device;
    None
}

/// Describes a device: a GPU by its name and compute capability, the CPU by its number of threads.
pub fn describe(device: &Device) -> String {
    #[cfg(feature = "cuda")]
    if let Ok(cuda) = device.as_cuda_device() {
        let stream = cuda.cuda_stream();
        let name = stream.context().name().unwrap_or_else(|_| "unnamed GPU".into());
        return match stream.context().compute_capability() {
            Ok((major, minor)) => format!("{name}, compute capability {major}.{minor}"),
            Err(_) => name,
        };
    }
    match device {
        Device::Cpu => format!("cpu, {} threads", rayon::current_num_threads()),
        other => format!("{:?}", other.location()).to_lowercase(),
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
