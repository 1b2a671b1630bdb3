//! The table of the shapes that preference data is published in. A shape is a list of roles with the names that the column of
//! each role can have; the first shape whose roles a file has is the file's. A new format is a new line here. How a row becomes
//! pairs is decided in `rows`.

use strum::Display;

/// What a column is to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Role {
    System,
    History,
    Prompt,
    /// What an instruction is about.
    Input,
    Chosen,
    Rejected,
    /// A list of responses that are all worse than the chosen one.
    AllRejected,
    /// One of two responses, of which a verdict says which is the better one.
    First,
    Second,
    Verdict,
    /// The grades of the two.
    FirstGrade,
    SecondGrade,
    /// A list of responses, which are texts, or objects with a text and a grade.
    Ranked,
    /// The grades of a list of texts.
    Grades,
}

/// The one of two responses that a verdict prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShapeMatch {
    /// The verdict ends like the column's name: `model_a` and `A` mean `response_a`, 0 means `response_0`.
    Name,
    /// 1 means the first, 0 the second.
    OneIsFirst,
    /// A negative number means the first, a positive one the second.
    Sign,
}

/// How the responses of a row become pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseShape {
    /// A chosen and a rejected response.
    Two,
    /// A chosen response against each of a list.
    OneAgainstEach,
    /// Two responses and a verdict.
    Judged(ShapeMatch),
    /// Two responses with a grade each.
    Graded,
    /// A list of responses that have a rank or a grade each.
    Ranked,
    /// A list of responses from the best to the worst.
    InOrder,
}

/// A shape: what its rows are called, and the roles that it needs.
#[derive(Debug)]
pub(super) struct RowShape {
    pub name: &'static str,
    pub answers: ResponseShape,
    pub roles: &'static [(Role, &'static [&'static str])],
}

/// Names that the column of a prompt can have in any shape; the first that a file has is used. Those of whole conversations
/// come last.
pub(super) const PROMPT: &[&str] = &[
    "question",
    "prompt",
    "instruction",
    "input",
    "query",
    "conversations",
    "conversation",
    "context",
    "messages",
    "trajectory",
    "history",
];

/// How many of these names a prompt can have beside whole conversations, which the others may be again in another form.
pub(super) const PROMPT_BESIDE_CONVERSATIONS: usize = 3;

/// Columns that any shape can have.
pub(super) const OPTIONAL: &[(Role, &[&str])] =
    &[(Role::System, &["system", "system_prompt"]), (Role::History, &["history"]), (Role::Input, &["input"])];

pub(super) const CHOSEN: &[&str] = &[
    "matching",
    "chosen",
    "chosen_response",
    "preferred_output",
    "preferred",
    "positive",
    "winning_output",
    "pos_answer",
    "answer_matching_behavior",
    "accepted",
    "response_j",
    "output",
];
pub(super) const REJECTED: &[&str] = &[
    "not_matching",
    "rejected",
    "rejected_response",
    "non_preferred_output",
    "dispreferred",
    "negative",
    "losing_output",
    "neg_answer",
    "answer_not_matching_behavior",
    "response_k",
];

/// Columns whose responses continue the text of the prompt, with a space in front of each.
pub(super) const CONTINUES: [&str; 2] = ["answer_matching_behavior", "answer_not_matching_behavior"];

const LISTS: &[&str] = &["answers", "completions", "responses", "generations", "candidates", "all_generated_responses"];
const GRADES: &[&str] = &["ranks", "rank", "scores", "score", "ratings", "rating", "all_rm_scores"];

const JUDGED: &str = "two responses and a verdict";

/// Every shape; a file has the first one that fits.
pub(super) const SHAPES: &[RowShape] = &[
    RowShape {
        name: "a chosen and a rejected response",
        answers: ResponseShape::Two,
        roles: &[(Role::Chosen, CHOSEN), (Role::Rejected, REJECTED)],
    },
    RowShape {
        name: "a best and incorrect answers",
        answers: ResponseShape::OneAgainstEach,
        roles: &[(Role::Chosen, &["best_answer"]), (Role::AllRejected, &["incorrect_answers"])],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Name),
        roles: &[
            (Role::First, &["response_0"]),
            (Role::Second, &["response_1"]),
            (Role::Verdict, &["better_response_id", "preference", "winner"]),
        ],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Name),
        roles: &[(Role::First, &["response_a"]), (Role::Second, &["response_b"]), (Role::Verdict, &["winner", "preference"])],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Name),
        roles: &[(Role::First, &["conversation_a"]), (Role::Second, &["conversation_b"]), (Role::Verdict, &["winner"])],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Name),
        roles: &[(Role::First, &["output_1"]), (Role::Second, &["output_2"]), (Role::Verdict, &["preference"])],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Sign),
        roles: &[
            (Role::First, &["response_1"]),
            (Role::Second, &["response_2"]),
            (Role::Verdict, &["preference_strength", "overall_preference"]),
        ],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::Sign),
        roles: &[
            (Role::First, &["response1"]),
            (Role::Second, &["response2"]),
            (Role::Verdict, &["preference_strength", "overall_preference"]),
        ],
    },
    RowShape {
        name: JUDGED,
        answers: ResponseShape::Judged(ShapeMatch::OneIsFirst),
        roles: &[(Role::First, &["human_ref_a"]), (Role::Second, &["human_ref_b"]), (Role::Verdict, &["labels"])],
    },
    RowShape {
        name: "two graded responses",
        answers: ResponseShape::Graded,
        roles: &[
            (Role::First, &["response_a"]),
            (Role::Second, &["response_b"]),
            (Role::FirstGrade, &["winner_model_a"]),
            (Role::SecondGrade, &["winner_model_b"]),
        ],
    },
    RowShape {
        name: "two graded responses",
        answers: ResponseShape::Graded,
        roles: &[
            (Role::First, &["answer_0", "response_0"]),
            (Role::Second, &["answer_1", "response_1"]),
            (Role::FirstGrade, &["score_0"]),
            (Role::SecondGrade, &["score_1"]),
        ],
    },
    RowShape {
        name: "graded responses",
        answers: ResponseShape::Ranked,
        roles: &[(Role::Ranked, LISTS), (Role::Grades, GRADES)],
    },
    RowShape { name: "ranked responses", answers: ResponseShape::Ranked, roles: &[(Role::Ranked, LISTS)] },
    RowShape {
        name: "responses from the best to the worst",
        answers: ResponseShape::InOrder,
        roles: &[(Role::Ranked, &["output"])],
    },
];

/// Data that has no pairs: columns, of which each group has one, and what such rows are called.
pub(super) const OTHER_DATA: &[(&[&[&str]], &str)] = &[
    (
        &[&["choices", "options", "endings", "a"], &["answer", "answerkey", "label", "answer_index", "matching"]],
        "multiple-choice questions, which are for an evaluation",
    ),
    (&[ANSWER, &["label", "kto_tag"]], "answers that are judged one by one"),
    (&[ANSWER, &["helpfulness", "score", "rating", "reward", "overall_score"]], "one graded answer a row"),
    (&[&["question", "problem"], &["answer", "answers", "solution"]], "questions with one right answer (a benchmark)"),
    (&[&["prompt", "instruction", "input", "question", "query", "messages"], ANSWER], "one answer a row (instruction data)"),
    (&[&["messages", "conversations", "conversation", "transcript"]], "one conversation a row (instruction data)"),
    (&[&["text", "content", "document"]], "plain text"),
];

const ANSWER: &[&str] = &["output", "response", "completion", "answer", "target"];
