//! The text view of an inspection: one block a file, tables aligned, then the cosines.

use bipo::report::card;
use bipo::steering::condition::Condition;
use bipo::steering::magnitudes::signed;
use bipo::steering::positions::in_words;
use bipo::steering::vector::{Calibration, Combination, CombinationPart};
use bipo::train::share::in_percent;
use console::{Alignment, measure_text_width, pad_str};
use serde_json::Value;

use super::report::{CosineMatrix, InspectedToken, Inspection, LayerReport, MeasuredOn, VectorReport};
use crate::terminal;

/// Width of a page where stdout is no terminal.
const WIDTH: usize = 100;

/// Column in which values begin.
const INDENT: usize = 14;

impl Inspection {
    pub(super) fn to_text(&self) -> String {
        let several = self.vectors.len() > 1;
        let mut blocks: Vec<String> = Vec::new();
        for (index, vector) in self.vectors.iter().enumerate() {
            let number = several.then_some(index + 1);
            blocks.push(vector.to_text(number, self.model.as_ref()));
        }
        blocks.extend(self.cosines.iter().map(|matrix| matrix.to_text(&self.vectors)));
        if let Some(model) = &self.model {
            blocks.push(explanation(model));
        }
        blocks.join("\n")
    }
}

fn explanation(model: &MeasuredOn) -> String {
    let MeasuredOn { name, prompts, tokens } = model;
    wrapped(
        &format!(
            "residual: length of the residual stream after the layer, over all {tokens} tokens of {prompts} neutral prompts, on \
             {name}; the first token's is often hundreds of times the others', which moves the mean and not the median. Tokens: \
             logits of v/rms(v) through the model's last norm weight and unembedding, less their mean."
        ),
        0,
    )
}

impl VectorReport {
    fn to_text(&self, number: Option<usize>, model: Option<&MeasuredOn>) -> String {
        let number = number.map_or(String::new(), |number| format!("[{number}] "));
        let mut out = format!("{number}{}\n", console::style(&self.file).bold());
        for (name, value) in self.facts() {
            out += &pad_str(&format!("  {name}"), INDENT, Alignment::Left, None);
            out += wrapped(&value, INDENT).trim_start();
        }
        for warning in &self.warnings {
            out += &pad_str(&format!("  {}", console::style("warning").yellow()), INDENT, Alignment::Left, None);
            out += wrapped(warning, INDENT).trim_start();
        }
        out.push('\n');
        out += &self.layer_table(model.is_some());
        for layer in &self.layers {
            if let (Some(promoted), Some(suppressed)) = (&layer.promoted, &layer.suppressed) {
                out.push('\n');
                out += &token_table(layer, promoted, suppressed);
            }
        }
        out
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let blocks = self.num_hidden_layers.map(|count| format!("{count} layers"));
        let shape: Vec<String> = [self.model_type.clone(), blocks].into_iter().flatten().collect();
        let shape = if shape.is_empty() { String::new() } else { format!(" ({})", shape.join(", ")) };
        let base_model = self.base_model.as_deref().unwrap_or("not in the file");
        let mut facts = vec![
            ("format", self.format.to_owned()),
            ("base model", format!("{base_model}{shape}, hidden size {}", self.hidden_size)),
            match &self.condition {
                Some(condition) => ("condition", of_condition(condition)),
                None if self.operation.is_addition() => ("added to", in_words(self.positions, self.spans)),
                None => ("taken from", in_words(self.positions, self.spans)),
            },
        ];
        if let Some(training) = &self.training {
            facts.extend(trained(training));
        }
        if let Some(combination) = &self.combination {
            facts.push(("made of", parts(combination)));
        }
        if let Some(Calibration { budget, minus, plus, model }) = &self.calibration {
            let [minus, plus] = [minus, plus].map(|found| found.map_or_else(|| "none".to_owned(), signed));
            facts.push(("calibrated", format!("{budget}: {minus} and {plus} on {model}")));
        }
        facts
    }

    fn layer_table(&self, measured: bool) -> String {
        let mut rows = vec![vec!["layer", "norm"].into_iter().map(str::to_owned).collect::<Vec<String>>()];
        if measured {
            rows[0].extend(["residual median", "ratio", "residual mean", "ratio"].map(str::to_owned));
        }
        for layer in &self.layers {
            let mut row = vec![
                layer.layer.map_or("?".to_owned(), |layer| layer.to_string()),
                layer.norm.map_or("not finite".to_owned(), significant),
            ];
            if measured {
                let numbers = layer.residual.as_ref().map(|r| [r.median, r.ratio_to_median, r.mean, r.ratio_to_mean]);
                row.extend((0..4).map(|i| numbers.map_or("-".to_owned(), |numbers| significant(numbers[i]))));
            }
            rows.push(row);
        }
        table(&rows)
    }
}

/// `formal.safetensors × 1, concise.safetensors × -0.5, each brought to norm 1`
fn parts(combination: &Combination) -> String {
    let mut parts: Vec<String> =
        combination.parts.iter().map(|CombinationPart { file, weight, .. }| format!("{file} × {weight}")).collect();
    if combination.normalize {
        parts.push("each brought to norm 1".to_owned());
    }
    let without: Vec<&str> = combination.orthogonal_to.iter().map(|part| part.file.as_str()).collect();
    if !without.is_empty() {
        parts.push(format!("orthogonal to {}", without.join(" and ")));
    }
    parts.join(", ")
}

/// When a condition has prompts steered.
fn of_condition(Condition { reading, comparison, threshold, f1, need, rest }: &Condition) -> String {
    format!(
        "for --when: prompts are steered whose score ({reading}) is {comparison} {threshold:.4}; F1 {f1:.3} on {need} prompts that \
         need it and {rest} that do not"
    )
}

