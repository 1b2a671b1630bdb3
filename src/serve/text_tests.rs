//! Tests of `text`.

use super::*;

/// Pieces that a client gets: texts, and the ids of the tokens with each.
type Pieces = Vec<(String, Vec<u32>)>;

/// The pieces that come out while `texts`, one a token, go in, with the places of their tokens, and whether a stop was found.
fn held(stops: &[&str], texts: &[Option<&str>]) -> (Pieces, Vec<usize>, bool) {
    let mut held = Held::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
    let (mut found, mut offsets) = (Vec::new(), Vec::new());
    let mut take = |held: &mut Held| {
        let (text, tokens) = held.ready();
        offsets.extend(tokens.iter().map(|token| token.offset));
        found.push((text, tokens.iter().map(|token| token.id).collect()));
    };
    for (id, text) in texts.iter().enumerate() {
        held.push(id as u32, None, text.map(str::to_owned));
        take(&mut held);
        if held.has_stopped {
            return (found, offsets, true);
        }
    }
    held.end("");
    take(&mut held);
    (found, offsets, false)
}

fn texts(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
    let pieces: Vec<Option<&str>> = pieces.iter().copied().map(Some).collect();
    let (found, _, has_stopped) = held(stops, &pieces);
    (found.into_iter().map(|(text, _)| text).collect(), has_stopped)
}

#[test]
fn a_stop_is_found_across_pieces_and_nothing_of_it_is_sent() {
    assert_eq!(texts(&[], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    assert_eq!(texts(&["END"], &["text E", "N", "D more"]), (vec!["text ".into(), String::new(), String::new()], true));
    assert_eq!(texts(&["END"], &["E", "NE", "N."]), (vec![String::new(), "EN".into(), "EN.".into(), String::new()], false));
    assert_eq!(texts(&["\n\n", "é!"], &["a\n", "bé", "!c"]), (vec!["a".into(), "\nb".into(), String::new()], true));
    assert_eq!(texts(&["xyz"], &["ax", "y"]), (vec!["a".into(), String::new(), "xy".into()], false));
    assert_eq!(texts(&[""], &["a"]), (vec!["a".into(), String::new()], false));
}

#[test]
fn tokens_come_with_their_text_and_none_of_a_stop_comes() {
    let piece = |text: &str, ids: &[u32]| (text.to_owned(), ids.to_vec());
    // A token that is held back, because a stop may begin in it, comes when it is known that none does.
    let (found, offsets, _) = held(&["END"], &[Some("aE"), Some("N"), Some("é"), Some("b")]);
    assert_eq!(found, [piece("a", &[]), piece("", &[]), piece("ENé", &[0, 1, 2]), piece("b", &[3]), piece("", &[])]);
    assert_eq!(offsets, [0, 2, 3, 4]);
    // The token with a text in front of the stop is part of the text; those of the stop are not.
    let (found, offsets, has_stopped) = held(&["END"], &[Some("a"), Some("bE"), Some("N"), Some("Dc")]);
    assert_eq!(found, [piece("a", &[0]), piece("b", &[]), piece("", &[]), piece("", &[1])]);
    assert!(has_stopped && offsets == [0, 1]);
    let (found, _, _) = held(&["END"], &[Some("a"), Some("E"), Some("ND")]);
    assert_eq!(found, [piece("a", &[0]), piece("", &[]), piece("", &[])]);
    // Parts of a character come together; those of one that is never complete come at the end.
    let (found, offsets, _) = held(&[], &[Some("a"), None, None, Some("☀"), None]);
    assert_eq!(
        found,
        [piece("a", &[0]), piece("", &[]), piece("", &[]), piece("☀", &[1, 2, 3]), piece("", &[]), piece("", &[4])]
    );
    assert_eq!(offsets, [0, 1, 1, 1, 2]);
}

/// The characters of the last tokens were never complete, so that their text comes at the end alone.
#[test]
fn a_stop_in_the_text_that_comes_at_the_end_is_found() {
    let mut held = Held::new(vec!["\u{fffd}".to_owned()]);
    held.push(0, None, Some("ab".to_owned()));
    held.push(1, None, None);
    assert_eq!(held.ready().0, "ab");
    held.end("c\u{fffd}d");
    assert!(held.has_stopped);
    let (text, tokens) = held.ready();
    assert_eq!((text.as_str(), tokens.len()), ("c", 1));
}
