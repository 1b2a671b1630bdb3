//! The command that trains the winner of a search in full: what the user wrote, without what belongs to the search.

use crate::args::Given;
use crate::commands::next::{self, TELLING};

/// What a run in full does not take over from the short ones.
const OWN: [&str; 6] = ["--layers", "--plot", "--epochs", "--max-steps", "--schedule-epochs", "--warmup-steps"];

/// What the user wrote, for `bipo train` at one layer.
pub fn train_command(given: &[Given], layer: usize) -> String {
    let command = next::command("train", given, |flag| !OWN.contains(&flag) && !TELLING.contains(&flag));
    format!("{command} --layer {layer}")
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
