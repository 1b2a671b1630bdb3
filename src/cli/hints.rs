//! Flags and commands that help with an error of the library. Its messages state facts; which flag changes them is said here, and
//! put behind the message.

use std::io::ErrorKind;

use bipo::Error;
use bipo::hub::presets;
use bipo::train::checkpoint;

/// What a message of the library says, and what goes on from there. The first that fits is taken.
const HINTS: [(&str, &str); 18] = [
    ("mend the row, or have it skipped", " (without --strict)"),
    ("multiple-choice questions, which are for an evaluation", " (bipo eval --mc, bipo data --mc)"),
    ("each as text or as a list of messages", ", or --columns question=Q,chosen=A,rejected=B"),
    ("give held-out pairs of their own", " with --eval-dataset"),
    ("takes no system prompt", "; --system-in-user puts it into the first user turn"),
    ("cannot be told apart", ": leave --spans out, or choose another --template"),
    ("of the user out", ": leave --spans out, or choose another --template"),
    ("of the assistant out", ": leave --spans out, or choose another --template"),
    ("build it with --features", ", or use --device cpu"),
    ("cannot be used: ", "; --device cpu needs none"),
    ("the network is off, and the hub's cache does not hold all of it", " (--offline or HF_HUB_OFFLINE is set)"),
    ("only a single one can be moved", ": --layer cannot move several"),
    ("does not say which layer it steers", ": give --layer"),
    ("the vector is for a model of", ": say with --layer where it belongs"),
    ("the device is out of memory", "; lower --batch-size or --max-length, or try --dtype bf16 or --cache host"),
    ("or an alias)", "; `bipo models` lists the aliases"),
    ("is no result of a judge", " for --judge-results"),
    ("are the URL and the model's name right?", " (--judge, --judge-model)"),
];

/// The end of the line for this error; `is_f32` says whether the model computes in f32 already.
pub fn hint(error: &Error, is_f32: impl Fn() -> bool) -> Option<String> {
    match error {
        Error::NotFinite(_) => {
            let dtype = if is_f32() { "" } else { "--dtype f32, " };
            return Some(format!("; try {dtype}a lower --lr (training) or smaller --magnitudes (steering)"));
        }
        Error::Write { path, .. } if path.ends_with(checkpoint::NEWEST) && path.parent().is_some_and(checkpoint::exists) => {
            return Some(" with --resume".to_owned());
        }
        // A GGUF file that has the name of a model was meant as a file.
        Error::Read { path, source } if source.kind() == ErrorKind::NotFound && path.extension() != Some("gguf".as_ref()) => {
            if let Some(model) = path.to_str().and_then(presets::find) {
                let alias = model.alias;
                return Some(format!("; {alias} is a model: name it with --model, and with --vector the file of a vector"));
            }
        }
        _ => {}
    }
    let message = error.to_string();
    if let Some((name, _)) = message.strip_prefix("device ").and_then(|rest| rest.split_once(": expected ")) {
        return Some(format!(", not --device {name}"));
    }
    HINTS.iter().find(|(fact, _)| message.contains(fact)).map(|(_, hint)| (*hint).to_owned())
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;
