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
        assert_eq!(positions.map(|position| rule.steers(position, None)), expected, "{rule}");
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
        ("last:1", Positions::Last, "last"),
        ("last+last", Positions::Last, "last"),
        ("last+last:2", ends(0, 2, false), "last:2"),
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
fn ends_are_where_the_encoder_says_and_without_it_the_last_token_and_the_response_alone_are_known() {
    let everywhere = [TokenPosition::Prompt, TokenPosition::LastOfPrompt, TokenPosition::Response];
    for (rule, told, untold, needs_template) in [
        ("first:2", [true, true, false], [false, false, false], true),
        ("last:2", [true, true, false], [false, true, false], true),
        ("last+response", [true, true, true], [false, true, true], false),
        ("first:1+response", [true, true, true], [false, false, true], true),
    ] {
        let ends = rule.parse::<Positions>().unwrap();
        assert_eq!(everywhere.map(|position| ends.steers(position, Some(true))), told, "{rule}");
        assert!(!everywhere.iter().any(|position| ends.steers(*position, Some(false))), "{rule}");
        assert_eq!(everywhere.map(|position| ends.steers(position, None)), untold, "{rule}");
        assert_eq!(ends.needs_template(), needs_template, "{rule}");
    }
    assert!(Positions::All.steers(TokenPosition::Response, None) && !Positions::All.steers(TokenPosition::Prompt, Some(false)));
    assert!(!Positions::All.needs_template() && !Positions::Last.needs_template());
}

#[test]
fn ends_are_told_in_words() {
    for (rule, expected) in [
        ("first:2", "the prompt's first 2 tokens, not counting what every prompt of the template begins with"),
        (
            "first:1+last:3",
            "the prompt's first token and its last 3 tokens, not counting what every prompt of the template begins with",
        ),
        (
            "last+response",
            "the prompt's last token, not counting what every prompt of the template begins with, and at all tokens of the response",
        ),
    ] {
        assert_eq!(in_words(rule.parse().unwrap(), None), expected);
    }
}
