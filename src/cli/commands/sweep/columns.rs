//! The text view of a sweep: side by side where the terminal has room, else one below the other.

use bipo::generate::Generation;
use bipo::steering::magnitudes::signed;

use super::{PromptTexts, is_not_finite};
use crate::terminal;

/// The least width of a column in characters; narrower terminals get one text below the other.
const NARROWEST_COLUMN: usize = 28;

impl PromptTexts {
    /// Lays the texts out in columns where the terminal has room, else one below the other.
    pub fn to_text(&self) -> String {
        let when = self.when.map_or(String::new(), |verdict| format!("{}\n", super::in_words(verdict)));
        let mut out = format!("{}\n{when}\n", console::style(&self.prompt).bold());
        let count = self.generations.len().max(1);
        match terminal::terminal_width().map(|width| (width.saturating_sub(2 * (count - 1))) / count) {
            Some(column) if count > 1 && column >= NARROWEST_COLUMN => out + &self.columns(column),
            _ => {
                for (generation, text) in &self.generations {
                    out += &format!("{}\n{}\n\n", console::style(heading(generation)).cyan(), text.trim());
                }
                out
            }
        }
    }

    fn columns(&self, width: usize) -> String {
        let columns: Vec<Vec<String>> = self
            .generations
            .iter()
            .map(|(generation, text)| {
                let mut lines = wrap(&heading(generation), width);
                lines.push("─".repeat(width));
                lines.extend(text.trim().lines().flat_map(|line| wrap(line, width)));
                lines
            })
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let mut out = String::new();
        for row in 0..height {
            let cell = |column: &Vec<String>| {
                let text = column.get(row).map_or("", String::as_str);
                console::pad_str(text, width, console::Alignment::Left, None).into_owned()
            };
            let line: Vec<String> = columns.iter().map(cell).collect();
            out += line.join("  ").trim_end();
            out.push('\n');
        }
        out.push('\n');
        out
    }
}

fn heading(generation: &Generation) -> String {
    let tokens = generation.token_ids.len();
    let end = if is_not_finite(generation.finish_reason) { ", then logits that are not finite" } else { "" };
    format!("magnitude {}  dose {}  {tokens} tokens{end}", signed(generation.magnitude), dose(generation.dose))
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let len = console::measure_text_width(word);
        if used > 0 && used + 1 + len > width {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut() else { break };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += len;
    }
    lines.iter().flat_map(|line| split_long(line, width)).collect()
}

fn split_long(line: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(width).map(|part| part.iter().collect()).collect()
}

/// A dose with two digits behind the point, or as many as show two that are not 0: the residuals of some models are long. One with
/// many digits before the point has an exponent.
pub fn dose(dose: f64) -> String {
    if dose.is_finite() && dose.abs() >= 1e6 {
        return format!("{dose:.2e}");
    }
    let small = -dose.abs().log10().floor(); // infinite for 0
    let digits = if small.is_finite() { (small + 1.0).clamp(2.0, 8.0) as usize } else { 2 };
    format!("{dose:.digits$}")
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
