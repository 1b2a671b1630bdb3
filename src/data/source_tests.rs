//! Tests of `source`.

use super::*;

fn problem(text: &str) -> String {
    match Source::parse(text).unwrap_err() {
        Error::Argument(problem) => problem,
        other => panic!("unexpected {other}"),
    }
}

#[test]
fn names_and_files_and_hub_repositories_are_told_apart() {
    assert!(matches!(Source::parse("cheerful").unwrap(), Source::Bundled(set) if set.name == "cheerful"));
    assert!(matches!(Source::parse("truthfulqa").unwrap(), Source::Published(part) if part.set.name == "truthfulqa"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert_eq!(Source::parse(file).unwrap(), Source::File(PathBuf::from(file)));
    assert!(matches!(Source::parse(DEFAULT_DATASET).unwrap(), Source::Bundled(_)));
}

#[test]
fn hub_repositories_have_revision_and_part() {
    let hub = |repo: &str, revision: Option<&str>, part: Option<&str>| Source::Hub {
        repo: repo.to_string(),
        revision: revision.map(String::from),
        part: part.map(String::from),
    };
    for (text, source) in [
        ("hf:a/b", hub("a/b", None, None)),
        ("hf:a/b.c@refs/pr/1", hub("a/b.c", Some("refs/pr/1"), None)),
        ("hf:a/b:test", hub("a/b", None, Some("test"))),
        ("hf:a/b@v1:data/x.csv", hub("a/b", Some("v1"), Some("data/x.csv"))),
    ] {
        assert_eq!(Source::parse(text).unwrap(), source);
        assert_eq!(source.to_string(), text);
    }
}

#[test]
fn malformed_hub_names_are_refused() {
    for text in [
        "hf:",
        "hf:b",
        "hf:a/",
        "hf:a/b/c",
        "hf:a/b@",
        "hf:a/b:",
        "hf:a/b:../x.csv",
        "hf:a/b@../../x",
        "hf:a/..",
        "hf:a/b:/etc",
    ] {
        assert_eq!(problem(text), format!("{text} is not a hub data set: expected hf:owner/name[@revision][:split or file]"));
    }
}

#[test]
fn unknown_name_lists_the_known_ones_and_the_closest() {
    let line = problem("cherful");
    assert!(
        line.starts_with(
            "no data set \"cherful\", did you mean cheerful? expected a file, hf:owner/name, or one of cheerful, \
             cheerful-heldout, formal, formal-heldout, concise, concise-heldout, truthfulqa, power-seeking, \
             power-seeking-heldout, wealth-seeking, wealth-seeking-heldout, hallucination, hallucination-heldout, caa-"
        ),
        "{line}"
    );
    assert!(line.contains(", caa-refusal, ") && line.contains(", persona-NAME, steereval:CONCEPT, "), "{line}");
    assert!(line.ends_with(", alpacaeval, mmlu, gsm8k"), "{line}");
    assert!(problem("TruthfulQA").contains("did you mean truthfulqa?"));
    assert!(!problem("something else").contains("did you mean"));
}

#[test]
fn where_pairs_are_wanted_sets_without_pairs_are_refused_and_not_listed() {
    let problem = |text: &str| Source::parse_pairs(text).unwrap_err().to_string();
    let line = problem("cherful");
    assert!(
        line.contains(", caa-refusal, ") && line.ends_with(", steereval-heldout:CONCEPT, axbench-concept500:CONCEPT"),
        "{line}"
    );
    assert_eq!(problem("mmlu"), "mmlu has no pairs, but multiple-choice questions, which are for an evaluation");
    for name in ["alpacaeval", "gsm8k"] {
        assert_eq!(problem(name), format!("{name} has no pairs, but prompts, which a model is to answer"));
    }
    for name in ["cheerful", "truthfulqa", "persona-openness", "hf:a/b"] {
        assert_eq!(Source::parse_pairs(name).unwrap(), Source::parse(name).unwrap());
    }
}

#[test]
fn missing_files_and_directories_are_said_to_be_so() {
    assert_eq!(problem("nowhere.csv"), "no such file: nowhere.csv");
    assert_eq!(problem("./nowhere/x"), "no such file: ./nowhere/x");
    assert_eq!(problem("owner/name"), "no such file: owner/name; for a data set of the hub write hf:owner/name");
    let dir = env!("CARGO_MANIFEST_DIR");
    assert_eq!(problem(dir), format!("{dir} is a directory: expected a CSV, JSONL, JSON or Parquet file"));
}
