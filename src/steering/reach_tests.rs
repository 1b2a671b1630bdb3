//! Tests of `reach`.

use super::*;
use crate::text::spans::Spans;

/// A prompt of three tokens and two responses.
fn pair(chosen: &[u32], rejected: &[u32], spans: Option<Spans>) -> EncodedPair {
    let response = |ids: &[u32]| EncodedResponse {
        ids: [&[1, 2, 3], ids].concat(),
        start: 3,
        in_spans: spans.map(|spans| (0..3 + ids.len()).map(|i| spans.includes_response() == (i >= 3)).collect()),
    };
    EncodedPair { row: 0, chosen: response(chosen), rejected: response(rejected) }
}

fn is_undecided(positions: Positions, pair: &EncodedPair) -> bool {
    Reach::of(positions, [pair]).undecided == 1
}

#[test]
fn a_letter_is_missed_by_rules_without_the_token_that_predicts_it() {
    let end = 9;
    let letters = [pair(&[7], &[8], None), pair(&[7, end], &[8, end], None)];
    for letters in &letters {
        assert!(is_undecided(Positions::Response, letters));
        for rule in [Positions::All, Positions::Prompt, Positions::Last] {
            assert!(!is_undecided(rule, letters), "{rule}");
        }
    }
    // The prompt's last token and the response, as the encoder tells them.
    let told = |mut pair: EncodedPair| {
        for response in [&mut pair.chosen, &mut pair.rejected] {
            response.in_spans = Some((0..response.ids.len()).map(|index| index >= 2).collect());
        }
        pair
    };
    assert!(!is_undecided("last+response".parse().unwrap(), &told(pair(&[7], &[8], None))));
    // The letter stands behind a token of the response, or a word behind it differs, too.
    assert!(!is_undecided(Positions::Response, &pair(&[4, 7], &[4, 8], None)));
    assert!(!is_undecided(Positions::Response, &pair(&[7, 5], &[8, 6], None)));
    assert!(!is_undecided(Positions::Response, &pair(&[7], &[8, 6], None)));
    // Equal answers are no choice.
    assert!(!is_undecided(Positions::Response, &pair(&[7], &[7], None)));
    // The assistant's words begin with the response, too.
    assert!(is_undecided(Positions::All, &pair(&[7], &[8], Some(Spans::Assistant))));
    assert!(!is_undecided(Positions::All, &pair(&[7], &[8], Some(Spans::User))));
}

#[test]
fn a_question_counts_once_and_all_of_its_answers_must_be_letters() {
    let of = |question: &[EncodedPair]| {
        let mut reach = Reach::default();
        reach.count(Positions::Response, question);
        reach
    };
    let letters = [pair(&[5], &[6], None), pair(&[7], &[8], None)];
    assert_eq!(of(&letters), Reach { all: 1, reached: 0, undecided: 1 });
    // The last of three answers occurs twice.
    assert_eq!(of(&[pair(&[5], &[6], None), pair(&[7], &[7], None)]), Reach { all: 1, reached: 0, undecided: 1 });
    // The answers of each pair differ in one token alone, those of different pairs in two.
    let words = [pair(&[5, 1], &[6, 1], None), pair(&[5, 2], &[6, 2], None)];
    assert!(words.iter().all(|pair| is_undecided(Positions::Response, pair)));
    assert_eq!(of(&words), Reach { all: 1, reached: 1, undecided: 0 });
}

#[test]
fn a_pair_is_reached_where_a_token_before_the_last_of_a_response_is_steered() {
    let end = 9;
    let reached = |positions: Positions, pair: EncodedPair| Reach::of(positions, [&pair]).reached == 1;
    assert!(!reached(Positions::Response, pair(&[7], &[8], None)));
    assert!(reached(Positions::Response, pair(&[7], &[8, end], None)));
    assert!(reached(Positions::Last, pair(&[7], &[8], None)));
    assert!(!reached(Positions::Response, pair(&[7, end], &[8, end], Some(Spans::User))));
    assert!(!reached(Positions::Prompt, pair(&[7, end], &[8, end], Some(Spans::Assistant))));
}
