//! The README of an export: what the folder holds, the commands in their order, how to see that the engine steers, and where it does
//! not work.

use std::fmt::Write as _;

use super::engines::GuideStep;
use super::{Export, ExportTarget, ExportedFile, MAX_TOKENS, PROMPT, files};
use crate::report::shell::quote;
use crate::steering::Operation;
use crate::steering::positions::{Positions, in_words};

/// What is in the README of every export.
pub(super) const SIGNATURE: &str = "Written by `bipo export --to ";

/// The text, of the files beside it.
pub(super) fn text(export: &Export, files: &[ExportedFile]) -> String {
    let engine = export.engine();
    let known = &export.vector.metadata;
    let layers: Vec<String> = export.vector.layers.keys().map(usize::to_string).collect();
    let (vector, blocks) = match layers.as_slice() {
        [layer] => ("A steering vector", format!("the output of block {layer}")),
        layers => ("Steering vectors", format!("the outputs of blocks {}", layers.join(", "))),
    };
    let what = if export.is_taken_out() {
        format!("What lies along the vector is taken out of {blocks} (0-based)")
    } else {
        format!("The vector, times {}, is added to {blocks} (0-based)", export.magnitude)
    };
    let mut out = format!(
        "# {vector} for {}\n\n{SIGNATURE}{}`, bipo {}, for {}. {what}, at {}. {}\n\n",
        export.target,
        export.target,
        env!("CARGO_PKG_VERSION"),
        engine.about,
        if export.told_tokens().is_some() { in_words(known.positions, known.spans) } else { in_words(Positions::All, None) },
        engine.how,
    );
    out += "| file | what it is |\n|---|---|\n";
    if export.target == ExportTarget::VllmMerged {
        out += "| `config.json`, `*.safetensors`, the tokenizer's files | the model with the vector in a bias |\n";
    }
    for file in files {
        let _ = writeln!(out, "| `{}` | {} |", file.name, file.what);
    }
    out += "\n## Run it\n\n";
    for GuideStep { what, command, .. } in engine.steps {
        let _ = writeln!(out, "{what}:\n\n```sh\n{}\n```\n", filled(command, export));
    }
    // lm-eval shows no answers, and bipo has no flag that makes a vector for some messages one for all of them.
    if export.target != ExportTarget::LmEval && (export.told_tokens().is_some() || known.spans.is_none()) {
        let everywhere = if export.told_tokens().is_some() { "" } else { " --positions all" };
        let added = if known.operation == Operation::Add || export.is_taken_out() { "" } else { " --operation add" };
        let _ = write!(
            out,
            "## See that it steers\n\nbipo answers the same prompt, without the vector and with it:\n\n```sh\nbipo steer --model {} --vector \
         VECTOR{everywhere}{added} --magnitudes=0,{} --max-new-tokens {MAX_TOKENS} --prompt {}\n```\n\nThe engine's greedy answer is the second one, up to \
         rounding; one that does not steer gives the first.\n\n",
            quote(export.model),
            export.magnitude,
            quote(PROMPT),
        );
    }
    out += "## Where it does not work\n\n";
    let notes = export.notes();
    let limits = engine.limits.iter().map(|limit| filled(limit, export)).chain(notes.iter().map(|note| sentence(note)));
    for limit in limits {
        let _ = writeln!(out, "- {limit}");
    }
    out
}

/// A text of the table with what it names in braces.
pub(super) fn filled(text: &str, export: &Export) -> String {
    let gguf = if export.model.ends_with(".gguf") { export.model } else { "MODEL.gguf" };
    let values = [
        ("{model}", quote(export.model)),
        ("{gguf}", quote(gguf)),
        ("{served}", files::SERVED.to_owned()),
        ("{algorithm}", files::algorithm(export).to_owned()),
        ("{magnitude}", export.magnitude.to_string()),
        ("{prompt}", quote(PROMPT)),
    ];
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn sentence(note: &str) -> String {
    let mut letters = note.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
