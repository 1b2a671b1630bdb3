//! Checks of a device: whether it computes what the CPU computes ([`agreement`]), and how fast it is compared with its own best
//! matrix product ([`mod@bench`]). This room has no numerics of its own; it uses `train` and `generate`.
//!
//! Begin with [`agreement::tiny_models`].

pub mod agreement;
pub mod bench;
