//! Tests of quoting for a shell.

use super::*;

#[test]
fn a_line_is_what_a_person_would_write() {
    let line = command_line("bipo", ["steer", "--magnitudes", "-2,0,2", "--prompt", "How was your day?"]);
    assert_eq!(line, "bipo steer --magnitudes -2,0,2 --prompt 'How was your day?'");
}

#[test]
#[cfg(unix)]
fn a_shell_reads_back_what_was_meant() {
    let hostile = ["", "it's", "$HOME `id` \"x\" \\", "a\nb", "~", "{a,b}", "*", "x;y", "=z", "#", "!1", "é 漢"];
    let line = command_line("printf", ["%s\\0"].into_iter().chain(hostile));
    let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    let read: Vec<String> = String::from_utf8(output.stdout).unwrap().split('\0').map(str::to_owned).collect();
    assert_eq!(read[..hostile.len()], hostile);
}
