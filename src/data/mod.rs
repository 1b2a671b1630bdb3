//! Data sets: preference pairs and multiple-choice questions from files, from the hub, and from the sets that bipo bundles.
//! Text stays as the file has it: this room applies no chat template and makes no tokens. [`described`] makes pairs by asking a
//! language model behind an [`endpoint`], whose client `eval::judge` uses too.
//!
//! Begin with [`Source::parse`], which says where a set comes from, and [`load()`], which reads it. Files become tables of
//! records, read one by one (`format`), and records become pairs (`rows`) by the table of known shapes (`shapes`).

mod bundled;
mod concepts;
mod conversation;
mod csv;
pub mod described;
pub mod endpoint;
mod format;
mod hub_files;
mod input;
mod items;
mod json;
mod letters;
mod load;
mod message;
mod numbers;
#[cfg(feature = "parquet")]
mod pages;
mod pair;
#[cfg(feature = "parquet")]
mod parquet;
mod prompts;
mod published;
mod question;
mod questions;
mod ranking;
mod rows;
mod shapes;
mod source;
mod stream;
mod table;
mod truthfulqa;
mod turns;

pub use bundled::{Bundled, bundled};
pub use load::{Dataset, LoadOptions, load};
pub use message::Message;
pub use numbers::last_number;
pub use pair::{FileLayout, Pair, Skipped, TruthfulPairs};
pub use prompts::{PromptSet, PromptWithAnswer, is_prompt_table, load_prompts, prompt_of_row};
pub use published::{Published, PublishedPart, prompt_sets, published};
pub use question::{AnswerForm, Key, Question};
pub use questions::{QuestionSet, load_questions};
pub use ranking::Ranking;
pub use rows::ColumnNames;
pub use source::{DEFAULT_DATASET, Source};
