//! Tests of `published`.

use super::*;

fn part(name: &str) -> PublishedPart {
    PublishedPart::parse(name).unwrap().unwrap()
}

const URL: &str = "https://example.org/data/power-seeking/train.csv";

#[test]
fn offline_without_a_cached_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = part("power-seeking").web_file(URL, dir.path(), &FetchOptions::offline()).unwrap_err();
    assert!(matches!(error, Error::Hub(_)));
    let text = error.to_string();
    assert!(text.starts_with("data set power-seeking is not in the cache and the network is off: run once online"), "{text}");
    assert!(text.contains("/data/power-seeking/train.csv as ") && text.ends_with("/power-seeking.csv"), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn kept_file_is_found_again_without_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let datasets = dir.path().join("datasets");
    let path = datasets.join("power-seeking.csv");
    std::fs::create_dir(&datasets).unwrap();
    // Its writer died.
    std::fs::write(datasets.join(".bipo-draft-a1B2c3"), "question,mat").unwrap();
    keep(&datasets, &path, b"question,matching,not_matching\n").unwrap();
    assert_eq!(part("power-seeking").web_file(URL, &datasets, &FetchOptions::offline()).unwrap(), path);
    assert_eq!(std::fs::read_dir(&datasets).unwrap().count(), 1);
}

#[test]
fn page_instead_of_a_data_set_is_not_kept() {
    assert!(check("a.csv", b"<!DOCTYPE html>\n<html>, please log in</html>").is_err());
    assert!(check("a.jsonl", b"<!DOCTYPE html>\n<html>, please log in</html>").is_err());
    assert_eq!(check("a.csv", b"question,matching,not_matching\nq,a,b\n"), Ok(()));
    let item = br#"{"question": "Is it?", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}"#;
    assert_eq!(check("a.jsonl", item), Ok(()));
}

#[test]
fn the_sets_of_prompts_are_those_that_are_read_for_their_prompts() {
    let expected = ["steereval:CONCEPT", "steereval-heldout:CONCEPT", "axbench-concept500:CONCEPT", "alpacaeval", "gsm8k"];
    assert_eq!(prompt_sets(), expected);
}

#[test]
fn a_name_has_its_part_behind_it_and_is_shown_as_it_was_written() {
    let parts = [
        "mmlu",
        "caa-refusal",
        "persona-anti-LGBTQ-rights",
        "steereval:L1_1",
        "steereval-heldout:L3_8",
        "axbench-concept500:7",
    ];
    for name in parts {
        assert_eq!(part(name).to_string(), name);
    }
    assert_eq!(part("persona-anti-LGBTQ-rights").part.as_deref(), Some("anti-LGBTQ-rights"));
    assert_eq!(
        (part("steereval:L1_1").concept(), part("persona-openness").concept(), part("mmlu").concept()),
        (Some("L1_1"), None, None)
    );
    assert!(part("axbench-concept500:7").is_labelled() && !part("steereval:L1_1").is_labelled());
    for name in ["mmlu2", "mmlu:1", "caa", "personas", "steerevals"] {
        assert_eq!(PublishedPart::parse(name).unwrap(), None, "{name}");
    }
    for (name, form) in [
        ("persona", "persona-NAME"),
        ("persona-", "persona-NAME"),
        ("persona-../x", "persona-NAME"),
        ("steereval", "steereval:CONCEPT"),
        ("axbench-concept500:", "axbench-concept500:CONCEPT"),
    ] {
        let error = PublishedPart::parse(name).unwrap_err().to_string();
        assert_eq!(error, format!("{name} names no part of the data set: write {form}"));
    }
}

#[test]
fn names_of_data_sets_differ() {
    let mut names: Vec<&str> = published().iter().map(|set| set.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
