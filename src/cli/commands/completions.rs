//! `bipo completions`: the script by which a shell completes commands, flags and values, made from the flags themselves.

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::next;
use crate::args::{Cli, CompletionsArgs};
use crate::terminal::{self, Log};

/// Words that a shell completes for flags that take other values, too, so that they are no list to the parser.
const WORDS: [(&str, &[&str]); 2] =
    [("device", &["auto", "cpu", "cuda", "metal"]), ("positions", &["all", "prompt", "response", "last"])];

pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut cli = Cli::command().mut_subcommands(with_words);
    clap_complete::generate(args.shell, &mut cli, "bipo", &mut script);
    terminal::result(&String::from_utf8(script)?)?;
    // A script that goes to a file or to the shell is where it belongs.
    if let Some((file, command)) = start(args.shell).filter(|_| terminal::is_read_by_a_person()) {
        next::tell(false, &format!("to have it in every shell, put this into {file}"), command, Log::new(false, false));
    }
    Ok(())
}

/// The file that a shell reads when it starts, and the line in it that loads the script.
fn start(shell: Shell) -> Option<(&'static str, &'static str)> {
    match shell {
        Shell::Bash => Some(("~/.bashrc", "source <(bipo completions bash)")),
        Shell::Zsh => Some(("~/.zshrc, below compinit", "source <(bipo completions zsh)")),
        Shell::Fish => Some(("~/.config/fish/config.fish", "bipo completions fish | source")),
        Shell::Elvish => Some(("~/.config/elvish/rc.elv", "eval (bipo completions elvish | slurp)")),
        Shell::PowerShell => Some(("$PROFILE", "bipo completions powershell | Out-String | Invoke-Expression")),
        _ => None,
    }
}

fn with_words(command: Command) -> Command {
    let has = |command: &Command, flag: &str| command.get_arguments().any(|argument| argument.get_id() == flag);
    WORDS.iter().fold(command, |command, (flag, words)| match has(&command, flag) {
        true => command.mut_arg(flag, |argument| argument.value_parser(PossibleValuesParser::new(*words))),
        false => command,
    })
}

#[cfg(test)]
#[path = "completions_tests.rs"]
mod tests;
