//! The machine that bipo runs on: its processor, its devices, its memory and its files. This room knows nothing of models.
//!
//! Begin with [`device`], which opens the device that `--device` names. [`bytes`] measures memory; [`files`] reads and writes
//! files so that a failure leaves nothing half written, and [`lines`] those that grow. [`launch`] knows whether a process is one of
//! several. `error` has the only error type of the library.

pub mod bytes;
pub mod cpu;
pub mod device;
pub(crate) mod error;
pub mod files;
pub mod launch;
pub mod lines;
pub(crate) mod panics;
