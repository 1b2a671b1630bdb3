//! Finds the contents of the messages in a rendered conversation. The template is rendered a second time with a mark in place
//! of each content, so that the text around the marks is the template's own. The first rendering must consist of exactly these
//! pieces, with the contents between them, whole or stripped of white space; otherwise nothing is located.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::data::Message;

/// Place of a message's content in the rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Index of the message.
    pub message: usize,
    /// Byte range of the content in the text.
    pub bytes: Range<usize>,
}

/// Character at the beginning of a mark. It is for private use, so that no template writes it.
const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';

/// Returns the messages with a mark in place of each content.
pub(super) fn marked(messages: &[Message]) -> Vec<Message> {
    let mark = |(index, message): (usize, &Message)| Message::new(&message.role, format!("{OPEN}{index}{CLOSE}"));
    messages.iter().enumerate().map(mark).collect()
}

/// Locates the contents in `text`, given the rendering of the [`marked`] messages. Returns `None` if the two do not fit
/// together.
pub(super) fn locate(text: &str, marked_text: &str, messages: &[Message]) -> Option<Vec<Content>> {
    let pieces = pieces(marked_text, messages)?;
    // For each number of leading pieces: every place in the text where they can end, with the place where the last of them
    // begins.
    let mut reached = vec![BTreeMap::from([(0, 0)])];
    for piece in &pieces {
        let mut ends = BTreeMap::new();
        for start in reached.last()?.keys() {
            let rest = text.get(*start..)?;
            for wording in piece.wordings(messages) {
                if rest.starts_with(wording) {
                    ends.entry(start + wording.len()).or_insert(*start);
                }
            }
        }
        reached.push(ends);
    }
    let mut end = text.len();
    let mut found = Vec::new();
    for (piece, ends) in pieces.iter().zip(&reached[1..]).rev() {
        let start = *ends.get(&end)?;
        if let TemplatePiece::Content(message) = piece {
            found.push(Content { message: *message, bytes: start..end });
        }
        end = start;
    }
    found.reverse();
    Some(found)
}

enum TemplatePiece<'a> {
    Template(&'a str),
    Content(usize),
}

impl<'a> TemplatePiece<'a> {
    /// Returns the texts that this piece can have in the rendered conversation.
    fn wordings(&self, messages: &'a [Message]) -> Vec<&'a str> {
        match self {
            Self::Template(text) => vec![text],
            Self::Content(message) => {
                let content = messages[*message].content.as_str();
                vec![content, content.trim_end(), content.trim_start(), content.trim()]
            }
        }
    }
}

fn pieces<'a>(marked_text: &'a str, messages: &[Message]) -> Option<Vec<TemplatePiece<'a>>> {
    let mut pieces = Vec::new();
    let mut rest = marked_text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (index, after) = after.split_once(CLOSE)?;
        let message = index.parse().ok().filter(|message| *message < messages.len())?;
        pieces.extend([TemplatePiece::Template(before), TemplatePiece::Content(message)]);
        rest = after;
    }
    pieces.push(TemplatePiece::Template(rest));
    Some(pieces)
}
