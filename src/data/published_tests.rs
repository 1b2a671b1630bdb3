//! Tests of `published`.

use super::*;

fn power_seeking() -> &'static Published {
    published().iter().find(|set| set.name == "power-seeking").unwrap()
}

#[test]
fn offline_without_a_cached_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = power_seeking().authors_file("power-seeking/train.csv", dir.path(), true).unwrap_err();
    assert!(matches!(error, Error::Hub(_)));
    let text = error.to_string();
    assert!(text.starts_with("data set power-seeking is not in the cache and the network is off: run once online"), "{text}");
    assert!(text.contains("/data/power-seeking/train.csv as "), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn kept_file_is_found_again_without_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let datasets = dir.path().join("datasets");
    let path = datasets.join("power-seeking.csv");
    keep(&datasets, &path, b"question,matching,not_matching\n").unwrap();
    assert_eq!(power_seeking().authors_file("power-seeking/train.csv", &datasets, true).unwrap(), path);
    assert_eq!(std::fs::read_dir(&datasets).unwrap().count(), 1);
}

#[test]
fn page_instead_of_a_data_set_is_not_kept() {
    assert!(check(b"<!DOCTYPE html>\n<html>, please log in</html>").is_err());
    assert_eq!(check(b"question,matching,not_matching\nq,a,b\n"), Ok(()));
}
