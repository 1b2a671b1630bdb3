//! The integration tests, one binary.

mod architectures;
mod baselines;
mod bytes;
mod calibrate;
mod card;
mod chat;
// It needs a pseudo-terminal.
#[cfg(unix)]
mod chat_terminal;
mod cli;
mod common;
mod compare;
mod condition;
mod convert;
mod data;
mod device;
mod docs;
mod endpoint;
mod eval;
mod export;
mod families;
// They need Linux: limits of a shell, links, pipes, /proc.
#[cfg(target_os = "linux")]
mod faults;
mod gemma_tokens;
mod golden_gemma3;
mod golden_tokens;
mod golden_training;
mod inspect;
mod judge;
mod machine;
#[cfg(target_os = "linux")]
mod malformed;
mod merge;
mod next;
mod not_finite;
mod pairs;
mod quantised;
mod report;
mod resume;
mod runs;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_auto;
mod sources;
mod stages;
mod stress;
mod templates;
