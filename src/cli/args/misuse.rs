//! What a wrong command line is answered: clap's message in one line, with a tip of our own where clap knows none. Many programs
//! call the magnitude and other settings otherwise, and a flag can stand before the command that it belongs to.

use std::ffi::OsString;

use bipo::hub::presets;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error};

use super::{Cli, one_line};

/// What other programs call the magnitude.
const MAGNITUDE: [&str; 9] =
    ["alpha", "strength", "coeff", "coef", "coefficient", "scale", "multiplier", "magnitude", "factor"];

/// What other programs call a flag, and its name here.
pub(super) const SYNONYMS: [(&str, &str); 12] = [
    ("learning-rate", "lr"),
    ("rate", "lr"),
    ("temp", "temperature"),
    ("question", "prompt"),
    ("questions", "prompts"),
    ("data", "dataset"),
    ("steps", "max-steps"),
    ("max-tokens", "max-new-tokens"),
    ("batch", "batch-size"),
    ("wd", "weight-decay"),
    ("block", "layer"),
    ("gpu", "device"),
];

/// What is done with a vector, for whoever takes it for a command.
const WITH_A_VECTOR: &str =
    "bipo inspect FILE shows what a vector's file holds, and bipo steer --vector FILE --prompt TEXT steers by it";

/// The line that tells what is wrong and what would be right; `words` are those behind the program's name.
pub(super) fn told(error: &Error, words: &[OsString]) -> String {
    let message = error.to_string();
    match tip(error, words) {
        Some(tip) => {
            format!("{}; tip: {tip} (see --help)", message.lines().next().unwrap_or_default().trim_start_matches("error: "))
        }
        None => one_line(&message),
    }
}

fn tip(error: &Error, words: &[OsString]) -> Option<String> {
    let program = Cli::command();
    match (error.kind(), error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag)), _) => {
            let command = words.first().and_then(|word| program.find_subcommand(word));
            unknown_flag(&program, command, flag.strip_prefix("--")?, words)
        }
        (ErrorKind::InvalidSubcommand, _, Some(ContextValue::String(name)))
            if ["vector", "vectors"].contains(&name.as_str()) =>
        {
            Some(WITH_A_VECTOR.to_owned())
        }
        (ErrorKind::InvalidSubcommand, ..) if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
            Some(format!("the commands are {}", names.join(", ")))
        }
        _ => None,
    }
}

fn unknown_flag(program: &Command, command: Option<&Command>, flag: &str, words: &[OsString]) -> Option<String> {
    let has = |command: &&Command, flag: &str| flags(command).any(|known| known == flag);
    let is_of_training = flag == "factor" && command.is_some_and(|command| has(&command, "factors"));
    if MAGNITUDE.contains(&flag) && !is_of_training {
        return Some(match command {
            Some(command) if has(&command, "magnitudes") => {
                "the factor on the vector is --magnitudes, a list such as --magnitudes -2,0,2".to_owned()
            }
            Some(command) if has(&command, "magnitude") => "the factor on the vector is --magnitude".to_owned(),
            _ => "the factor on the vector is chosen where it steers: bipo steer --magnitudes -2,0,2".to_owned(),
        });
    }
    if let Some(command) = command {
        return similar_flag(command, flag).map(|similar| format!("a similar argument exists: '--{similar}'"));
    }
    let usual = program.find_subcommand("steer").into_iter();
    let owner = usual.chain(program.get_subcommands()).find(|command| has(command, flag))?.get_name();
    let model = value_of(words, "--vector").and_then(|value| presets::find(&value)).map(|preset| preset.alias);
    Some(match (flag, model) {
        ("vector", Some(model)) => {
            format!("a command comes first, and {model} is a model: bipo steer --model {model} --vector FILE")
        }
        ("vector", None) => "a command comes first: bipo steer --vector FILE --magnitudes -2,0,2".to_owned(),
        (flag, _) => format!("a command comes first, as in bipo {owner} --{flag}"),
    })
}

/// Names of the flags that a command shows in its help.
fn flags(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(Arg::get_long)
}

/// The flag that is called otherwise elsewhere, or that is mistyped: one letter in four may be wrong.
fn similar_flag<'a>(command: &'a Command, flag: &str) -> Option<&'a str> {
    let synonym = SYNONYMS.into_iter().find(|(other, _)| *other == flag).map(|(_, name)| name);
    if let Some(name) = flags(command).find(|name| Some(*name) == synonym) {
        return Some(name);
    }
    let distance = |name: &str| strsim::damerau_levenshtein(flag, name);
    flags(command).min_by_key(|name| distance(name)).filter(|name| 4 * distance(name) <= flag.len())
}

/// The value of a flag: what stands behind its equals sign, or else the next word.
fn value_of(words: &[OsString], flag: &str) -> Option<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let at = words.iter().position(|word| word.split('=').next() == Some(flag))?;
    let value = words[at].split_once('=').map(|(_, value)| value).or_else(|| words.get(at + 1).copied());
    value.map(str::to_owned)
}
