//! Every command that can be interrupted hears of it here, so that what a second Ctrl-C does in one of them it does in all.

use std::fs;
use std::path::{Path, PathBuf};

/// Sources of the program in which a text stands, tests apart.
fn sources_with(text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && fs::read_to_string(&path).unwrap().contains(text)
            {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn one_handler_serves_every_command_but_a_conversation() {
    // In a conversation Ctrl-C stops the answer.
    assert_eq!(sources_with("ctrlc::"), ["cli/commands/chat/stop.rs", "cli/commands/interrupt.rs"]);
    let listening = sources_with("Interrupt::listen");
    for command in
        ["caa", "calibrate", "compare/mod", "eval", "inspect/mod", "judge", "layers", "merge", "pairs", "steer", "train"]
    {
        assert!(listening.contains(&format!("cli/commands/{command}.rs")), "{command}: {listening:?}");
    }
}
