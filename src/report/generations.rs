//! Texts of a page, side by side by magnitude and coloured by it: blue for negative, the page's own colour at 0, orange for
//! positive; the stronger, the larger the magnitude.

use std::fmt::Write as _;

use super::html::escape;
use super::ticks::minus;

/// What was generated from one prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// The prompt.
    pub prompt: String,
    /// What was steered with, small beside the prompt; empty where a page has but one vector.
    pub subject: String,
    /// One a magnitude, in the order in which they are shown.
    pub answers: Vec<Answer>,
}

/// What was generated at one magnitude.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The factor on the vector; none where there is none.
    pub magnitude: Option<f64>,
    /// The text.
    pub text: String,
    /// What is known of it, small below it: its length, a score.
    pub note: String,
}

/// The scale of colours that all [`Generations`] of a page share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colours {
    largest: f64,
}

impl Colours {
    /// For everything that a page shows.
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Generations>) -> Self {
        let sizes = all.flat_map(|generations| &generations.answers).filter_map(|answer| Some(answer.magnitude?.abs()));
        Self { largest: sizes.filter(|size| size.is_finite()).fold(0.0, f64::max) }
    }

    /// The attributes of an element of a magnitude's colour.
    fn attributes(self, magnitude: f64) -> String {
        let strength = if self.largest > 0.0 { (magnitude.abs() / self.largest).min(1.0) } else { 0.0 };
        let sign = match magnitude {
            m if m < 0.0 => " negative",
            m if m > 0.0 => " positive",
            _ => "",
        };
        format!("class=\"answer{sign}\" style=\"--strength:{:.0}%\"", 100.0 * strength)
    }

    /// What the colours mean.
    pub(super) fn legend(self) -> String {
        let end = signed(self.largest);
        format!(
            "<p class=\"scale\"><span>{}</span><span class=\"bar\"></span><span>{end}</span><span class=\"of\">magnitude; 0 is the \
             untouched model</span></p>\n",
            signed(-self.largest)
        )
    }
}

impl Generations {
    pub(super) fn html(&self, colours: Colours) -> String {
        let columns = self.answers.len().max(1);
        let subject = match self.subject.is_empty() {
            true => String::new(),
            false => format!(" <span>{}</span>", escape(&self.subject)),
        };
        let mut out = format!(
            "<section class=\"prompt\"><h3><span>Prompt</span> <bdi>{}</bdi>{subject}</h3>\n<div class=\"answers\" \
             style=\"--columns:{columns}\">\n",
            escape(&self.prompt)
        );
        for answer in &self.answers {
            let note = match answer.note.is_empty() {
                true => String::new(),
                false => format!("<footer>{}</footer>", escape(&answer.note)),
            };
            let _ = writeln!(
                out,
                "<article {}><header>{}</header><p dir=\"auto\">{}</p>{note}</article>",
                colours.attributes(answer.magnitude.unwrap_or_default()),
                answer.magnitude.map_or_else(|| "no vector".to_owned(), signed),
                escape(answer.text.trim())
            );
        }
        out + "</div></section>\n"
    }
}

/// Magnitudes are f32 elsewhere: shown as such, 0.1 has no more digits than it was given.
fn signed(magnitude: f64) -> String {
    let magnitude = magnitude as f32;
    minus(&format!("{}{magnitude}", if magnitude > 0.0 { "+" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_grow_with_the_magnitude_of_either_sign() {
        let answer = |magnitude| Answer { magnitude: Some(magnitude), ..Answer::default() };
        let answers = vec![answer(-1.0), answer(0.0), answer(2.0)];
        let texts = Generations { prompt: "p".into(), answers, ..Generations::default() };
        let html = texts.html(Colours::of([&texts].into_iter()));
        for attributes in [
            "class=\"answer negative\" style=\"--strength:50%\"><header>−1</header>",
            "class=\"answer\" style=\"--strength:0%\"><header>0</header>",
            "class=\"answer positive\" style=\"--strength:100%\"><header>+2</header>",
        ] {
            assert!(html.contains(attributes), "{html}");
        }
    }

    #[test]
    fn what_a_model_writes_is_no_markup() {
        let answer = Answer { magnitude: Some(f64::NAN), text: "</p><script>alert(1)</script>".into(), note: "<b>".into() };
        let markup = "<img src=x onerror=alert(1)>";
        let texts = Generations { prompt: markup.into(), subject: markup.into(), answers: vec![answer] };
        let html = texts.html(Colours::of([&texts].into_iter()));
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"), "{html}");
        assert!(html.contains("&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    }
}
