//! The sources, read as text: what the compiler and clippy do not look at. Each type has a name of its own, each room says where to
//! begin, and doc comments name what they are about.

use std::collections::BTreeMap;

use crate::common::sources;

/// Whether a file holds tests, which may call things as they like.
fn is_of_tests(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs")
}

/// The name of the type that a line defines at the top of a module.
fn defined_type(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |line| line.trim_start_matches(|letter| letter != ' ').trim_start());
    let line = line.strip_prefix("unsafe ").unwrap_or(line);
    let rest = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    rest.split(|letter: char| !letter.is_alphanumeric()).next()
}

#[test]
fn each_type_has_a_name_of_its_own() {
    // `Ranks` is one type in two builds. The others are in two rooms of `ops` that never meet.
    const TWICE: [&str; 3] = ["Avx2", "Element", "Ranks"];
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, source) in sources() {
        for name in source.lines().filter_map(defined_type).filter(|_| !is_of_tests(&path)) {
            places.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    assert!(places.len() > 300 && places.contains_key("SteeringVector"), "{}", places.len());
    let twice: BTreeMap<_, _> = places.into_iter().filter(|(_, files)| files.len() > 1).collect();
    assert_eq!(twice.keys().collect::<Vec<_>>(), TWICE, "{twice:#?}");
}

#[test]
fn each_room_says_where_to_begin() {
    let opens = |source: &str| source.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join(" ");
    let rooms: Vec<_> = sources().into_iter().filter(|(path, _)| path.ends_with("/mod.rs")).collect();
    assert!(rooms.len() > 30, "{}", rooms.len());
    let silent: Vec<_> =
        rooms.iter().filter(|(_, source)| !opens(source).contains("Begin with")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no `Begin with` in the first lines of {silent:?}");
}

#[test]
fn doc_comments_name_what_they_are_about() {
    const OPENINGS: [&str; 9] = ["That of ", "Those ", "As [", "As in ", "Of ", "Its ", "They ", "Likewise", "The same."];
    let mut comments = 0;
    let mut found = Vec::new();
    for (path, source) in sources().into_iter().filter(|(path, _)| !is_of_tests(path)) {
        let mut is_inside = false;
        for (line, text) in source.lines().enumerate() {
            let comment = text.trim_start().strip_prefix("/// ");
            let begins = comment.filter(|_| !is_inside);
            comments += usize::from(begins.is_some());
            if begins.is_some_and(|text| OPENINGS.iter().any(|opening| text.starts_with(opening))) {
                found.push(format!("{path}:{}: {}", line + 1, text.trim()));
            }
            is_inside = text.trim_start().starts_with("///");
        }
    }
    assert!(comments > 3000, "{comments}");
    assert!(found.is_empty(), "each of these needs its noun:\n{}", found.join("\n"));
}
