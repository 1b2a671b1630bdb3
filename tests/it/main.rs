//! The integration tests, one binary.

mod architectures;
mod baselines;
mod card;
mod cli;
mod common;
mod convert;
mod eval;
mod golden_tokens;
mod golden_training;
mod inspect;
mod judge;
mod merge;
mod quantised;
mod report;
mod resume;
