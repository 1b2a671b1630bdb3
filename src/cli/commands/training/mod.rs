//! What the commands that train share: their settings, what they continue from, their output directory and its files, and what
//! they say. It neither reads data nor opens a model: that is `run`'s.
//!
//! Begin with `output_dir` and `observer`: where a run writes, and when.

pub mod init;
pub mod metrics;
pub mod observer;
pub mod outcome;
pub mod output_dir;
pub mod run_files;
pub mod settings;
pub mod test_generation;

/// The question of a first try with a new vector.
pub const TEST_PROMPT: &str = "How was your day?";
