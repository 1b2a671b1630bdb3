//! The command that trains the winner of a search in full: what the user wrote, without what belongs to the search.

use crate::args::Given;

/// What a run in full does not take over from the short ones, nor from this command.
const OWN: [&str; 9] =
    ["--layers", "--plot", "--epochs", "--max-steps", "--schedule-epochs", "--warmup-steps", "--json", "--verbose", "--quiet"];

/// What the user wrote, for `bipo train` at one layer.
pub fn train_command(given: &[Given], layer: usize) -> String {
    let taken = given.iter().filter(|given| !OWN.contains(&given.flag.as_str()));
    let words = ["bipo train".to_owned()].into_iter().chain(taken.flat_map(Given::words));
    words.chain([format!("--layer {layer}")]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
