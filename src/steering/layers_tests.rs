//! Tests of `layers`.

use super::*;

fn parse(text: &str) -> Vec<usize> {
    text.parse::<LayerList>().unwrap().of(32).unwrap().into()
}

#[test]
fn lists_ranges_and_all_are_read() {
    assert_eq!(parse("13"), [13]);
    assert_eq!(parse("16, 10,13"), [10, 13, 16]);
    assert_eq!(parse("10-13"), [10, 11, 12, 13]);
    assert_eq!(parse("10..13"), [10, 11, 12, 13]);
    assert_eq!(parse("2 .. 3,30"), [2, 3, 30]);
    assert_eq!(parse("8..20:4"), [8, 12, 16, 20]);
    assert_eq!(parse("1-4:2, 9..9:3"), [1, 3, 9]);
    assert_eq!(parse("31,2-4"), [2, 3, 4, 31]);
    assert_eq!(parse("all"), (0..32).collect::<Vec<_>>());
}

#[test]
fn what_names_no_layers_is_refused() {
    for text in [
        "",
        "a",
        "-1",
        "1,",
        "3-1",
        "1-",
        "2,2",
        "1-3,2",
        "0-99999999999",
        "12345",
        "..",
        "3..",
        "..3",
        "1..2..3",
        "4..2",
        "8..20:0",
        "8..20:",
        "8:2",
        "8..20:4:2",
        "8..20:-1",
    ] {
        assert_eq!(text.parse::<LayerList>().unwrap_err().exit_code(), 2, "{text}");
    }
    let error = "31,32".parse::<LayerList>().unwrap().of(32).unwrap_err();
    assert_eq!(error.to_string(), "layer 32 out of range: model has 32 layers, 0 to 31");
}

#[test]
fn vectors_are_taken_apart_layer_by_layer() {
    let layers = Layers::try_from(vec![5, 2]).unwrap();
    assert_eq!(layers.split(&[1.0, 2.0, 3.0, 4.0]), BTreeMap::from([(2, vec![1.0, 2.0]), (5, vec![3.0, 4.0])]));
}
