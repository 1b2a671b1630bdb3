//! Tests of `cache_dir`.

use super::*;

#[test]
fn own_variable_wins_over_xdg_and_xdg_over_home() {
    let home = || Some(PathBuf::from("/home/a"));
    assert_eq!(choose(Some("/b".into()), Some("/x".into()), home()), Some(PathBuf::from("/b")));
    assert_eq!(choose(None, Some("/x".into()), home()), Some(PathBuf::from("/x/bipo")));
    assert_eq!(choose(None, None, home()), Some(PathBuf::from("/home/a/.cache/bipo")));
}

#[test]
fn empty_variables_and_relative_xdg_count_as_unset() {
    let home = || Some(PathBuf::from("/home/a"));
    assert_eq!(choose(Some("".into()), Some("".into()), home()), Some(PathBuf::from("/home/a/.cache/bipo")));
    assert_eq!(choose(None, Some("cache".into()), home()), Some(PathBuf::from("/home/a/.cache/bipo")));
    assert_eq!(choose(None, None, None), None);
}
