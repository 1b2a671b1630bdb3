//! Where a run keeps the activations that never change: on the model's device or in main memory. A choice of the user, which the
//! memory account and the cache of `train` both read.

use strum::{EnumString, VariantNames};

/// The place of the activation cache. What a run computes does not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum CachePlace {
    /// The device where it has room, else main memory.
    #[default]
    Auto,
    /// The model's device; on the CPU that is main memory, whatever the limit.
    Device,
    /// Main memory up to the limit, then a file; each batch is brought to the device.
    Host,
}
