//! The `bipo` program: parse, run, print the error chain, exit code.
//!
//! Only this crate knows clap, anyhow and a terminal, and it computes nothing. Begin with [`main`], then `commands`, which has
//! the work of each command, `args`, which has all flags, and `terminal`, which has all output.

mod allocator;
mod args;
mod commands;
mod downloads;
mod hints;
mod terminal;

use std::process::ExitCode;

use bipo::JobFailure;
use bipo::machine::launch::Launch;
use bipo::train::collective::Collective;

fn main() -> ExitCode {
    allocator::keep_freed_pages();
    let parsed = args::parse();
    let collective = match Collective::join() {
        Ok(collective) => collective,
        // All processes that were started together see this.
        Err(_) if Launch::of_this_process().is_some_and(|launch| launch.rank > 0) => return ExitCode::SUCCESS,
        Err(error) => {
            let hint = hints::hint(&error, || false).unwrap_or_default();
            terminal::error(&format!("{error}{hint}"));
            return ExitCode::from(error.exit_code());
        }
    };
    let ended = match parsed {
        Ok(mut cli) => commands::run(&mut cli, &collective).map_err(|error| failure(&error, &cli)),
        Err(line) => Err(Ended::Here(Some(JobFailure { line, exit_code: 2 }))),
    };
    let failure = match ended {
        Ok(()) => collective.end(None),
        Err(Ended::Here(failure)) => collective.end(failure),
        Err(Ended::Everywhere(failure)) => Some(failure),
    };
    let Some(JobFailure { line, exit_code }) = failure else { return ExitCode::SUCCESS };
    if collective.is_first() {
        terminal::error(&line);
    }
    ExitCode::from(exit_code)
}

/// How a command came to its end before it was done.
enum Ended {
    /// This process ended it: other ranks do not know yet. None if that is no failure.
    Here(Option<JobFailure>),
    /// Another rank ended it, or all did: they know.
    Everywhere(JobFailure),
}

fn failure(error: &anyhow::Error, cli: &args::Cli) -> Ended {
    let library_error = error.chain().find_map(|cause| cause.downcast_ref::<bipo::Error>());
    match library_error {
        _ if terminal::is_closed_pipe(error) => Ended::Here(None),
        Some(bipo::Error::Ended(failure)) => Ended::Everywhere(failure.clone()),
        library_error => {
            let is_f32 = || cli.command.model().is_some_and(args::ModelArgs::is_f32);
            let hint = library_error.and_then(|error| hints::hint(error, is_f32));
            let exit_code = library_error.map_or(1, bipo::Error::exit_code);
            Ended::Here(Some(JobFailure { line: terminal::line_of(error, hint.as_deref()), exit_code }))
        }
    }
}
