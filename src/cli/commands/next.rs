//! The next useful command, told on standard error at the end of one: as a shell reads it, with the flags that both have.

use bipo::report::shell::quote;

use crate::args::given;
use crate::terminal::Log;

/// Flags that say what steers which model, and mean the same in every command that steers.
const STEERING: [&str; 13] = [
    "--model",
    "--device",
    "--dtype",
    "--weights",
    "--system",
    "--system-in-user",
    "--template",
    "--template-var",
    "--vector",
    "--layer",
    "--operation",
    "--positions",
    "--spans",
];

/// A command with what the user wrote of model and vector.
pub fn steering(command: &str) -> String {
    let shared = given().into_iter().filter(|given| STEERING.contains(&given.flag.as_str()));
    let words = [format!("bipo {command}")].into_iter().chain(shared.flat_map(|given| given.words()));
    words.collect::<Vec<_>>().join(" ")
}

/// A command of a file.
pub fn of_file(command: &str, file: &str) -> String {
    format!("bipo {command} {}", quote(file))
}

/// Tells the command, but not to a program: what `--json` prints is read by one.
pub fn tell(is_json: bool, what: &str, command: &str, log: Log) {
    if !is_json {
        log.info(format!("{what}: {command}"));
    }
}
