//! Shows how an evaluation goes, and writes its table and its pairs each time that a subject was measured at a magnitude: a run
//! that ends early, however it does, has lost nothing that was done.

use bipo::Result;
use bipo::eval::{EvalObserver, Outcome, PairLine, Report, Row, Timings};
use bipo::machine::files::write_atomic;
use serde_json::{Value, json};

use crate::args::EvalArgs;
use crate::commands::interrupt::Interrupt;
use crate::terminal::{Log, Progress};

pub struct Writer<'a> {
    args: &'a EvalArgs,
    log: Log,
    interrupt: &'a Interrupt,
    shown: Option<(&'static str, Progress)>,
    /// Lines that the file of pairs has.
    pairs: usize,
}

impl<'a> Writer<'a> {
    pub fn new(args: &'a EvalArgs, log: Log, interrupt: &'a Interrupt) -> Self {
        Self { args, log, interrupt, shown: None, pairs: 0 }
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.shown.iter().for_each(|(_, progress)| progress.finish());
    }
}

impl EvalObserver for Writer<'_> {
    fn progress(&mut self, part: &'static str, done: usize, total: usize) -> Result<()> {
        if self.shown.as_ref().is_none_or(|(name, _)| *name != part) {
            self.finish();
            self.shown = Some((part, self.log.progress(part, total)));
        }
        self.shown.iter_mut().for_each(|(_, progress)| progress.set(done, String::new));
        self.interrupt.check()
    }

    fn pass(&mut self) -> Result<()> {
        self.interrupt.check()
    }

    fn measured(&mut self, outcome: &Outcome) -> Result<()> {
        if let Some(path) = &self.args.csv {
            let rows: Vec<Row> = outcome.rows.iter().filter(|row| !row.measures.is_empty()).cloned().collect();
            let (generations, timings) = (Vec::new(), Timings::default());
            let table = Report { schema_version: 1, settings: Value::Null, rows, generations, timings };
            write_atomic(path, &table.to_csv()?)?;
        }
        if let Some(path) = self.args.per_pair.as_ref().filter(|_| outcome.pairs.len() > self.pairs) {
            write_atomic(path, &json_lines(&outcome.pairs))?;
            self.pairs = outcome.pairs.len();
        }
        self.interrupt.check()
    }
}

fn json_lines(lines: &[PairLine]) -> Vec<u8> {
    lines.iter().map(|line| format!("{}\n", json!(line))).collect::<String>().into_bytes()
}
