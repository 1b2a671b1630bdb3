//! The `bipo` program: parse, run, print the error chain, exit code.

mod allocator;
mod args;
mod commands;
mod hints;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::keep_freed_pages();
    let cli = args::parse();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let library_error = error.chain().find_map(|cause| cause.downcast_ref::<bipo::Error>());
            let is_f32 = || cli.command.model().is_some_and(args::ModelArgs::is_f32);
            terminal::error(&error, library_error.and_then(|error| hints::hint(error, is_f32)).as_deref());
            ExitCode::from(library_error.map_or(1, bipo::Error::exit_code))
        }
    }
}
