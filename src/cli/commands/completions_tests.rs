//! How a script is loaded.

use clap::ValueEnum;

use super::*;

#[test]
fn every_shell_is_told_the_file_and_the_line_that_load_its_script() {
    for shell in Shell::value_variants() {
        let (file, command) = start(*shell).unwrap();
        assert!(file.starts_with(['~', '$']) && command.contains(&format!("bipo completions {shell}")), "{file} {command}");
    }
}
