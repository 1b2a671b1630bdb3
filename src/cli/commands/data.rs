//! `bipo data`: what training would see of a data set, as text or JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use bipo::data::{self, Dataset, Message, Pair, Skipped, Source};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::DataArgs;
use crate::terminal;

/// Number of pairs that the text shows.
const SHOWN: usize = 3;

/// Number of characters of a text that are shown.
const LONGEST: usize = 400;

pub fn run(args: &DataArgs) -> anyhow::Result<()> {
    let dataset = data::load(&Source::parse(&args.dataset)?, &args.rows.options(args.offline))?;
    match args.json {
        true => terminal::json(&Report::of(&dataset))?,
        false => terminal::result(&text(&dataset))?,
    }
    Ok(())
}

/// The report of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    schema_version: u32,
    dataset: &'a str,
    sha256: &'a str,
    format: &'a str,
    shape: &'a str,
    rows: usize,
    columns: Map<String, Value>,
    pairs: Vec<PairEntry<'a>>,
    skipped: Vec<SkippedEntry<'a>>,
}

#[derive(Serialize)]
struct PairEntry<'a> {
    row: usize,
    prompt: &'a [Message],
    chosen: &'a str,
    rejected: &'a str,
}

#[derive(Serialize)]
struct SkippedEntry<'a> {
    row: usize,
    reason: &'a str,
}

impl<'a> Report<'a> {
    fn of(dataset: &'a Dataset) -> Self {
        let pair = |Pair { row, prompt, chosen, rejected }: &'a Pair| PairEntry { row: *row, prompt, chosen, rejected };
        let skipped = |Skipped { row, reason }: &'a Skipped| SkippedEntry { row: *row, reason };
        Self {
            schema_version: 1,
            dataset: &dataset.name,
            sha256: &dataset.sha256,
            format: dataset.layout.format,
            shape: dataset.layout.shape,
            rows: dataset.rows,
            columns: dataset.layout.columns.iter().map(|(name, role)| (name.clone(), json!(role))).collect(),
            pairs: dataset.pairs.iter().map(pair).collect(),
            skipped: dataset.skipped.iter().map(skipped).collect(),
        }
    }
}

fn text(dataset: &Dataset) -> String {
    let Dataset { name, rows, pairs, skipped, layout, .. } = dataset;
    let mut text = format!("{name}: {}, {}\n", layout.format, layout.shape);
    let _ = writeln!(text, "{rows} rows, {} pairs, {} skipped", pairs.len(), skipped.len());
    let width = layout.columns.iter().map(|(name, _)| console::measure_text_width(name)).max().unwrap_or(0);
    for (column, role) in &layout.columns {
        let role = role.as_deref().unwrap_or("not used").replace('_', " ");
        let _ = writeln!(text, "  {} {role}", console::pad_str(&short(column), width, console::Alignment::Left, None));
    }
    text.push_str(&reasons(skipped));
    for pair in pairs.iter().take(SHOWN) {
        let _ = writeln!(text, "\nrow {}", pair.row);
        for Message { role, content } in &pair.prompt {
            let _ = writeln!(text, "  {role}: {}", short(content));
        }
        let _ = writeln!(text, "  chosen: {}\n  rejected: {}", short(&pair.chosen), short(&pair.rejected));
    }
    text
}

/// How often rows were skipped for each reason, and the first of these rows.
fn reasons(skipped: &[Skipped]) -> String {
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for Skipped { row, reason } in skipped {
        reasons.entry(reason).or_insert((0, *row)).0 += 1;
    }
    let line = |(reason, (count, row)): (&str, (usize, usize))| format!("skipped {count}: {reason} (first in row {row})\n");
    reasons.into_iter().map(line).collect()
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
