//! The terminal: results on stdout as text or JSON, everything else on stderr. The only module that writes to either.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use bipo::hub::options::OnDownload;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::downloads;

/// How much goes to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// Writes text to stdout at once.
pub fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one JSON value and a line feed to stdout.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    result(&text)
}

/// Whether stdout is a terminal, and how wide.
pub fn terminal_width() -> Option<usize> {
    io::stdout().is_terminal().then(|| console::Term::stdout().size().1 as usize)
}

/// Whether stdout is a terminal, where somebody reads what is printed.
pub fn is_read_by_a_person() -> bool {
    io::stdout().is_terminal()
}

/// Stderr for one command.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    verbosity: Verbosity,
}

impl Log {
    pub fn new(verbose: bool, quiet: bool) -> Self {
        let verbosity = match (verbose, quiet) {
            (_, true) => Verbosity::Quiet,
            (true, _) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Self { verbosity }
    }

    pub fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    /// What is told of the downloads of a model: nothing where the user wants quiet.
    pub fn downloads(&self) -> Option<OnDownload> {
        (!self.is_quiet()).then_some(downloads::DRAWN)
    }

    /// A line for everybody but `-q`.
    pub fn info(&self, line: impl AsRef<str>) {
        self.write(Verbosity::Normal, line.as_ref());
    }

    /// A line for `-v`.
    pub fn detail(&self, line: impl AsRef<str>) {
        self.write(Verbosity::Verbose, line.as_ref());
    }

    /// A line that begins with `warning:`.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.write(Verbosity::Normal, &format!("warning: {}", line.as_ref()));
    }

    /// A warning that `-q` does not silence: a file that belongs to the result is not there.
    pub fn warn_even_if_quiet(&self, line: impl AsRef<str>) {
        self.write(Verbosity::Quiet, &format!("warning: {}", line.as_ref()));
    }

    fn write(&self, level: Verbosity, line: &str) {
        if self.verbosity >= level {
            // Nothing can be done about a closed stderr.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// A progress bar on a terminal; elsewhere a line at each tenth.
    pub fn progress(&self, name: &'static str, total: usize) -> Progress {
        let on_terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bar = (on_terminal && !self.is_quiet()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name);
            bar
        });
        Progress { log: *self, name, total, bar, tenth: 0, before: None, started: Instant::now() }
    }
}

/// One task's progress.
#[derive(Debug)]
pub struct Progress {
    log: Log,
    name: &'static str,
    total: usize,
    bar: Option<ProgressBar>,
    tenth: usize,
    /// What was done before this process began.
    before: Option<usize>,
    started: Instant,
}

impl Progress {
    /// `done` of the total are done.
    pub fn set(&mut self, done: usize, message: impl FnOnce() -> String) {
        let before = *self.before.get_or_insert_with(|| {
            let before = done.saturating_sub(1);
            self.bar.iter().for_each(|bar| {
                bar.set_position(before as u64);
                bar.reset_eta();
            });
            before
        });
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(message());
            return;
        }
        let tenth = 10 * done / self.total.max(1);
        if tenth > self.tenth && !self.log.is_quiet() {
            self.tenth = tenth;
            let left = self.started.elapsed().as_secs_f64() * (self.total - done) as f64 / (done - before).max(1) as f64;
            let left = Duration::from_secs_f64(left).as_secs();
            self.log.info(format!("{} {done}/{}  {}  {left}s left", self.name, self.total, message()));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The progress of a task whose parts follow each other, the part at hand alone.
pub struct Parts {
    log: Log,
    shown: Option<(&'static str, Progress)>,
}

impl Parts {
    pub fn new(log: Log) -> Self {
        Self { log, shown: None }
    }

    /// `done` of the part's total are done; the parts before it are.
    pub fn set(&mut self, part: &'static str, done: usize, total: usize) {
        if self.shown.as_ref().is_none_or(|(name, _)| *name != part) {
            self.finish();
            self.shown = Some((part, self.log.progress(part, total)));
        }
        self.shown.iter_mut().for_each(|(_, progress)| progress.set(done, String::new));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.shown.iter().for_each(|(_, progress)| progress.finish());
    }
}

/// Whether the reader of stdout has gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Characters of a message that are shown: arguments and names can be of any length.
const LONGEST: usize = 1500;

/// Prints the one line of an error.
pub fn error(line: &str) {
    let more = if line.chars().nth(LONGEST).is_some() { "…" } else { "" };
    let _ = writeln!(io::stderr(), "error: {}{more}", line.chars().take(LONGEST).collect::<String>());
}

/// The one line of an error, with what to do about it behind its message.
pub fn line_of(error: &anyhow::Error, hint: Option<&str>) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // A transparent wrapper repeats its source.
        if !line.ends_with(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    let line = line.lines().next().unwrap_or_default();
    format!("{line}{}", hint.unwrap_or_default())
}
