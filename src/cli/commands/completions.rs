//! `bipo completions`: the script by which a shell completes commands, flags and values, made from the flags themselves.

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};

use crate::args::{Cli, CompletionsArgs};
use crate::terminal;

/// Words that a shell completes for flags that take other values, too, so that they are no list to the parser.
const WORDS: [(&str, &[&str]); 2] =
    [("device", &["auto", "cpu", "cuda", "metal"]), ("positions", &["all", "prompt", "response", "last"])];

pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut cli = Cli::command().mut_subcommands(with_words);
    clap_complete::generate(args.shell, &mut cli, "bipo", &mut script);
    Ok(terminal::result(&String::from_utf8(script)?)?)
}

fn with_words(command: Command) -> Command {
    let has = |command: &Command, flag: &str| command.get_arguments().any(|argument| argument.get_id() == flag);
    WORDS.iter().fold(command, |command, (flag, words)| match has(&command, flag) {
        true => command.mut_arg(flag, |argument| argument.value_parser(PossibleValuesParser::new(*words))),
        false => command,
    })
}
