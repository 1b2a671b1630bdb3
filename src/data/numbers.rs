//! Numbers in texts: the reference of a question that a number answers, and the number that a text ends with.

use serde_json::Value;

/// What stands before the answer in GSM8K's worked solutions.
const MARK: &str = "####";

/// Minus signs: that of keyboards, and that of typesetters.
const MINUS: [char; 2] = ['-', '\u{2212}'];

/// The number that a cell of references gives: what stands behind `####`, else the whole cell, and nothing beside it.
pub(super) fn reference(cell: &Value) -> Option<f64> {
    match cell {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let answer = text.rsplit_once(MARK).map_or(text.as_str(), |(_, answer)| answer).trim();
            let number = answer.trim_start_matches(MINUS).trim_start_matches('$').trim_start_matches(MINUS);
            last_number(answer).filter(|_| number.chars().all(is_part))
        }
        _ => None,
    }
}

/// Returns the last number of a text, as the answer of a worked solution is read: `$1,080.50.` is 1080.5, `2,3` ends in 3, and a minus
/// sign counts where no letter or digit stands before it.
#[must_use]
pub fn last_number(text: &str) -> Option<f64> {
    let mut end = text.len();
    while let Some(last) = text[..end].rfind(|letter: char| letter.is_ascii_digit()) {
        let start = text[..last].trim_end_matches(is_part).len();
        let (number, skipped) = number_at_end(&text[start..=last]);
        let before = text[..start + skipped].trim_end_matches('$');
        let is_negative =
            before.strip_suffix(MINUS).is_some_and(|rest| !rest.ends_with(|letter: char| letter.is_alphanumeric()));
        if let Some(number) = number {
            return Some(if is_negative { -number } else { number });
        }
        end = start;
    }
    None
}

/// Whether a character can stand in a number without a sign.
fn is_part(letter: char) -> bool {
    letter.is_ascii_digit() || matches!(letter, ',' | '.')
}

/// The number at the end of digits, commas and points, and how many of these stand before it.
fn number_at_end(run: &str) -> (Option<f64>, usize) {
    let mut skipped = run.len() - run.trim_start_matches([',', '.']).len();
    // A point alone is part of the number, as in .5; several end a sentence.
    if run[..skipped].ends_with('.') && !run[..skipped].ends_with("..") {
        skipped -= 1;
    }
    if !has_groups_of_three(&run[skipped..]) {
        skipped += run[skipped..].rfind(',').map_or(0, |comma| comma + 1);
    }
    (run[skipped..].replace(',', "").parse().ok().filter(|number: &f64| number.is_finite()), skipped)
}

/// Whether the commas of a number part its thousands.
fn has_groups_of_three(number: &str) -> bool {
    let mut groups = number.split('.').next().unwrap_or(number).split(',').map(str::len);
    groups.next().is_some_and(|first| first <= 3) && groups.all(|group| group == 3)
}

#[cfg(test)]
#[path = "numbers_tests.rs"]
mod tests;
