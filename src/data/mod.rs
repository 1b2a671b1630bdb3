//! Data sets: preference pairs and multiple-choice questions from files, from the hub, and from the sets that bipo bundles.
//! Text stays as the file has it: this room applies no chat template and makes no tokens.
//!
//! Begin with [`Source::parse`], which says where a set comes from, and [`load()`], which reads it. Files become tables of
//! records (`format`), and records become pairs (`rows`).

mod bundled;
mod conversation;
mod csv;
mod format;
mod hub_files;
mod json;
mod load;
mod pages;
mod pair;
mod parquet;
mod published;
mod questions;
mod rows;
mod source;
mod table;
mod truthfulqa;

pub use bundled::{Bundled, bundled};
pub use load::{Dataset, LoadOptions, load};
pub use pair::{Pair, Skipped, TruthfulPairs};
pub use published::{Published, published};
pub use questions::{Key, Question, QuestionSet, load_questions};
pub use source::{DEFAULT_DATASET, Source};
