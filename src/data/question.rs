//! A multiple-choice question, and which of its answers are right.

/// A question with the answers whose log-probabilities are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// 0-based row of the file; the two orders of an A/B item share their row.
    pub row: usize,
    /// User message.
    pub prompt: String,
    /// Possible beginnings of the assistant's reply.
    pub answers: Vec<String>,
    /// The right answers.
    pub key: Key,
}

/// Right and wrong answers, as indices into a question's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A question of TruthfulQA: MC1 compares the best answer with the false ones, MC2 all true answers with all false ones.
    Truthful {
        /// True answer of MC1.
        best: usize,
        /// False answers of MC1.
        mc1_wrong: Vec<usize>,
        /// True answers of MC2.
        mc2_right: Vec<usize>,
        /// False answers of MC2.
        mc2_wrong: Vec<usize>,
    },
    /// An item with two answers, of which one shows the behaviour: the letters of two options, in one of their two orders, or
    /// two texts such as `Yes` and `No`.
    Letters {
        /// Index of the answer that shows the behaviour, 0 or 1.
        matching: usize,
    },
    /// A question with lettered options, one of which is right; the answers are the letters.
    Options {
        /// Index of the right option.
        right: usize,
    },
    /// A question with options, one of which is right; the answers are the options' texts.
    Texts {
        /// Index of the right option.
        right: usize,
    },
}

/// How the options of a question are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum AnswerForm {
    /// Options are compared by their texts if they are the endings of a text, else by their letters.
    #[default]
    Auto,
    /// The prompt lists the options, and the answers are their letters.
    Letter,
    /// The prompt does not list the options, and the answers are their texts.
    Text,
}
