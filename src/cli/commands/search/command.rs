//! The command that trains the winner of a search in full: what the user wrote, without what belongs to the search.

use bipo::report::shell::quote;

use crate::args::Given;

/// What a run in full does not take over from the short ones, nor from this command.
const OWN: [&str; 9] =
    ["--layers", "--plot", "--epochs", "--max-steps", "--schedule-epochs", "--warmup-steps", "--json", "--verbose", "--quiet"];

/// What the user wrote, for `bipo train` at one layer.
pub fn train_command(given: &[Given], layer: usize) -> String {
    let mut words = vec!["bipo train".to_owned()];
    let taken = given.iter().filter(|given| !OWN.contains(&given.flag.as_str()));
    for Given { flag, values } in taken {
        match values.is_empty() {
            true => words.push(flag.clone()),
            // A value of its own word could pass for a flag where it begins with a minus sign.
            false => words.extend(values.iter().map(|value| match value.starts_with('-') {
                true => format!("{flag}={}", quote(value)),
                false => format!("{flag} {}", quote(value)),
            })),
        }
    }
    words.push(format!("--layer {layer}"));
    words.join(" ")
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
