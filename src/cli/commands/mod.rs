//! The commands: glue between arguments, the library and the terminal.
//!
//! Begin with [`run`], which calls the command that was asked for; each command begins with a `run` in a file or folder of its
//! name. What several commands share is in `run`, `session`, `prompts`, `vectors` and the folder `training`.

mod axbench;
mod bench;
mod caa;
mod calibrate;
mod chat;
mod check;
mod compare;
mod completions;
mod condition;
mod convert;
mod data;
mod doctor;
mod eval;
mod evaluation;
mod export;
mod inspect;
mod interrupt;
mod judge;
mod layers;
mod man;
mod merge;
mod models;
mod next;
mod outputs;
mod page;
mod pairs;
mod prompts;
mod provenance;
mod ranks;
mod room;
mod run;
mod search;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod steer;
mod sweep;
mod train;
mod training;
mod vectors;

use bipo::Error;
use bipo::machine::bytes::check_addresses;
use bipo::machine::{cpu, device};
use bipo::ops::check_kernel;
use bipo::train::collective::Collective;

use crate::args::{Cli, Command, ModelArgs};

/// Runs what was asked for, as one of the processes of a job where there are several.
pub fn run(cli: &mut Cli, collective: &Collective) -> anyhow::Result<()> {
    check_kernel()?;
    check_shared(&cli.command, collective)?;
    cli.command.model().map_or(Ok(()), |model| check_gpus(&model.device, collective.on_this_machine().1))?;
    if !collective.is_first() {
        cli.command.stand_back(|| device::of_local_rank(collective.on_this_machine().0, &device::gpus()));
    }
    match cli.command.model() {
        Some(model) => with_threads(model, collective, || run_command(&cli.command, collective)),
        None => run_command(&cli.command, collective),
    }
}

/// Refuses several processes of a command that does not share its work out.
fn check_shared(command: &Command, collective: &Collective) -> Result<(), Error> {
    let is_shared = matches!(
        command,
        Command::Train(_)
            | Command::Layers(_)
            | Command::Eval(_)
            | Command::Calibrate(_)
            | Command::Compare(_)
            | Command::Judge(_)
    );
    match collective.ranks() {
        ranks if ranks > 1 && !is_shared => Err(Error::Argument(format!(
            "started as {ranks} ranks, but of bipo's commands train, layers, eval, calibrate, compare and judge \
             share their work out: start this without mpirun or srun, or set BIPO_ALONE=1 if each process does work of its own"
        ))),
        _ => Ok(()),
    }
}

/// Refuses that each of several ranks of a machine takes all of its GPUs.
fn check_gpus(device: &str, ranks_here: usize) -> Result<(), Error> {
    match device == "cuda:all" && ranks_here > 1 {
        true => Err(Error::Argument(format!(
            "--device cuda:all, but {ranks_here} ranks of this machine would share its GPUs: start one rank a machine, or leave \
             --device out, so that each rank takes a GPU of its own"
        ))),
        false => Ok(()),
    }
}

fn run_command(command: &Command, collective: &Collective) -> anyhow::Result<()> {
    match command {
        Command::Train(args) => train::run(args, collective),
        Command::Data(args) => data::run(args),
        Command::Pairs(args) => pairs::run(args),
        Command::Layers(args) => layers::run(args, collective),
        Command::Steer(args) => steer::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Eval(args) => eval::run(args, collective),
        Command::Calibrate(args) => calibrate::run(args, collective),
        Command::Compare(args) => compare::run(args, collective),
        Command::Judge(args) => match &args.concept {
            Some(concept) => axbench::run(args, concept, collective),
            None => judge::run(args, collective),
        },
        Command::Convert(args) => convert::run(args),
        Command::Export(args) => export::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Models(args) => models::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// Runs a command on a thread of the pool that its ops use: what is serial then needs no other thread to be woken.
fn with_threads(
    args: &ModelArgs,
    collective: &Collective,
    run: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let threads = args.threads.map_or_else(|| cpu::default_threads(collective.on_this_machine().1), usize::from);
    check_addresses(threads)?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(run)
}

#[cfg(test)]
mod tests;
