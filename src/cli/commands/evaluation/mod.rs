//! What `bipo eval` is made of: what is measured on, what is measured, what is written as it comes, and the settings that the
//! numbers depend on. The command puts them together.
//!
//! Begin with `inputs`, then `subjects`: the order in which `eval` uses the files.

pub mod inputs;
pub mod page;
pub mod settings;
pub mod subjects;
pub mod writer;
