//! Shows how an evaluation goes, and writes its table and its pairs each time that a subject was measured at a magnitude: a run
//! that ends early, however it does, has lost nothing that was done.

use bipo::Result;
use bipo::eval::{EvalObserver, EvalOutcome, EvalReport, EvalRow, EvalTimings, PairLine};
use bipo::machine::files::write_atomic;
use bipo::session::Session;
use candle_core::DType;
use serde_json::{Value, json};

use crate::args::EvalArgs;
use crate::commands::interrupt::Interrupt;
use crate::terminal::{Log, Parts};

pub struct Writer<'a> {
    args: &'a EvalArgs,
    parts: Parts,
    interrupt: &'a Interrupt,
    /// Lines that the file of pairs has.
    pairs: usize,
}

impl<'a> Writer<'a> {
    pub fn new(args: &'a EvalArgs, log: Log, interrupt: &'a Interrupt) -> Self {
        Self { args, parts: Parts::new(log), interrupt, pairs: 0 }
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.parts.finish();
    }
}

impl EvalObserver for Writer<'_> {
    fn progress(&mut self, part: &'static str, done: usize, total: usize) -> Result<()> {
        self.parts.set(part, done, total);
        self.interrupt.check()
    }

    fn pass(&mut self) -> Result<()> {
        self.interrupt.check()
    }

    fn measured(&mut self, outcome: &EvalOutcome) -> Result<()> {
        if let Some(path) = &self.args.csv {
            let has_begun = |row: &&EvalRow| !row.measures.is_empty() || row.failure.is_some();
            let rows: Vec<EvalRow> = outcome.rows.iter().filter(has_begun).cloned().collect();
            let (generations, timings) = (Vec::new(), EvalTimings::default());
            let table = EvalReport { schema_version: 2, settings: Value::Null, rows, generations, timings };
            write_atomic(path, &table.to_csv()?)?;
        }
        if let Some(path) = self.args.per_pair.as_ref().filter(|_| outcome.pairs.len() > self.pairs) {
            write_atomic(path, &json_lines(&outcome.pairs))?;
            self.pairs = outcome.pairs.len();
        }
        self.interrupt.check()
    }
}

/// Warns of the rows whose numbers are not finite.
pub fn warn_of_failures(report: &EvalReport, opened: &Session, log: Log) {
    let dtype = if opened.placement.dtype == DType::F32 { "" } else { " or --dtype f32" };
    for line in report.failures() {
        log.warn(format!("{line}: nothing more is measured there; use smaller magnitudes{dtype}"));
    }
}

fn json_lines(lines: &[PairLine]) -> Vec<u8> {
    lines.iter().map(|line| format!("{}\n", json!(line))).collect::<String>().into_bytes()
}
