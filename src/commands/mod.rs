//! The commands: glue between arguments, the library and the terminal.

mod convert;
mod session;
mod steer;
mod train;

use crate::args::{Cli, Command, ModelArgs};

/// Runs what was asked for.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Train(args) => {
            use_threads(&args.model)?;
            train::run(&args)
        }
        Command::Steer(args) => {
            use_threads(&args.model)?;
            steer::run(&args)
        }
        Command::Convert(args) => convert::run(&args),
    }
}

fn use_threads(args: &ModelArgs) -> anyhow::Result<()> {
    // Two threads of one core share its vector units: more threads than cores gain nothing.
    let cores = || num_cpus::get_physical().min(num_cpus::get());
    let threads = args.threads.map_or_else(cores, usize::from);
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}
