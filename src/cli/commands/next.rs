//! The next useful command, told on standard error at the end of one, with what the user wrote that holds there too.

use std::path::Path;

use bipo::hub::presets;
use bipo::report::shell::quote;
use bipo::steering::vector::SteeringVector;

use super::vectors::file_to_save;
use crate::args::{Given, VectorArgs, given};
use crate::terminal::Log;

/// Flags that say which model is used, and how.
pub const MODEL: [&str; 10] = [
    "--model",
    "--offline",
    "--device",
    "--split",
    "--dtype",
    "--weights",
    "--system",
    "--system-in-user",
    "--template",
    "--template-var",
];

/// Flags that say what steers it.
const STEERING: [&str; 5] = ["--vector", "--layer", "--operation", "--positions", "--spans"];

/// Flags of how a command tells what it did.
pub const TELLING: [&str; 3] = ["--json", "--verbose", "--quiet"];

/// A command as a shell reads it, with those of the given flags that are wanted.
pub fn command(name: &str, given: &[Given], is_wanted: impl Fn(&str) -> bool) -> String {
    let words = given.iter().filter(|given| is_wanted(&given.flag)).flat_map(Given::words);
    [format!("bipo {name}")].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// A command that uses the same model.
pub fn of_model(name: &str) -> String {
    command(name, &given(), |flag| MODEL.contains(&flag))
}

/// A command that steers the same model by the same vector.
pub fn steering(name: &str) -> String {
    command(name, &given(), is_of_steered_model)
}

fn is_of_steered_model(flag: &str) -> bool {
    MODEL.contains(&flag) || STEERING.contains(&flag)
}

/// Returns the command that the user wrote, to be run again.
pub fn again(name: &str) -> String {
    command(name, &given(), |flag| !TELLING.contains(&flag))
}

/// The command with one more flag.
pub fn with(command: &str, flag: &str, value: &str) -> String {
    let given = Given { flag: flag.to_owned(), values: vec![value.to_owned()] };
    format!("{command} {}", given.words().join(" "))
}

/// What comes after texts were steered by a vector or its effect was measured: its strength, where nothing is known of it, else a talk.
pub fn after_steering(source: &VectorArgs, vector: &SteeringVector) -> (&'static str, String) {
    match &vector.metadata.calibration {
        None if vector.metadata.operation.is_addition() => {
            let save = if file_to_save(source).is_ok() { " --save" } else { "" };
            ("find its strength", steering("calibrate") + save)
        }
        _ => ("talk with it", command("chat", &given(), |flag| flag == "--when" || is_of_steered_model(flag))),
    }
}

/// Stands in a command for the path of a model, which the user knows.
pub const MODEL_PATH: &str = "MODEL";

/// The model that a vector's file names, as an argument of `--model`; none where the name is that of a folder or a file elsewhere.
pub fn model_argument(name: &str) -> Option<&str> {
    match presets::find(name) {
        _ if name.contains('/') || is_model(Path::new(name)) => Some(name),
        preset => preset.map(|preset| preset.alias),
    }
}

/// Whether a path looks like a model: a folder with a configuration, or a GGUF file.
fn is_model(path: &Path) -> bool {
    path.join("config.json").exists() || (path.is_file() && path.extension().is_some_and(|extension| extension == "gguf"))
}

/// A command of a file.
pub fn of_file(name: &str, file: &str) -> String {
    format!("bipo {name} {}", quote(file))
}

/// Tells the command, but not to a program: what `--json` prints is read by one.
pub fn tell(is_json: bool, what: &str, command: &str, log: Log) {
    if !is_json {
        log.info(format!("{what}: {command}"));
    }
}
