//! Numbers in texts: the reference of a question that a number answers, and the number that a text ends with.

use serde_json::Value;

/// What stands before the answer in GSM8K's worked solutions.
const MARK: &str = "####";

/// The number that a cell of references gives: what stands behind `####`, else the whole cell.
pub(super) fn reference(cell: &Value) -> Option<f64> {
    match cell {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let answer = text.rsplit_once(MARK).map_or(text.as_str(), |(_, answer)| answer).trim();
            number(answer.trim_start_matches('$')).filter(|_| !answer.contains(char::is_whitespace))
        }
        _ => None,
    }
}

/// Returns the last number of a text, as the answer of a worked solution is read: `$1,080.50.` is 1080.5, and a minus sign counts where no
/// digit or letter stands before it.
#[must_use]
pub fn last_number(text: &str) -> Option<f64> {
    let text = text.replace('\u{2212}', "-");
    let is_part = |letter: char| letter.is_ascii_digit() || matches!(letter, ',' | '.');
    let mut end = text.len();
    while let Some(last) = text[..end].rfind(|letter: char| letter.is_ascii_digit()) {
        let digits = text[..=last]
            .rfind(|letter| !is_part(letter))
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        let before = text[..digits].trim_end_matches('$');
        let is_negative = before.strip_suffix('-').is_some_and(|rest| !rest.ends_with(|letter: char| letter.is_alphanumeric()));
        if let Some(found) = number(&text[digits..=last]) {
            return Some(if is_negative { -found } else { found });
        }
        end = digits;
    }
    None
}

/// A number in which commas part the digits, or none.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(',').trim_end_matches('.').replace(',', "");
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
#[path = "numbers_tests.rs"]
mod tests;
