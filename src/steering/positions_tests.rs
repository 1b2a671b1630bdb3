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
        (Positions::LastAndResponse, [false, true, true, true]),
    ] {
        assert_eq!(positions.map(|position| rule.includes(position)), expected, "{rule}");
        assert_eq!(rule.to_string().parse::<Positions>().unwrap(), rule);
    }
    assert_eq!(Positions::LastAndResponse.to_string(), "last+response");
    assert_eq!(serde_json::to_string(&Positions::LastAndResponse).unwrap(), "\"last+response\"");
    assert!("first".parse::<Positions>().is_err() && "system".parse::<Spans>().is_err());
}

#[test]
fn rules_that_leave_no_token_are_refused() {
    for (positions, spans) in [
        (Positions::Response, Spans::User),
        (Positions::LastAndResponse, Spans::User),
        (Positions::Last, Spans::User),
        (Positions::Last, Spans::Assistant),
    ] {
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
        for rule in [Positions::All, Positions::Prompt, Positions::Last, Positions::LastAndResponse] {
            assert!(!rule.miss_choice(letters), "{rule}");
        }
    }
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
