//! The machine that bipo runs on: its devices, its memory, its files. Knows nothing of models.
//!
//! Begin with [`device`], which opens what `--device` names; [`bytes`] counts memory, [`files`] reads and writes so that a failure
//! leaves nothing half written.

pub mod bytes;
pub mod device;
pub mod files;
pub(crate) mod panics;
