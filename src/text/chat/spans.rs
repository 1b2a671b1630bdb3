//! Where the messages' own words are in a rendered conversation. The template is rendered once more with a mark in place of
//! each content: what stands around the marks is the template's. The real text must then be exactly those pieces with the
//! contents between them, as they are or stripped of white space at an end; anything else is not located.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Message;

/// The content of one message in the rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Index of the message.
    pub message: usize,
    /// Bytes of the text.
    pub bytes: Range<usize>,
}

/// Private-use characters: no template writes them, and contents are not in the marked rendering.
const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';

/// A mark for each message, in place of its content.
pub(super) fn marked(messages: &[Message]) -> Vec<Message> {
    let mark = |(index, message): (usize, &Message)| Message::new(&message.role, format!("{OPEN}{index}{CLOSE}"));
    messages.iter().enumerate().map(mark).collect()
}

/// The contents in `text`, given the rendering of [`marked`] messages; none where the two do not fit together.
pub(super) fn locate(text: &str, marked_text: &str, messages: &[Message]) -> Option<Vec<Content>> {
    let pieces = pieces(marked_text, messages)?;
    // Ends that the pieces up to each can reach, with the place where the last of them begins.
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
        if let Piece::Content(message) = piece {
            found.push(Content { message: *message, bytes: start..end });
        }
        end = start;
    }
    found.reverse();
    Some(found)
}

enum Piece<'a> {
    Template(&'a str),
    Content(usize),
}

impl<'a> Piece<'a> {
    /// What this piece may read in the real text.
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

fn pieces<'a>(marked_text: &'a str, messages: &[Message]) -> Option<Vec<Piece<'a>>> {
    let mut pieces = Vec::new();
    let mut rest = marked_text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (index, after) = after.split_once(CLOSE)?;
        let message = index.parse().ok().filter(|message| *message < messages.len())?;
        pieces.extend([Piece::Template(before), Piece::Content(message)]);
        rest = after;
    }
    pieces.push(Piece::Template(rest));
    Some(pieces)
}
