//! `bipo chat` on a pseudo-terminal: lines are edited and recalled, answers come as they are made, and keys do what they say.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pty_process::blocking::{Command, Pty, open};
use serde_json::Value;

use crate::cli::{LONG, Place, assert_ok, fixture};
use crate::common::smollm2_path;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// For so long something may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A conversation with what was shown so far.
struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    shown: String,
    /// Bytes of `shown` that the test has looked at.
    seen: usize,
    new: Receiver<Vec<u8>>,
}

impl Terminal {
    fn start(model: &str, flags: &[&str], dir: &Path) -> Self {
        Self::run(&[&["chat", "--offline", "--model", model][..], flags].concat(), dir)
    }

    fn run(args: &[&str], dir: &Path) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(pty_process::Size::new(40, 100)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(args)
            .current_dir(dir)
            .env("TERM", "xterm")
            .env("BIPO_CACHE", dir.join("cache"))
            .spawn(pts)
            .unwrap();
        let pty = Arc::new(pty);
        let (send, new) = channel();
        let reader = Arc::clone(&pty);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the child is an error here.
            while let Ok(read @ 1..) = (&*reader).read(&mut bytes) {
                if send.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pty, child, shown: String::new(), seen: 0, new }
    }

    fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown behind what was waited for before. → what stands between
    fn wait_for(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                let between = self.shown[self.seen..self.seen + at].to_owned();
                self.seen += at + text.len();
                return between;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            let new = self.new.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {:?}", &self.shown[self.seen..]));
            self.shown += &String::from_utf8_lossy(&new);
        }
    }

    /// Waits for the end. → the exit code
    fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        while self.new.recv_timeout(PATIENCE.saturating_sub(started.elapsed())).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The questions of a conversation that was saved.
fn questions(file: &Path) -> Vec<String> {
    let saved: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    let asked = messages.iter().filter(|message| message["role"] == "user");
    asked.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_are_edited_recalled_and_kept_and_ctrl_d_ends() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let flags = ["--vector", "out/steering_vector.safetensors", "--max-new-tokens", "8"];
    let mut terminal = Terminal::start(&fixture("llama"), &flags, &place.path("."));
    terminal.wait_for("+1> ");
    terminal.press("hello\r");
    terminal.wait_for("(--max-new-tokens)");
    terminal.wait_for("+1> ");
    // The question again, with a word behind it.
    terminal.press(&format!("{UP} again\r"));
    terminal.wait_for("(--max-new-tokens)");
    terminal.wait_for("+1> ");
    // A line that is given up is no question.
    terminal.press("never mind");
    terminal.wait_for("mind");
    terminal.press(CTRL_C);
    terminal.wait_for("+1> ");
    terminal.press("/m -0.5\r");
    terminal.wait_for("-0.5> ");
    terminal.press("/save first.json\r");
    terminal.wait_for("4 messages written to first.json");
    terminal.wait_for("-0.5> ");
    terminal.press(CTRL_D);
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(questions(&place.path("first.json")), ["hello", "hello again"]);

    // The next conversation recalls the lines of this one: the fourth from the end.
    let mut terminal = Terminal::start(&fixture("llama"), &flags, &place.path("."));
    terminal.wait_for("+1> ");
    terminal.press(&format!("{UP}{UP}{UP}\r"));
    terminal.wait_for("(--max-new-tokens)");
    terminal.wait_for("+1> ");
    terminal.press("/save second.json\r");
    terminal.wait_for("2 messages written to second.json");
    terminal.wait_for("+1> ");
    terminal.press("/quit\r");
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(questions(&place.path("second.json")), ["hello again"]);
}

#[test]
fn a_script_or_a_page_that_is_printed_for_a_person_is_told_how_it_is_installed() {
    let place = Place::new();
    for (args, told) in [
        (&["completions", "bash"][..], "put this into ~/.bashrc: source <(bipo completions bash)"),
        (&["man"], "install the pages of all commands: bipo man --output-dir ~/.local/share/man/man1"),
    ] {
        let mut terminal = Terminal::run(args, &place.path("."));
        terminal.wait_for(told);
        assert_eq!(terminal.end(), Some(0));
        // Not where it is piped.
        let piped = place.bipo(args);
        assert_ok(&piped);
        assert!(piped.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn magnitudes_stand_side_by_side_as_wide_as_the_terminal() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let flags = ["--vector", "out/steering_vector.safetensors", "--max-new-tokens", "8"];
    let mut terminal = Terminal::start(&fixture("llama"), &flags, &place.path("."));
    terminal.wait_for("+1> ");
    terminal.press("hello\r");
    terminal.wait_for("(--max-new-tokens)");
    terminal.wait_for("+1> ");
    terminal.press("/compare\r");
    terminal.wait_for("magnitude -2 ");
    let between = terminal.wait_for("magnitude +2 ");
    assert!(between.contains("magnitude 0 ") && !between.contains('\n'), "{between:?}");
    terminal.wait_for(&"─".repeat(32));
    terminal.wait_for("+1> ");
    terminal.press(CTRL_D);
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn an_answer_is_shown_while_it_comes_and_ctrl_c_keeps_what_was_said() {
    let place = Place::new();
    let model = smollm2_path();
    let flags = ["--max-new-tokens", "2000", "--repeat-penalty", "1.2", "--context", "2048"];
    let mut terminal = Terminal::start(model.to_str().unwrap(), &flags, &place.path("."));
    terminal.wait_for("Ctrl-D ends");
    terminal.wait_for("> ");
    terminal.press("Tell me a very long story about the sea.\r");
    terminal.wait_for("sea.");
    // Some words, long before the answer is complete.
    for _ in 0..8 {
        terminal.wait_for(" ");
    }
    terminal.press(CTRL_C);
    terminal.wait_for("stopped");
    terminal.wait_for("> ");
    terminal.press("/save talk.json\r");
    terminal.wait_for("2 messages written to talk.json");
    terminal.wait_for("> ");
    terminal.press(CTRL_D);
    // The terminal itself shows the key, somewhere between two words.
    let shown = terminal.shown.replace("\r\n", "\n").replace("^C", "");
    assert_eq!(terminal.end(), Some(0));
    let saved: Value = serde_json::from_slice(&std::fs::read(place.path("talk.json")).unwrap()).unwrap();
    let answer = &saved["messages"][1];
    assert_eq!(answer["finish_reason"], "interrupted");
    let content = answer["content"].as_str().unwrap();
    assert!(content.split(' ').count() > 3 && shown.contains(content), "{content:?} is not in {shown:?}");
}
