//! Tests of `command`.

use super::*;

fn refusal(line: &str) -> String {
    ChatLine::parse(line).unwrap_err().to_string()
}

#[test]
fn a_line_without_a_slash_is_a_question() {
    assert_eq!(ChatLine::parse("  How are you?\n").unwrap(), ChatLine::Question("How are you?".into()));
    assert_eq!(ChatLine::parse("1/2 or m 3?").unwrap(), ChatLine::Question("1/2 or m 3?".into()));
    assert_eq!(ChatLine::parse(" \t\n").unwrap(), ChatLine::Empty);
}

#[test]
fn commands_are_read_with_their_values() {
    let of = |line: &str| ChatLine::parse(line).unwrap();
    assert_eq!(of("/m -2"), ChatLine::Magnitude(Some(-2.0)));
    assert_eq!(of("/m\t +1.5 "), ChatLine::Magnitude(Some(1.5)));
    assert_eq!(of("/m"), ChatLine::Magnitude(None));
    assert_eq!(of("/vector my file.pt:0.5"), ChatLine::Vector(Change::To("my file.pt:0.5".into())));
    assert_eq!(of("/vector none"), ChatLine::Vector(Change::Remove));
    assert_eq!(of("/vector"), ChatLine::Vector(Change::Show));
    assert_eq!(of("/system Be  brief. "), ChatLine::System(Change::To("Be  brief.".into())));
    assert_eq!(of("/save talk.json"), ChatLine::Save("talk.json".into()));
    assert_eq!(of("/reset"), ChatLine::Reset);
    assert_eq!(of("/help"), ChatLine::Help);
    assert_eq!(of("/quit"), ChatLine::Quit);
}

#[test]
fn compare_takes_magnitudes_as_steer_does_and_has_the_same_default() {
    assert_eq!(ChatLine::parse("/compare -1..1:0.5").unwrap(), ChatLine::Compare("-1,-0.5,0,0.5,1".parse().unwrap()));
    assert_eq!(ChatLine::parse("/compare auto").unwrap(), ChatLine::Compare(MagnitudeChoice::Calibrated));
    assert_eq!(ChatLine::parse("/compare").unwrap(), ChatLine::Compare(MagnitudeChoice::Usual(UsualMagnitudes::Texts)));
    assert!(refusal("/compare 1,x").contains("\"x\" is not a number"));
}

#[test]
fn a_wrong_line_is_refused_with_what_would_be_right() {
    let commands = "/m, /vector, /system, /compare, /reset, /save, /help, /quit";
    assert_eq!(refusal("/magnitude 2"), format!("/magnitude: no such command; there are {commands}"));
    assert_eq!(refusal("/"), format!("/: no such command; there are {commands}"));
    for value in ["one", "inf", "NaN", "1e39", "1 2"] {
        assert_eq!(refusal(&format!("/m {value}")), format!("/m {value}: expected a number, such as /m 1.5 or /m -2"));
    }
    assert_eq!(refusal("/reset all"), "/reset all: /reset takes no value");
    assert_eq!(refusal("/save"), "/save: name the file, such as /save talk.json");
}

#[test]
fn the_help_has_a_line_for_each_command_that_is_read() {
    for (line, (usage, what)) in help().lines().zip(COMMANDS) {
        assert!(line.starts_with(usage) && line.ends_with(what), "{line}");
        let name = usage.split(' ').next().unwrap();
        assert!(!ChatLine::parse(name).is_err_and(|error| error.to_string().contains("no such command")), "{name}");
    }
    assert_eq!(help().lines().count(), COMMANDS.len());
}
