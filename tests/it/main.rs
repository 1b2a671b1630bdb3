//! The integration tests, one binary.

mod architectures;
mod cli;
mod common;
mod convert;
mod golden_tokens;
mod golden_training;
