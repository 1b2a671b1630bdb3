//! Whether a device computes what the CPU computes ([`agreement`]), and how fast it is beside its own best matrix product
//! ([`bench`]). Trains and generates through the rooms below; has no numerics of its own.

pub mod agreement;
pub mod bench;
