//! Texts of a page, side by side by magnitude and coloured by it: blue for negative, the page's own colour at 0, orange for
//! positive; the stronger, the larger the magnitude.

use minijinja::{Value, context};

use super::axis::minus;
use crate::steering::magnitudes;

/// What was generated from one prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// Text of the prompt.
    pub prompt: String,
    /// What was steered with, small beside the prompt; empty where a page has but one vector.
    pub subject: String,
    /// One answer a magnitude, in the order in which they are shown.
    pub answers: Vec<ShownAnswer>,
}

/// What was generated at one magnitude.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShownAnswer {
    /// The factor on the vector; none where there is no vector.
    pub magnitude: Option<f64>,
    /// Text of the answer.
    pub text: String,
    /// What is known of the text, small below it: its length, a score.
    pub note: String,
}

impl Generations {
    /// What a page's template knows of the texts; the colours are strongest at the page's largest magnitude.
    pub(super) fn data(&self, largest: f64) -> Value {
        let answer = |answer: &ShownAnswer| {
            let magnitude = answer.magnitude.unwrap_or_default();
            context! {
                sign => if magnitude < 0.0 { "negative" } else if magnitude > 0.0 { "positive" } else { "zero" },
                strength => format!("{:.0}", 100.0 * (magnitude.abs() / largest.max(f64::MIN_POSITIVE)).min(1.0)),
                magnitude => answer.magnitude.map_or_else(|| "no vector".to_owned(), signed),
                text => answer.text, note => answer.note,
            }
        };
        let answers: Vec<Value> = self.answers.iter().map(answer).collect();
        context! { prompt => self.prompt, subject => self.subject, answers }
    }
}

/// Magnitudes are f32 elsewhere: shown as such, 0.1 has no more digits than it was given.
pub(super) fn signed(magnitude: f64) -> String {
    minus(&magnitudes::signed(magnitude as f32))
}
