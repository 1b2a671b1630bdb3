//! Preference pairs from CSV, JSONL, JSON and Parquet files, published sets and the bundled ones.
//!
//! Begin with [`Source::parse`], which says where a set comes from, and [`load()`], which reads it. Files become tables of records
//! (`format`), records become pairs (`rows`). Text stays as the file has it: chat templates and tokens are not made here.

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
