//! The groups of flags in a help, which are the sections of a manual page: what is done and with what comes first, then which model
//! computes it, on what machine, and what comes out. Every command names its groups by these.

use clap::{Arg, ArgAction, Command};

pub(super) const VECTOR: &str = "Vector";
pub(super) const DATA: &str = "Data";
pub(super) const OPTIMISATION: &str = "Optimisation";
pub(super) const GENERATION: &str = "Generation";
pub(super) const MEASUREMENT: &str = "Measurement";
pub(super) const JUDGE: &str = "Judge";
pub(super) const ENDPOINT: &str = "Endpoint";
#[cfg(feature = "serve")]
pub(super) const SERVER: &str = "Server";
pub(super) const MODEL: &str = "Model";
pub(super) const MACHINE: &str = "Machine";
pub(super) const OUTPUT: &str = "Output";

/// The place of flags that every command has, behind the others of their group.
pub(super) const LAST: usize = 1000;

/// The command with `--help` in a group like its other flags.
pub(super) fn with_help_flag(command: Command) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print this help");
    command.disable_help_flag(true).arg(help.help_heading(OUTPUT).display_order(LAST + 1))
}
