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
    let threads = args.threads.map_or_else(std::thread::available_parallelism, |n| {
        Ok(std::num::NonZero::<u16>::new(n).map_or(std::num::NonZero::<usize>::MIN, Into::into))
    })?;
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()?)
}
