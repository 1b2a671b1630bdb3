//! The `bipo` program: parse, run, print the error chain, exit code.

mod allocator;
mod args;
mod commands;
mod hints;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::keep_freed_pages();
    match commands::run(args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let library_error = error.chain().find_map(|cause| cause.downcast_ref::<bipo::Error>());
            terminal::error(&error, library_error.and_then(hints::hint).as_deref());
            ExitCode::from(library_error.map_or(1, bipo::Error::exit_code))
        }
    }
}
