//! Tests of `args`.

use super::*;

#[test]
fn a_wrong_command_line_is_told_in_one_line_with_what_would_be_right() {
    let told = |words: &[&str]| one_line(&Cli::try_parse_from(words).unwrap_err().to_string());
    assert_eq!(
        told(&["bipo", "train", "--layr", "1"]),
        "unexpected argument '--layr' found; tip: a similar argument exists: '--layer' (see --help)"
    );
    assert_eq!(told(&["bipo", "inspect"]), "the following required arguments were not provided: <FILE>... (see --help)");
    assert_eq!(
        told(&["bipo", "train", "--dtype", "f8"]),
        "invalid value 'f8' for '--dtype <DTYPE>'; [possible values: auto, f32, bf16, f16] (see --help)"
    );
}

#[test]
fn flags_are_given_when_the_user_wrote_them() {
    let words = ["bipo", "layers", "--dataset", "a b.csv", "-q", "--strict", "--system", "", "--epochs", "1"];
    let matches = Cli::command().try_get_matches_from(words).unwrap();
    let given: Vec<(String, Vec<String>)> = given_in(&matches).into_iter().map(|given| (given.flag, given.values)).collect();
    let expected = [
        ("--dataset", vec!["a b.csv"]),
        ("--epochs", vec!["1"]),
        ("--quiet", vec![]),
        ("--strict", vec![]),
        ("--system", vec![""]),
    ];
    let mut given: Vec<(&str, Vec<&str>)> =
        given.iter().map(|(flag, values)| (flag.as_str(), values.iter().map(String::as_str).collect())).collect();
    given.sort();
    assert_eq!(given, expected);
}
