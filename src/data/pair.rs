//! A contrastive pair, a row that was skipped because it gives none, and what the file around them is.

use super::message::Message;

/// A contrastive pair with its text as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// 0-based row of the data set, counted before rows are skipped. The pairs of one TruthfulQA question share its row.
    pub row: usize,
    /// Conversation up to the response; a plain question is one user message.
    pub prompt: Vec<Message>,
    /// Response that shows the target behaviour.
    pub chosen: String,
    /// Response that shows the opposite behaviour.
    pub rejected: String,
}

/// A row that gives no pair, or fewer pairs than it has answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// 0-based row of the data set.
    pub row: usize,
    /// Reason why the row was skipped, in words such as `the question is empty`.
    pub reason: String,
}

/// What a file of pairs or questions is: its format, its shape, and the roles of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileLayout {
    /// Name of the file's format, such as `CSV`.
    pub format: &'static str,
    /// What its rows hold, such as `ranked responses`.
    pub shape: &'static str,
    /// Columns of the file, and what each is to a pair or a question, such as `chosen`; `None` if it is not used.
    pub columns: Vec<(String, Option<String>)>,
}

/// The incorrect answers of TruthfulQA that are paired with the best answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum TruthfulPairs {
    /// Every incorrect answer, which gives several pairs per question.
    #[default]
    All,
    /// The first incorrect answer, which gives one pair per question.
    First,
}
