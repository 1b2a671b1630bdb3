//! What a wrong command line is answered: clap's message in one line, with a tip of our own where clap knows none. Many programs
//! call the magnitude otherwise, and a flag can stand before the command that it belongs to.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Error};

use super::{Cli, one_line};

/// What other programs call the magnitude.
const MAGNITUDE: [&str; 8] = ["alpha", "strength", "coeff", "coef", "coefficient", "scale", "multiplier", "magnitude"];

/// The line that tells what is wrong and what would be right; `first` is the first word behind the program's name.
pub(super) fn told(error: &Error, first: Option<&OsStr>) -> String {
    let message = error.to_string();
    match tip(error, first) {
        Some(tip) => {
            format!("{}; tip: {tip} (see --help)", message.lines().next().unwrap_or_default().trim_start_matches("error: "))
        }
        None => one_line(&message),
    }
}

fn tip(error: &Error, first: Option<&OsStr>) -> Option<String> {
    let program = Cli::command();
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => {
            let command = first.and_then(|word| program.find_subcommand(word));
            unknown_flag(&program, command, flag.strip_prefix("--")?)
        }
        (ErrorKind::InvalidSubcommand, _) if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
            Some(format!("the commands are {}", names.join(", ")))
        }
        _ => None,
    }
}

fn unknown_flag(program: &Command, command: Option<&Command>, flag: &str) -> Option<String> {
    let has = |command: &&Command, flag: &str| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
    if MAGNITUDE.contains(&flag) {
        return Some(match command {
            Some(command) if has(&command, "magnitudes") => {
                "the factor on the vector is --magnitudes, a list such as --magnitudes -2,0,2".to_owned()
            }
            Some(command) if has(&command, "magnitude") => "the factor on the vector is --magnitude".to_owned(),
            _ => "the factor on the vector is chosen where it steers: bipo steer --magnitudes -2,0,2".to_owned(),
        });
    }
    if command.is_some() {
        return None;
    }
    let usual = program.find_subcommand("steer").into_iter();
    let owner = usual.chain(program.get_subcommands()).find(|command| has(command, flag))?.get_name();
    Some(match flag {
        "vector" => "a command comes first: bipo steer --vector FILE --magnitudes -2,0,2".to_owned(),
        flag => format!("a command comes first, as in bipo {owner} --{flag}"),
    })
}
