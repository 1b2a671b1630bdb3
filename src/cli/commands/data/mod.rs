//! `bipo data`: what training would see of a data set, as text or JSON, without a model or as a model sees it.
//!
//! It reads no format itself: that is the library's `data`. Begin with [`run`]; `seen` has the model's view, and `questions`
//! that of `--mc`.

mod questions;
mod seen;

use std::collections::BTreeMap;
use std::fmt::Write;

use bipo::data::{self, Dataset, FileLayout, Message, Pair, Skipped, Source};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::questions::Questions;
use self::seen::{Seen, SeenPair};
use super::next::{self, TELLING};
use crate::args::{DataArgs, given};
use crate::downloads::fetch_options;
use crate::terminal::{self, Log};

/// Number of pairs that the text shows.
const SHOWN: usize = 3;

/// Number of reasons for skipped rows that the text shows, the most frequent ones first.
const REASONS: usize = 12;

/// Number of characters of a text that are shown.
const LONGEST: usize = 400;

pub fn run(args: &DataArgs) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    let fetch = fetch_options(args.offline);
    if args.mc {
        let questions = Questions::read(&args.dataset, args.rows.limit, args.mc_answers, &fetch)?;
        match args.report.json {
            true => terminal::json(&questions.report())?,
            false => terminal::result(&questions.text())?,
        }
        next::tell(args.report.json, "measure it", &same_set("eval", "--mc", args), log);
        return Ok(());
    }
    let dataset = data::load(&Source::parse_pairs(&args.dataset)?, &args.rows.options(fetch))?;
    let seen = args.model.as_ref().map(|model| Seen::of(model, &dataset, args, log)).transpose()?;
    match args.report.json {
        true => terminal::json(&DataReport::of(&dataset, seen.as_ref()))?,
        false => terminal::result(&text(&dataset, seen.as_ref()))?,
    }
    next::tell(args.report.json, "learn it", &same_set("train", "--dataset", args), log);
    Ok(())
}

/// A command that reads the data set, by the name that `flag` gives it there, in the same way: all other flags are also its own.
fn same_set(name: &str, flag: &str, args: &DataArgs) -> String {
    let command = next::with(&format!("bipo {name}"), flag, &args.dataset);
    let rest = given().into_iter().filter(|given| given.flag != "--mc" && !TELLING.contains(&given.flag.as_str()));
    std::iter::once(command).chain(rest.flat_map(|given| given.words())).collect::<Vec<_>>().join(" ")
}

/// The report of `--json`.
#[derive(Serialize)]
struct DataReport<'a> {
    schema_version: u32,
    dataset: &'a str,
    sha256: &'a str,
    format: &'a str,
    shape: &'a str,
    rows: usize,
    columns: Map<String, Value>,
    pairs: Vec<PairEntry<'a>>,
    skipped: Vec<SkippedEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a Seen>,
}

#[derive(Serialize)]
struct PairEntry<'a> {
    row: usize,
    prompt: &'a [Message],
    chosen: &'a str,
    rejected: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoded: Option<&'a SeenPair>,
}

#[derive(Serialize)]
struct SkippedEntry<'a> {
    row: usize,
    reason: &'a str,
}

impl<'a> DataReport<'a> {
    fn of(dataset: &'a Dataset, seen: Option<&'a Seen>) -> Self {
        let pair = |(index, Pair { row, prompt, chosen, rejected }): (usize, &'a Pair)| {
            let encoded = seen.and_then(|seen| seen.pairs.get(index));
            PairEntry { row: *row, prompt, chosen, rejected, encoded }
        };
        Self {
            schema_version: 1,
            dataset: &dataset.name,
            sha256: &dataset.sha256,
            format: dataset.layout.format,
            shape: dataset.layout.shape,
            rows: dataset.rows,
            columns: columns(&dataset.layout),
            pairs: dataset.pairs.iter().enumerate().map(pair).collect(),
            skipped: skipped(&dataset.skipped),
            model: seen,
        }
    }
}

/// Columns of a file, and what each became.
fn columns(layout: &FileLayout) -> Map<String, Value> {
    layout.columns.iter().map(|(name, role)| (name.clone(), json!(role))).collect()
}

fn skipped(skipped: &[Skipped]) -> Vec<SkippedEntry<'_>> {
    skipped.iter().map(|Skipped { row, reason }| SkippedEntry { row: *row, reason }).collect()
}

/// What a file is, what was read of it, and what each of its columns became.
fn heading(name: &str, counted: &str, layout: &FileLayout) -> String {
    let mut text = format!("{name}: {}, {}\n{counted}\n", layout.format, layout.shape);
    let width = layout.columns.iter().map(|(name, _)| console::measure_text_width(&short(name))).max().unwrap_or(0);
    for (column, role) in &layout.columns {
        let role = role.as_deref().unwrap_or("not used").replace('_', " ");
        let _ = writeln!(text, "  {} {role}", console::pad_str(&short(column), width, console::Alignment::Left, None));
    }
    text
}

fn text(dataset: &Dataset, seen: Option<&Seen>) -> String {
    let Dataset { name, rows, pairs, skipped, layout, .. } = dataset;
    let mut text = heading(name, &format!("{rows} rows, {} pairs, {} skipped", pairs.len(), skipped.len()), layout);
    text.push_str(&reasons(skipped));
    text.extend(seen.map(Seen::summary));
    for (index, pair) in pairs.iter().take(SHOWN).enumerate() {
        let _ = writeln!(text, "\nrow {}", pair.row);
        for Message { role, content } in &pair.prompt {
            let _ = writeln!(text, "  {role}: {}", short(content));
        }
        let _ = writeln!(text, "  chosen: {}\n  rejected: {}", short(&pair.chosen), short(&pair.rejected));
        text.extend(seen.and_then(|seen| seen.pairs.get(index)).map(SeenPair::text));
    }
    text
}

/// How often rows were skipped for each reason, and the first of these rows.
fn reasons(skipped: &[Skipped]) -> String {
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for Skipped { row, reason } in skipped {
        reasons.entry(reason).or_insert((0, *row)).0 += 1;
    }
    let mut reasons: Vec<(&str, (usize, usize))> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, (count, row))| (std::cmp::Reverse(*count), *row));
    let line = |(reason, (count, row)): &(&str, (usize, usize))| format!("skipped {count}: {reason} (first in row {row})\n");
    let mut text: String = reasons.iter().take(REASONS).map(line).collect();
    if reasons.len() > REASONS {
        let _ = writeln!(text, "and for {} more reasons; --json lists all", reasons.len() - REASONS);
    }
    text
}

/// A text as one line that shows line ends and other control characters, and the white space at its ends.
fn short(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    if text.trim() == text { shown } else { format!("\"{shown}\"") }
}
