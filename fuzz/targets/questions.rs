//! Reads multiple-choice questions for `bipo eval`, in CSV, JSON or Parquet as the content decides.
#![no_main]

use bipo::data::{AnswerForm, Key, Source, load_questions};
use bipo::hub::options::FetchOptions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = Source::File(bipo_fuzz::file("input", data));
    let _ = load_questions(&file, Some(2), AnswerForm::Text, &FetchOptions::offline());
    let Ok(set) = load_questions(&file, None, AnswerForm::Auto, &FetchOptions::offline()) else { return };
    for question in &set.questions {
        let named = match &question.key {
            Key::Truthful { best, mc1_wrong, mc2_right, mc2_wrong } => {
                [&[*best], mc1_wrong.as_slice(), mc2_right, mc2_wrong].concat()
            }
            Key::Letters { matching } => vec![*matching],
            Key::Options { right } | Key::Texts { right } => vec![*right],
        };
        assert!(named.iter().all(|answer| *answer < question.answers.len()), "{question:?}");
    }
});
