//! Where a run keeps the activations that never change: on the model's device or in main memory. A choice of the user, which the
//! memory account and the cache of `train` both read.

use std::str::FromStr;

use crate::{Error, Result};

/// Where the cache lies. What a run computes does not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachePlace {
    /// On the device where it has room, else in main memory.
    #[default]
    Auto,
    /// On the model's device; on the CPU that is main memory, whatever the limit.
    Device,
    /// In main memory up to the limit, then in a file; each batch is brought to the device.
    Host,
}

impl FromStr for CachePlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "device" => Ok(Self::Device),
            "host" => Ok(Self::Host),
            _ => Err(Error::Argument("expected auto, device or host".into())),
        }
    }
}
