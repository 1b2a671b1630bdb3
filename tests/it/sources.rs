//! The sources, read as text: what the compiler and clippy do not look at. Each type has a name of its own, each room says where to
//! begin, and doc comments name what they are about.

use std::collections::{BTreeMap, BTreeSet};

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
        let (mut is_inside, mut is_of_errors) = (false, false);
        for (line, text) in source.lines().enumerate() {
            let comment = text.trim_start().strip_prefix("/// ");
            let begins = comment.filter(|_| !is_inside);
            comments += usize::from(begins.is_some());
            let leans = |text: &str| OPENINGS.iter().any(|opening| text.starts_with(opening));
            // What is said of errors stands alone, too: they are about a value, and not about "it".
            let of_errors =
                comment.filter(|_| is_of_errors).is_some_and(|text| text.starts_with("It ") || text.starts_with("They "));
            is_of_errors = text.trim_start() == "/// # Errors";
            if begins.is_some_and(leans) || of_errors {
                found.push(format!("{path}:{}: {}", line + 1, text.trim()));
            }
            is_inside = text.trim_start().starts_with("///");
        }
    }
    assert!(comments > 3000, "{comments}");
    assert!(found.is_empty(), "each of these needs its noun:\n{}", found.join("\n"));
}

/// The modules of a file by name from the crate's root, of which the program's is `cli`: `src/ops/cpu/mod.rs` → ops, cpu.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.split("src/").last().unwrap().trim_end_matches(".rs");
    let names = inside.split('/').filter(|name| !["mod", "lib", "main"].contains(name));
    names.map(str::to_owned).collect()
}

/// The paths of a `use` without its word and semicolon, each written out.
fn written_out(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let (inside, _) = rest.rsplit_once('}').unwrap();
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inside.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| written_out(part.trim())).map(|part| format!("{}{part}", before.trim())).collect()
}

/// The paths that code outside its tests names from `crate` or `super` on.
fn named_paths(source: &str) -> Vec<String> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let mut words = statement.trim().rsplitn(2, "use ");
        let is_use =
            |before: &str| before.is_empty() || before.ends_with('\n') || before.ends_with("pub ") || before.ends_with(") ");
        if let (Some(path), Some(before)) = (words.next(), words.next())
            && is_use(before)
            && !before.trim_end().ends_with("#[cfg(test)]")
        {
            paths.extend(written_out(path));
        }
        let inside = statement.match_indices("crate::").chain(statement.match_indices("super::"));
        let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        paths.extend(inside.map(|(at, _)| statement[at..].chars().take_while(|letter| is_path(*letter)).collect()));
    }
    paths
}

/// The module that a path names from `module` on: the longest that there is.
fn target(module: &[String], path: &str, modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut names: Vec<String> = path.split("::").map(|name| name.trim().to_owned()).collect();
    let first = names.remove(0);
    let mut from = match first.as_str() {
        "crate" if module.first().is_some_and(|name| name == "cli") => vec!["cli".to_owned()],
        "crate" | "bipo" => Vec::new(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    while names.first().is_some_and(|name| name == "super") {
        names.remove(0);
        from.pop()?;
    }
    from.extend(names);
    (0..=from.len()).rev().map(|length| from[..length].to_vec()).find(|path| modules.contains(path))
}

#[test]
fn no_imports_run_in_a_circle() {
    let files: Vec<(Vec<String>, String)> = sources()
        .into_iter()
        .filter(|(path, _)| !is_of_tests(path) && !path.contains("/tests/"))
        .map(|(path, source)| (module_of(&path), source))
        .collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|(module, _)| module.clone()).collect();
    // In each folder, which of its entries import which.
    let mut folders: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, source) in &files {
        for path in named_paths(source) {
            let Some(other) = target(module, &path, &modules) else { continue };
            let common = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(common), other.get(common)) {
                let entries = folders.entry(module[..common].to_vec()).or_default();
                entries.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let rooms = &folders[&Vec::new()];
    assert!(rooms["train"].contains("model") && folders[&vec!["eval".to_owned()]]["run"].contains("damage"), "{rooms:?}");
    for (folder, mut entries) in folders {
        // What imports nothing that is left is in no circle.
        loop {
            let left: BTreeSet<String> = entries.keys().cloned().collect();
            let before = entries.len();
            entries.retain(|_, imports| imports.iter().any(|import| left.contains(import)));
            if entries.len() == before {
                break;
            }
        }
        assert!(entries.is_empty(), "in {}: {entries:#?}", folder.join("::"));
    }
}
