//! Tests of `thought`.

use super::*;

/// Thought and answer of a text that comes in pieces of `size` characters.
fn parted(text: &str, size: usize, in_thought: bool) -> (String, String) {
    let characters: Vec<char> = text.chars().collect();
    let mut parted = Parted::new(in_thought);
    let mut pieces: Vec<ThoughtPiece> =
        characters.chunks(size).flat_map(|part| parted.push(&part.iter().collect::<String>())).collect();
    pieces.extend(parted.finish());
    let (mut thought, mut answer) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            ThoughtPiece::Thought(text) => thought += &text,
            ThoughtPiece::Answer(text) => answer += &text,
        }
    }
    (thought, answer)
}

#[test]
fn a_thought_ends_at_its_tag_however_the_text_is_cut() {
    for size in 1..40 {
        let both = |text, in_thought| parted(text, size, in_thought);
        let owned = |thought: &str, answer: &str| (thought.to_owned(), answer.to_owned());
        assert_eq!(both("Let me see <b> ü</think>\n\nYes.\n", true), owned("Let me see <b> ü", "Yes.\n"));
        assert_eq!(both("\n<think>\nHm.\n</think>\n\nYes.", false), owned("\nHm.\n", "Yes."));
        assert_eq!(both("I <think> so.</think>", false), owned("", "I <think> so.</think>"));
        assert_eq!(both(" <thin", false), owned("", " <thin"));
        assert_eq!(both("Never done </thin", true), owned("Never done </thin", ""));
    }
}

#[test]
fn text_is_told_at_once_where_it_can_be_no_tag() {
    let mut parted = Parted::new(false);
    assert_eq!(parted.push(" Yes"), [ThoughtPiece::Answer(" Yes".into())]);
    let mut parted = Parted::new(true);
    assert_eq!(parted.push("a<"), [ThoughtPiece::Thought("a".into())]);
    assert_eq!(parted.push("b"), [ThoughtPiece::Thought("<b".into())]);
}
