//! The bodies of the ops for CUDA: launches of our own kernels, `kernels/*.cu`, with the PTX that `build.rs` makes of
//! them. A [`Launcher`] runs a [`Call`]: the driver, or in the tests an emulator that compiles the same sources for the
//! CPU, so that only the driver's calls are never tested without a GPU. Begin with `call`; then `norm` shows what every
//! body looks like.
//!
//! Files import only those above them: `call`, then `driver` and `emulator`; of the bodies `segment_tables`,
//! `linear`, `routing`, then `gated`, `grouped` and the others, at last `experts`.

pub mod attention;
pub mod cache;
mod call;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(test)]
mod emulator;
pub mod experts;
pub mod gated;
mod grouped;
pub mod head;
pub mod linear;
pub mod norm;
pub mod rope;
mod routing;
pub mod rows;
mod segment_tables;
#[cfg(test)]
mod tests;

use candle_core::Device;

pub(crate) use call::{Argument, Call, Element, Launcher, Module};
#[cfg(test)]
pub(crate) use emulator::emulated;
pub use head::PredictionTables;
pub use segment_tables::SegmentTables;

use crate::Result;

/// To be called before a model is loaded on `device`.
///
/// # Errors
/// The driver fails.
pub(crate) fn prepare(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return driver::keep_freed_memory(device);
    }
    let _ = device;
    Ok(())
}

/// What runs kernels on `device`, where something does.
pub(crate) fn launcher(device: &Device) -> Option<&'static dyn Launcher> {
    #[cfg(test)]
    if emulator::is_on() {
        return Some(&emulator::Emulator);
    }
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return Some(&driver::Cuda);
    }
    let _ = device;
    None
}
