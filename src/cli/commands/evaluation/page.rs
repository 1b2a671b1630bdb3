//! The page of an evaluation: what was measured, how, and the settings in words.

use std::path::Path;

use bipo::eval::{EvalReport, Settings, Subject};
use bipo::report::Page;
use bipo::steering::magnitudes::signed;

use super::inputs::Inputs;
use super::settings::{file_name, operation};
use crate::args::EvalArgs;
use crate::commands::page::command_line;

pub fn page(args: &EvalArgs, title: String, magnitudes: &[f32], settings: Vec<(String, String)>, report: &EvalReport) -> Page {
    let measured_at = match args.at {
        Some(budget) => format!("the largest magnitudes of each vector within {budget}"),
        None => format!("magnitudes {}", list(magnitudes)),
    };
    let subjects = match args.baseline.as_slice() {
        [] => String::new(),
        baselines => format!(", beside {}", baselines.join(", ")),
    };
    Page {
        title,
        summary: format!("Measured at {measured_at}{subjects}."),
        command: command_line(),
        seed: Some(args.seed),
        settings,
        sections: report.sections(),
    }
}

/// How intervals are made.
pub fn intervals(resamples: usize) -> String {
    format!("95 %: Wilson's for shares, else a bootstrap of {resamples} resamples")
}

fn list(magnitudes: &[f32]) -> String {
    magnitudes.iter().map(|magnitude| signed(*magnitude).replace('-', "−")).collect::<Vec<_>>().join(", ")
}

/// What the numbers depend on beside model and vector, in words.
pub fn for_page(args: &EvalArgs, inputs: &Inputs, subjects: &[Subject], settings: &Settings) -> Vec<(String, String)> {
    let questions: Vec<String> =
        inputs.questions.iter().map(|set| format!("{} ({} prompts)", set.name, set.questions.len())).collect();
    let text = args.text.as_deref().map_or(Some("bundled".to_owned()), file_name);
    let all = [
        ("operation", operation(subjects).map(|operation| operation.to_string())),
        ("steered when", args.steering.when.clone()),
        (
            "prompts that need no steering",
            inputs.rest.as_ref().map(|set| format!("{}, {} prompts", set.name, set.prompts.len())),
        ),
        ("held-out pairs", inputs.dataset.as_ref().map(|set| format!("{}, {} pairs", set.name, set.pairs.len()))),
        ("beta", inputs.dataset.as_ref().map(|_| settings.beta.to_string())),
        ("questions", (!questions.is_empty()).then(|| questions.join(", "))),
        ("neutral text", text.filter(|_| !inputs.text.is_empty())),
        ("new tokens", (!inputs.prompts.is_empty()).then(|| format!("at most {}, greedy", args.max_new_tokens))),
        ("baseline's instruction", args.baseline_system.clone()),
        ("judge", args.judge.judge_model.clone().filter(|_| args.judge.judge.is_some())),
        ("rubric", args.judge.rubric.clone().and_then(|rubric| file_name(Path::new(&rubric)))),
        ("intervals", Some(intervals(args.bootstrap))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
