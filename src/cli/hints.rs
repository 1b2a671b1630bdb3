//! Flags and commands that help with an error or a note of the library. Its messages state facts; which flag changes them is said
//! here, and put behind the message.

use std::io::ErrorKind;

use bipo::Error;
use bipo::hub::presets;
use bipo::train::checkpoint;

/// What a message of the library says, and what goes on from there. The first that fits is taken.
const HINTS: [(&str, &str); 36] = [
    ("mend the row, or have it skipped", " (without --strict)"),
    ("multiple-choice questions, which are for an evaluation", " (bipo eval --mc, bipo data --mc)"),
    ("prompts, which a model is to answer", " (bipo steer --prompts, bipo eval --prompts)"),
    ("each as text or as a list of messages", ", or --columns question=Q,chosen=A,rejected=B"),
    ("give held-out pairs of their own", " with --eval-dataset"),
    ("takes no system prompt", "; --system-in-user puts it into the first user turn"),
    ("cannot be told apart", ": leave --spans out, or choose another --template"),
    ("of the user out", ": leave --spans out, or choose another --template"),
    ("of the assistant out", ": leave --spans out, or choose another --template"),
    ("cannot be used: ", "; --device cpu needs none"),
    ("the network is off, and the hub's cache does not hold all of it", " (--offline or HF_HUB_OFFLINE is set)"),
    ("only a single one can be moved", ": --layer cannot move several"),
    ("does not say which layer it steers", ": give --layer"),
    ("the vector is for a model of", ": say with --layer where it belongs"),
    ("the device is out of memory", "; lower --batch-size or --max-length, or try --dtype bf16 or --cache host"),
    ("or an alias)", "; `bipo models` lists the aliases"),
    ("is no result of a judge", " for --judge-results"),
    ("are the URL and the model's name right?", " (--judge, --judge-model)"),
    ("but f16 ends at", " (--dtype)"),
    ("its directions begin at block 1", " (bipo export --to, bipo train --layer)"),
    ("takes out all that lies along it: name no magnitude", " (--magnitude, --to)"),
    ("steers every token, but the vector is for", " (--to easysteer)"),
    ("choose another folder, or replace it", " with --overwrite"),
    ("steers it without a change of its weights", " (bipo export --to)"),
    ("its own layer, or learn one at layer", " (--layer, bipo train --layer)"),
    ("the format cannot say that the operation is", " (bipo: --operation)"),
    ("it is a condition, which says when to steer", ": give it to --when, and a vector that steers to --vector"),
    ("unless they are one model, it means little there", "; bipo eval --dataset shows what it does"),
    ("measure them on this model", " with `bipo calibrate`"),
    ("it is a vector that steers, and no condition", ": make one with `bipo train --method condition`"),
    ("bytes of one step cannot be exchanged", " (--batch-size, --layers)"),
    ("keep activations in main memory", " (--cache host)"),
    ("give the cache more memory", " (--cache-memory)"),
    ("the opposite has no words", " (--opposite)"),
    ("whose strength was measured", " (`bipo calibrate --save` with its file alone)"),
    ("but each sees itself alone", ", or with srun --mpi=pmix"),
];

/// What messages say of a part that this program is built without, before the name of cargo's feature.
const FEATURE: &str = "build it with the feature ";

/// The end of the line for this error; `is_f32` says whether the model computes in f32 already.
pub fn hint(error: &Error, is_f32: impl Fn() -> bool) -> Option<String> {
    let message = error.to_string();
    if let Some(hint) = of_message(&message) {
        return Some(hint);
    }
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
    None
}

/// A note of the library, which is no error, with what helps.
pub fn with_hint(note: impl Into<String>) -> String {
    let note = note.into();
    let hint = of_message(&note).unwrap_or_default();
    note + &hint
}

fn of_message(message: &str) -> Option<String> {
    if message.strip_prefix("device ").is_some_and(|rest| rest.contains(": expected ")) {
        return Some(" (--device)".to_owned());
    }
    if let Some((_, rest)) = message.split_once(FEATURE) {
        let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
        let other = if ["cuda", "metal"].contains(&name.as_str()) { ", or use --device cpu" } else { "" };
        return Some(format!(" (--features {name}){other}"));
    }
    HINTS.iter().find(|(fact, _)| message.contains(fact)).map(|(_, hint)| (*hint).to_owned())
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;
