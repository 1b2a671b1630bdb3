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
    assert!("first".parse::<Positions>().is_err() && "system".parse::<Spans>().is_err());
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
