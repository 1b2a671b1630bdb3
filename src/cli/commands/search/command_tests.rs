//! The winner's command.

use super::*;

#[test]
fn the_winners_command_keeps_what_the_user_wrote_but_the_short_run() {
    let given = |flag: &str, values: &[&str]| Given {
        flag: flag.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let flags = [
        given("--dataset", &["it's a file.csv"]),
        given("--system", &["- be brief"]),
        given("--response-prefix", &[""]),
        given("--layers", &["1..3"]),
        given("--max-steps", &["9"]),
        given("--strict", &[]),
        given("--quiet", &[]),
    ];
    let expected = r"bipo train --dataset 'it'\''s a file.csv' --system='- be brief' --response-prefix '' --strict --layer 2";
    assert_eq!(train_command(&flags, 2), expected);
}
