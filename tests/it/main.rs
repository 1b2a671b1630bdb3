//! The integration tests, one binary.

mod common;
mod golden_training;
