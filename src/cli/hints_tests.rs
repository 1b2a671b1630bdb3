//! Hints belong to messages that the library has, and stand where they can be read.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::*;
use crate::args::Cli;

/// All sources of the library.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("cli") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Files whose texts are no messages: command lines of a README, and of a model card, and colours of a picture.
const NOT_MESSAGES: [&str; 5] =
    ["report/export/engines.rs", "report/export/readme.rs", "report/card/mod.rs", "report/draw.rs", "serve/openapi.rs"];

/// Whether a line of code names a flag, or a command, in a text.
fn names_a_flag(line: &str, commands: &[String]) -> bool {
    let code = line.trim_start();
    if code.starts_with("//") {
        return false;
    }
    let begins_flag = |(at, _): (usize, &str)| code[at + 2..].starts_with(|letter: char| letter.is_ascii_lowercase());
    let is_command = |(at, _): (usize, &str)| {
        let word: String = code[at + 5..].chars().take_while(char::is_ascii_lowercase).collect();
        commands.contains(&word)
    };
    code.match_indices("--").any(begins_flag) || code.match_indices("bipo ").any(is_command)
}

#[test]
fn no_message_of_the_library_names_a_flag_or_a_command() {
    let commands: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for told in ["give it to --when", "run `bipo calibrate` first", "bipo eval shows it"] {
        assert!(names_a_flag(told, &commands), "{told}");
    }
    assert!(
        !names_a_flag("/// As `bipo train --layer` has it.", &commands) && !names_a_flag("bipo adds it -- once", &commands)
    );
    let is_message = |path: &&PathBuf| {
        let is_test = path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        !is_test && !NOT_MESSAGES.iter().any(|other| path.ends_with(other))
    };
    for path in sources().iter().filter(is_message) {
        let text = fs::read_to_string(path).unwrap();
        // The tests of a file stand behind its code.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines() {
            assert!(!names_a_flag(line, &commands), "{}: {}", path.display(), line.trim());
        }
    }
}

#[test]
fn each_hint_goes_on_from_a_message_of_the_library() {
    // White space and the breaks of long strings apart.
    let library: String = sources().iter().map(|path| fs::read_to_string(path).unwrap().replace("\\\n", "")).collect();
    let library: String = library.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(library.contains(FEATURE));
    for (fact, hint) in HINTS {
        // The role is a word of its own in the source.
        let fact = fact.replace("the user", "the {role}").replace("the assistant", "the {role}");
        assert!(library.contains(&fact), "no message says {fact:?}");
        assert!(hint.contains("--") || hint.contains("`bipo "), "{hint:?} names neither a flag nor a command");
    }
}

#[test]
fn a_device_that_there_is_not_is_told_with_its_flag() {
    let error = bipo::machine::device::open("gpu").unwrap_err();
    let hint = hint(&error, || true).unwrap();
    assert_eq!(
        format!("{error}{hint}"),
        "device gpu: expected auto, cpu, cuda[:N], cuda:N,N,..., cuda:all or metal (--device)"
    );
}

#[test]
fn a_part_that_is_not_built_in_is_told_with_its_flag_for_cargo() {
    assert_eq!(
        with_hint("this bipo is built for the CPU: build it with the feature cuda"),
        "this bipo is built for the CPU: build it with the feature cuda (--features cuda), or use --device cpu"
    );
    assert_eq!(
        with_hint("a.png: build it with the feature pictures, or name a .svg file"),
        "a.png: build it with the feature pictures, or name a .svg file (--features pictures)"
    );
    assert_eq!(with_hint("layer 3 out of range: model has 3 layers"), "layer 3 out of range: model has 3 layers");
}

#[test]
fn weights_beyond_f16_are_told_the_dtype_and_no_training_rate() {
    let error = Error::NotFinite("m: tensor `w` holds 1e5, but f16 ends at 65504: use bf16 or f32".into());
    assert_eq!(hint(&error, || false).unwrap(), " (--dtype)");
}

#[test]
fn a_model_in_the_place_of_a_file_is_told_to_be_one() {
    let hint_of = |path: &str| hint(&Error::read(path, std::io::ErrorKind::NotFound.into()), || true);
    assert!(hint_of("smollm2").unwrap().contains("smollm2 is a model: name it with --model"));
    assert!(hint_of("HuggingFaceTB/SmolLM2-135M-Instruct").unwrap().contains("smollm2 is a model"));
    assert_eq!(hint_of("vector.safetensors"), None);
    assert_eq!(hint_of("SmolLM2-135M-Instruct.Q4_1.gguf"), None);
}

#[test]
fn f32_is_advised_where_it_is_not_used_alone() {
    let error = Error::NotFinite("step 1: the vector is not finite".into());
    let hint_of = |is_f32| hint(&error, || is_f32).unwrap();
    assert!(hint_of(false).contains("try --dtype f32, a lower --lr"));
    assert!(hint_of(true).starts_with("; try a lower --lr"));
}