/// How it was trained, from the metadata.
fn trained(training: &Value) -> Vec<(&'static str, String)> {
    let set = |key: &str| training.get(key).map(card::dataset).filter(|set| !set.is_empty());
    let hash = training.get("dataset").and_then(|set| set.get("sha256")).and_then(Value::as_str);
    let hash = hash.map_or(String::new(), |hash| format!(", SHA-256 {}…", hash.chars().take(12).collect::<String>()));
    // Shown elsewhere.
    let is_new = |name: &str| !["layer", "layers", "positions", "model"].contains(&name);
    let settings = card::settings(training).into_iter().filter(|(name, _)| is_new(name));
    let settings: Vec<String> = settings.map(|(name, value)| unbroken(&format!("{name} {value}"))).collect();
    let outcome = Some(card::outcome_line(training)).filter(|outcome| !outcome.is_empty());
    let number = |key: &str| training.get("heldout").and_then(|heldout| heldout.get(key)).and_then(Value::as_f64);
    let count = card::heldout_pairs(training);
    let heldout = || {
        let sides = [("+1", "positive"), ("-1", "negative")].map(|(d, side)| {
            let (margin, right) = (number(&format!("{side}_margin"))?, number(&format!("{side}_right"))?);
            Some(format!("{margin:+.4} at {d} ({} right)", in_percent(right, count)))
        });
        let epoch = training.get("best_epoch").and_then(Value::as_u64).map(|epoch| format!("epoch {epoch}: "));
        let pairs = set("eval_dataset").map_or(String::new(), |set| format!(" on {set}"));
        let [positive, negative] = sides;
        Some(format!("{}margin {}, {}{pairs}", epoch.unwrap_or_default(), positive?, negative?))
    };
    [
        ("data", set("dataset").map(|set| set + &hash)),
        ("settings", Some(settings.join(", ")).filter(|text| !text.is_empty())),
        ("reached", outcome),
        ("held out", heldout()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn token_table(layer: &LayerReport, promoted: &[InspectedToken], suppressed: &[InspectedToken]) -> String {
    let cell = |tokens: &[InspectedToken], row: usize| {
        tokens.get(row).map_or([String::new(), String::new()], |t| [format!("{:?}", t.token), format!("{:+.2}", t.score)])
    };
    let width = |tokens: &[InspectedToken]| {
        (0..tokens.len()).map(|row| measure_text_width(&cell(tokens, row)[0])).max().unwrap_or(0).max("suppresses".len())
    };
    let (left, right) = (width(promoted), width(suppressed));
    let pad = |text: &str, width: usize| pad_str(text, width, Alignment::Left, None).into_owned();
    let mut out = format!("  {}\n  {}  {:>7}    suppresses\n", layer.name(), pad("promotes", left), "");
    for row in 0..promoted.len().max(suppressed.len()) {
        let ([up, up_score], [down, down_score]) = (cell(promoted, row), cell(suppressed, row));
        out += &format!("  {}  {up_score:>7}    {}  {down_score:>7}\n", pad(&up, left), pad(&down, right));
    }
    out
}

impl CosineMatrix {
    fn to_text(&self, vectors: &[VectorReport]) -> String {
        let layer = self.layer.map_or("layer not known".to_owned(), |layer| format!("layer {layer}"));
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(self.vectors.iter().map(|index| format!("[{}]", index + 1)));
        rows[0].push(String::new());
        for (index, cosines) in self.vectors.iter().zip(&self.cosines) {
            let mut row = vec![format!("[{}]", index + 1)];
            row.extend(cosines.iter().map(|cosine| cosine.map_or("-".to_owned(), |cosine| format!("{cosine:+.3}"))));
            row.push(vectors.get(*index).map_or(String::new(), |vector| vector.file.clone()));
            rows.push(row);
        }
        format!("cosine, {layer}\n{}", table(&rows))
    }
}

/// Columns to the right, but a last column of text (its head is empty) to the left.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let is_text = column > 0 && rows.first().and_then(|head| head.get(column)).is_some_and(String::is_empty);
                let alignment = if is_text { Alignment::Left } else { Alignment::Right };
                pad_str(cell, *width, alignment, None).into_owned()
            })
            .collect();
        out += format!("  {}", line.join("   ")).trim_end();
        out.push('\n');
    }
    out
}

/// Four significant digits.
fn significant(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e6).contains(&size) => format!("{x:.3e}"),
        size => format!("{x:.*}", (3.0 - size.log10().floor()).max(0.0) as usize),
    }
}

/// A short phrase whose spaces are no place for a line's end.
fn unbroken(phrase: &str) -> String {
    if phrase.chars().count() < WIDTH / 3 { phrase.replace(' ', NO_BREAK) } else { phrase.to_owned() }
}

const NO_BREAK: &str = "\u{a0}";

/// Lines that end before the page does, all indented by `indent` columns.
fn wrapped(text: &str, indent: usize) -> String {
    let width = terminal::terminal_width().unwrap_or(WIDTH).min(WIDTH).max(indent + 20);
    let mut out = String::new();
    let mut used = width;
    // A file's metadata is not to be trusted with the terminal.
    let text = text.replace(char::is_control, " ");
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let len = measure_text_width(word);
        if used + 1 + len > width {
            out += &format!("{}{}{word}", if out.is_empty() { "" } else { "\n" }, " ".repeat(indent));
            used = indent + len;
        } else {
            out += &format!(" {word}");
            used += 1 + len;
        }
    }
    out.push('\n');
    out.replace(NO_BREAK, " ")
}
