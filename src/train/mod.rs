//! Learning vectors: what never changes is computed once a pair, then each step changes v alone. The room learns one vector a
//! layer, searches the layer, takes the mean difference as a baseline, finds the condition of prompts, and keeps a run's state
//! on disk. It does not read data, decode text, measure what a vector does or print anything.
//!
//! Begin with [`plan`] and [`train`] in `trainer`, the loop; then `activations` (what is computed once), `batch` (a pass and its
//! gradient) and [`objective`] (what is minimised).

pub mod activations;
pub mod batch;
pub mod caa;
pub mod checkpoint;
pub mod collective;
pub mod condition;
mod config;
pub mod layer_search;
mod method;
pub mod objective;
mod observer;
pub mod optim;
mod records;
pub(crate) mod responses;
pub mod share;
mod state;
mod trainer;

pub use config::{Direction, FACTOR_LR, FACTOR_SCALE, Factor, LARGE_LR, LEARNED_START, ObjectiveName, TrainConfig};
pub use method::Method;
pub use observer::{Moment, Observer};
pub use records::{EpochRecord, Heldout, Outcome, StepRecord, Timings};
pub use state::TrainState;
pub use trainer::{Cached, Trainer, cache, learn, plan, train, train_cached};
