//! Tests of `letters`.

use super::*;

#[test]
fn only_the_options_texts_change_places() {
    for (question, expected) in [
        ("Q? (A) x (B) y", Some("Q? (A) y (B) x")),
        ("Q\n(A) x y \n\n(B) z\n\nAnswer with a letter.", Some("Q\n(A) z \n\n(B) x y\n\nAnswer with a letter.")),
        ("(A) as in (B)?\n(A) é\n(B) 漢", Some("(A) as in (B)?\n(A) 漢\n(B) é")),
        ("Q? (A) x (B) y (C) z", Some("Q? (A) y (B) x (C) z")),
        ("(B) x (A) y", None),
        ("nothing", None),
    ] {
        assert_eq!(swapped(question, 'A', 'B').as_deref(), expected, "{question}");
    }
}

#[test]
fn options_between_the_two_stay_where_they_are() {
    let question = "Q\n (A) one\n (B) two\n (C) three\n (D) four\nAnswer:";
    assert_eq!(swapped(question, 'A', 'C').unwrap(), "Q\n (A) three\n (B) two\n (C) one\n (D) four\nAnswer:");
    assert_eq!(swapped(question, 'B', 'D').unwrap(), "Q\n (A) one\n (B) four\n (C) three\n (D) two\nAnswer:");
    assert_eq!(swapped("Q (A) x (B) y (C) z", 'A', 'C').unwrap(), "Q (A) z (B) y (C) x");
    assert_eq!(swapped(question, 'A', 'E'), None);
}

#[test]
fn letters_of_answers_are_told_from_texts() {
    assert_eq!([" (A)", "(C", "B", " D "].map(letter), [Some('A'), Some('C'), Some('B'), Some('D')]);
    assert_eq!([" Yes", "", "a", "(AB)"].map(letter), [None; 4]);
}
