//! An answer on standard output while it comes: a thought is dim on a terminal with colours, and stands between its tags
//! elsewhere.

use std::io;

use bipo::text::chat::THINK;
use bipo::text::thought::ThoughtPiece;

use crate::terminal;

/// An answer that is shown piece by piece, or not at all.
pub struct Screen {
    is_shown: bool,
    in_thought: bool,
}

impl Screen {
    /// `is_shown` is false where the answer is printed otherwise.
    pub fn new(is_shown: bool) -> Self {
        Self { is_shown, in_thought: false }
    }

    pub fn show(&mut self, piece: &ThoughtPiece) -> io::Result<()> {
        let is_thought = matches!(piece, ThoughtPiece::Thought(_));
        let border = self.border(is_thought);
        let text = match is_thought && console::colors_enabled() {
            true => console::style(piece.text()).dim().to_string(),
            false => piece.text().to_owned(),
        };
        self.write(&format!("{border}{text}"))
    }

    /// Ends the answer's last line.
    pub fn end(&mut self) -> io::Result<()> {
        let border = self.border(false);
        self.write(&format!("{}\n", border.trim_end()))
    }

    /// What stands where a thought begins or ends.
    fn border(&mut self, is_thought: bool) -> String {
        let [open, close] = THINK;
        let has_colours = console::colors_enabled();
        match (std::mem::replace(&mut self.in_thought, is_thought), is_thought) {
            (false, true) if !has_colours => open.to_owned(),
            (true, false) if has_colours => "\n\n".to_owned(),
            (true, false) => format!("{close}\n\n"),
            _ => String::new(),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        if self.is_shown { terminal::result(text) } else { Ok(()) }
    }
}
