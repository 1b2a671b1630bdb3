//! Tests of `positions`.

use super::*;

#[test]
fn each_rule_includes_its_places_and_no_other() {
    let places = [Place::of(0, 2), Place::of(1, 2), Place::of(2, 2), Place::of(7, 2)];
    assert_eq!(places, [Place::Prompt, Place::LastOfPrompt, Place::Response, Place::Response]);
    for (rule, expected) in [
        (Positions::All, [true, true, true, true]),
        (Positions::Prompt, [true, true, false, false]),
        (Positions::Response, [false, false, true, true]),
        (Positions::Last, [false, true, false, false]),
    ] {
        assert_eq!(places.map(|place| rule.includes(place)), expected, "{rule}");
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
        assert_eq!(
            error.to_string(),
            format!("--positions {positions} with --spans {spans} leaves no token: take one of the two")
        );
    }
    assert!(Positions::Last.check(None).is_ok() && Positions::Prompt.check(Some(Spans::Assistant)).is_ok());
}
