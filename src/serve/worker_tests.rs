//! Tests of `worker`.

use super::*;

/// The pieces that come out while `pieces` go in, and whether a stop was found.
fn held(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
    let mut held = Held::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
    let mut found = Vec::new();
    for piece in pieces {
        held.push(piece);
        found.push(held.ready());
        if held.has_stopped {
            return (found, true);
        }
    }
    held.release();
    found.push(held.ready());
    (found, false)
}

#[test]
fn a_stop_is_found_across_pieces_and_nothing_of_it_is_sent() {
    assert_eq!(held(&[], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    assert_eq!(held(&["END"], &["text E", "N", "D more"]), (vec!["text ".into(), String::new(), String::new()], true));
    assert_eq!(held(&["END"], &["E", "NE", "N."]), (vec![String::new(), "EN".into(), "EN.".into(), String::new()], false));
    assert_eq!(held(&["\n\n", "é!"], &["a\n", "bé", "!c"]), (vec!["a".into(), "\nb".into(), String::new()], true));
    assert_eq!(held(&["xyz"], &["ax", "y"]), (vec!["a".into(), String::new(), "xy".into()], false));
    assert_eq!(held(&[""], &["a"]), (vec!["a".into(), String::new()], false));
}
