//! Items whose question lists its own options, as `(A) … (B) …`: which two options are named, and the question with the two
//! exchanged.

use std::ops::Range;

/// Returns the letter of an answer such as ` (A)`, or `None` if it is another text.
pub(super) fn letter(answer: &str) -> Option<char> {
    let mut letters = answer.trim().trim_start_matches('(').trim_end_matches(')').chars();
    letters.next().filter(|letter| letter.is_ascii_uppercase() && letters.next().is_none())
}

/// Returns the question with the texts of two of its options exchanged, of which `x` comes first. Returns `None` if the question
/// does not list the two in this order.
pub(super) fn swapped(question: &str, x: char, y: char) -> Option<String> {
    let at_y = marker(question, y)?;
    let at_x = marker(&question[..at_y], x)?;
    let end_of_x = next(x).filter(|after| *after != y).and_then(|after| marker(&question[at_x..at_y], after));
    let first = trimmed(question, at_x + MARKER..end_of_x.map_or(at_y, |end| at_x + end));
    let second = trimmed(question, at_y + MARKER..question.len());
    // Neither lines below an option nor the option behind it are a part of it.
    let rest = &question[second.clone()];
    let behind = next(y).and_then(|after| rest.find(&format!("({after})")));
    let end = [rest.find('\n'), behind].into_iter().flatten().min();
    let second = trimmed(question, second.start..end.map_or(second.end, |end| second.start + end));
    let [a, b] = [&question[first.clone()], &question[second.clone()]];
    Some([&question[..first.start], b, &question[first.end..second.start], a, &question[second.end..]].concat())
}

/// Number of bytes of an option's letter in brackets.
const MARKER: usize = 3;

fn next(letter: char) -> Option<char> {
    ('A'..='Z').find(|next| *next > letter)
}

/// Finds where the option of this letter begins. A letter at the beginning of a line is preferred, and later letters to earlier
/// ones.
fn marker(text: &str, letter: char) -> Option<usize> {
    let begins_line = |at: &usize| text[..*at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty());
    let marker = format!("({letter})");
    let mut places = text.rmatch_indices(&marker).map(|(at, _)| at);
    places.clone().find(begins_line).or_else(|| places.next())
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = &text[range.clone()];
    let start = range.start + (inner.len() - inner.trim_start().len());
    start..start + inner.trim().len()
}

#[cfg(test)]
#[path = "letters_tests.rs"]
mod tests;
