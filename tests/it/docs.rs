//! The pages: each is in the book's table of contents, each relative link points to what exists, and the README stays short. Whether
//! their commands work is shown by scripts/test-readme.sh.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::sources_in;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of docs/, sorted.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// The lines of a page that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What the links and pictures of a page point to, code spans left out.
fn links(text: &str) -> Vec<String> {
    let without_code = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let targets = |line: String| {
        let parts = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        parts.map(|(target, _)| target.to_owned()).collect::<Vec<_>>()
    };
    prose(text).map(without_code).flat_map(targets).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        let anchor: String = kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect();
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
    };
    headings.map(anchor).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let mut listed = links(&read(&root().join("docs/SUMMARY.md")));
    listed.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let expected: Vec<String> = pages().iter().map(name).filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_relative_link_points_to_a_file_of_the_book_and_a_heading_that_exist() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in pages().into_iter().chain([root().join("README.md")]) {
        for link in links(&read(&page)).into_iter().filter(|link| !link.contains("://")) {
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let has_anchor = || anchor.is_empty() || anchors(&read(&target)).iter().any(|known| known == anchor);
            // The book has the pages of its folder, and nothing beside it.
            let leaves = page.starts_with(root().join("docs")) && file.starts_with("..");
            if !target.exists() || !has_anchor() || leaves {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(checked > 30, "{checked} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 150, "{lines} lines: move details to docs/");
}

/// A name in code letters with four underscores or more, and nothing else, is one of a test; the modules before it are left out.
#[test]
fn each_test_that_a_page_names_exists() {
    let sources: String = ["src", "tests"].iter().flat_map(|folder| sources_in(folder)).map(|(_, source)| source).collect();
    let mut named = 0;
    let mut missing = Vec::new();
    for page in pages() {
        let text = read(&page);
        for code in prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let name = code.rsplit("::").next().unwrap_or(code);
            let is_test =
                name.matches('_').count() > 3 && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            named += usize::from(is_test);
            if is_test && !sources.contains(&format!("fn {name}(")) {
                missing.push(format!("{}: {code}", page.display()));
            }
        }
    }
    assert!(named > 50, "{named}");
    assert!(missing.is_empty(), "{missing:#?}");
}
