//! Tests of `positions`.

use super::*;

#[test]
fn each_rule_includes_its_places_and_no_other() {
    let positions = [TokenPosition::of(0, 2), TokenPosition::of(1, 2), TokenPosition::of(2, 2), TokenPosition::of(7, 2)];
    assert_eq!(
        positions,
        [TokenPosition::Prompt, TokenPosition::LastOfPrompt, TokenPosition::Response, TokenPosition::Response]
    );
    for (rule, expected) in [
        (Positions::All, [true, true, true, true]),
        (Positions::Prompt, [true, true, false, false]),
        (Positions::Response, [false, false, true, true]),
        (Positions::Last, [false, true, false, false]),
    ] {
        assert_eq!(positions.map(|position| rule.includes(position)), expected, "{rule}");
        assert_eq!(rule.to_string().parse::<Positions>().unwrap(), rule);
    }
    assert!("system".parse::<Spans>().is_err());
}

#[test]
fn ends_are_read_as_they_are_written_and_joined_to_the_simplest_rule() {
    let ends = |first, last, response| Positions::Ends(Ends { first, last, response });
    for (text, expected, written) in [
        ("first:2+last:3", ends(2, 3, false), "first:2+last:3"),
        ("last:3+first:2", ends(2, 3, false), "first:2+last:3"),
        ("first:2+first:5", ends(5, 0, false), "first:5"),
        ("last+response", ends(0, 1, true), "last:1+response"),
        ("prompt+first:2", Positions::Prompt, "prompt"),
        ("response+prompt", Positions::All, "all"),
        ("last:1+all", Positions::All, "all"),
        ("last", Positions::Last, "last"),
    ] {
        assert_eq!(text.parse::<Positions>().unwrap(), expected, "{text}");
        assert_eq!(expected.to_string(), written);
        assert_eq!(serde_json::to_value(expected).unwrap(), written);
        assert_eq!(serde_json::from_value::<Positions>(text.into()).unwrap(), expected);
    }
    for text in ["first", "first:0", "first:-1", "last:70000", "last:", "", "first:2+", "middle", "first:2,last:2"] {
        let message = text.parse::<Positions>().unwrap_err().to_string();
        assert!(message.contains("expected all, prompt, response, last, first:N or last:N"), "{message}");
    }
}

#[test]
fn ends_are_where_the_encoder_says_and_nowhere_where_it_was_not_asked() {
    let ends = "first:2".parse::<Positions>().unwrap();
    assert!(ends.steers(TokenPosition::Prompt, Some(true)) && !ends.steers(TokenPosition::Prompt, Some(false)));
    assert!(!ends.steers(TokenPosition::Prompt, None) && !ends.steers(TokenPosition::Response, Some(true)));
    assert!(Positions::All.steers(TokenPosition::Response, None) && !Positions::All.steers(TokenPosition::Prompt, Some(false)));
    assert_eq!(in_words(ends, None), "the first 2 of the prompt's tokens after what every prompt begins with");
}

#[test]
fn rules_that_leave_no_token_are_refused() {
    for (positions, spans) in
        [(Positions::Response, Spans::User), (Positions::Last, Spans::User), (Positions::Last, Spans::Assistant)]
    {
        let error = positions.check(Some(spans)).unwrap_err();
        assert_eq!(error.to_string(), format!("positions {positions} with spans {spans} leaves no token: take one of the two"));
    }
    assert!(Positions::Last.check(None).is_ok() && Positions::Prompt.check(Some(Spans::Assistant)).is_ok());
}

/// A prompt of three tokens and two responses.
fn pair(chosen: &[u32], rejected: &[u32], spans: Option<Spans>) -> EncodedPair {
    let response = |ids: &[u32]| EncodedResponse {
        ids: [&[1, 2, 3], ids].concat(),
        start: 3,
        in_spans: spans.map(|spans| (0..3 + ids.len()).map(|i| spans.includes_response() == (i >= 3)).collect()),
    };
    EncodedPair { row: 0, chosen: response(chosen), rejected: response(rejected) }
}

#[test]
fn a_letter_is_missed_by_rules_without_the_token_that_predicts_it() {
    let end = 9;
    let letters = [pair(&[7], &[8], None), pair(&[7, end], &[8, end], None)];
    for letters in &letters {
        assert!(Positions::Response.miss_choice(letters));
        for rule in [Positions::All, Positions::Prompt, Positions::Last] {
            assert!(!rule.miss_choice(letters), "{rule}");
        }
    }
    // The prompt's last token and the response, as the encoder tells them.
    let told = |mut pair: EncodedPair| {
        for response in [&mut pair.chosen, &mut pair.rejected] {
            response.in_spans = Some((0..response.ids.len()).map(|index| index >= 2).collect());
        }
        pair
    };
    assert!(!"last+response".parse::<Positions>().unwrap().miss_choice(&told(pair(&[7], &[8], None))));
    // The letter stands behind a token of the response, or a word behind it differs, too.
    assert!(!Positions::Response.miss_choice(&pair(&[4, 7], &[4, 8], None)));
    assert!(!Positions::Response.miss_choice(&pair(&[7, 5], &[8, 6], None)));
    assert!(!Positions::Response.miss_choice(&pair(&[7], &[8, 6], None)));
    // Equal answers are no choice.
    assert!(!Positions::Response.miss_choice(&pair(&[7], &[7], None)));
    // The assistant's words begin with the response, too.
    assert!(Positions::All.miss_choice(&pair(&[7], &[8], Some(Spans::Assistant))));
    assert!(!Positions::All.miss_choice(&pair(&[7], &[8], Some(Spans::User))));
}
