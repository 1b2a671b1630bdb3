//! Tests of `hub_files`.

use super::*;

fn pick(names: &[&str], part: Option<&str>) -> Result<Vec<String>, String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    select("a/b", &names, part, true).map_err(|error| error.to_string())
}

#[test]
fn names_that_lead_out_of_the_cache_are_no_files() {
    for name in ["../../x.csv", "data/../../x.csv", "/etc/x.csv", "a\\..\\x.csv"] {
        assert!(!stays_inside(name), "{name}");
    }
    assert!(stays_inside("default/train/0000.parquet"));
}

#[test]
fn shards_of_the_train_split_are_taken_in_order() {
    let names = [
        "README.md",
        "data/train-00001-of-00002-9a3f.parquet",
        "data/train-00000-of-00002-1b2c.parquet",
        "data/test-00000-of-00001.parquet",
        "dataset_infos.json",
    ];
    let train = ["data/train-00000-of-00002-1b2c.parquet", "data/train-00001-of-00002-9a3f.parquet"];
    assert_eq!(pick(&names, None).unwrap(), train);
    assert_eq!(pick(&names, Some("test")).unwrap(), ["data/test-00000-of-00001.parquet"]);
}

#[test]
fn numbered_files_belong_to_their_folder() {
    let names = ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"];
    assert_eq!(pick(&names, None).unwrap(), names[..2]);
}

#[test]
fn only_split_is_taken_whatever_its_name() {
    assert_eq!(pick(&["pairs.jsonl", ".gitattributes"], None).unwrap(), ["pairs.jsonl"]);
}

#[test]
fn ambiguous_and_unknown_splits_list_the_choices() {
    let names = ["en/train.csv", "de/train.csv", "de/test.csv"];
    assert_eq!(
        pick(&names, None).unwrap_err(),
        "hf:a/b has split train more than once: write hf:a/b:SPLIT with one of de/train, en/train"
    );
    assert_eq!(pick(&names, Some("de/train")).unwrap(), ["de/train.csv"]);
    assert_eq!(
        pick(&names, Some("dev")).unwrap_err(),
        "hf:a/b has no split dev: write hf:a/b:SPLIT with one of de/test, de/train, en/train"
    );
    assert!(pick(&["README.md"], None).unwrap_err().starts_with("hf:a/b has no data files"));
}

#[test]
fn train_splits_of_several_folders_are_one_where_there_are_no_configurations() {
    let names = ["red/attempts.jsonl.gz", "a/train.jsonl.gz", "b/test.jsonl.gz", "b/train.jsonl.gz", "README.md"];
    let names = names.map(str::to_owned);
    let pick = |part| select("a/b", &names, part, false).map_err(|error| error.to_string());
    assert_eq!(pick(None).unwrap(), ["a/train.jsonl.gz", "b/train.jsonl.gz"]);
    assert_eq!(pick(Some("b/train")).unwrap(), ["b/train.jsonl.gz"]);
    assert_eq!(pick(Some("b/train.jsonl.gz")).unwrap(), ["b/train.jsonl.gz"]);
    assert!(pick(Some("dev")).unwrap_err().contains("has no split dev"));
    let numbered = ["a/train/0000.parquet", "b/train/0000.parquet"].map(str::to_owned);
    assert!(select("a/b", &numbered, None, false).unwrap_err().to_string().contains("more than once"));
}

#[test]
fn card_tells_whether_there_are_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let card = dir.path().join("README.md");
    let has = |text: &str| {
        std::fs::write(&card, text).unwrap();
        has_configurations(Some(&card))
    };
    assert!(has("---\nlicense: mit\nconfigs:\n- config_name: en\n---\n# A\n"));
    assert!(!has("---\nlicense: mit\n---\nconfigs:\n"));
    assert!(!has("# A\n"));
    assert!(!has_configurations(None));
}

#[test]
fn offline_finds_what_the_cache_has_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().to_path_buf());
    let repo = || Repo::new("own-er/na-me".to_string(), RepoType::Dataset);
    let error = cached(&cache, &repo(), None).unwrap_err().to_string();
    assert_eq!(error, "hf:own-er/na-me is not in the hub's cache and the network is off: run once online");

    let folder = dir.path().join("datasets--own-er--na-me");
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::create_dir_all(folder.join("snapshots/abc/data")).unwrap();
    std::fs::write(folder.join("refs/main"), "abc").unwrap();
    let file = folder.join("snapshots/abc/data/train-00000-of-00001.parquet");
    std::fs::write(&file, "").unwrap();
    assert_eq!(cached(&cache, &repo(), None).unwrap(), std::slice::from_ref(&file));
    let name = Some("data/train-00000-of-00001.parquet");
    assert_eq!(cached(&cache, &repo(), name).unwrap(), [file]);
    let name = Some("data/test.parquet");
    let error = cached(&cache, &repo(), name).unwrap_err().to_string();
    assert!(error.starts_with("hf:own-er/na-me:data/test.parquet is not in the hub's cache"), "{error}");
}
