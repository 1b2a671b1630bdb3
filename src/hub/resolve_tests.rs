//! Tests of `resolve`: names and folders, right and wrong. No test asks the hub.

use tempfile::TempDir;

use super::*;
use crate::hub::folder::{INDEX, WEIGHTS};

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2}"#;

fn resolve_here(model: &str, cache: Option<&Path>) -> Result<ModelFiles> {
    resolve_with(model, cache, || Err(Error::Hub("asked the hub".to_owned())))
}

fn filled(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error:?}");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{message} lacks {word}");
    }
}

#[test]
fn a_folder_gives_its_files() {
    let folder = filled(&[(CONFIG, LLAMA), (WEIGHTS, ""), (TOKENIZER, "{}"), ("tokenizer_config.json", "{}")]);
    let path = folder.path();
    let files = resolve_here(path.to_str().unwrap(), None).unwrap();
    let expected = Checkpoint::Safetensors {
        config: path.join(CONFIG),
        shards: vec![path.join(WEIGHTS)],
        tokenizer: path.join(TOKENIZER),
        tokenizer_config: Some(path.join("tokenizer_config.json")),
        generation_config: None,
        chat_template: None,
    };
    assert_eq!(files.name, path.file_name().unwrap().to_str().unwrap());
    assert_eq!(files.checkpoint, expected);
}

#[test]
fn an_index_gives_each_shard_once_in_order() {
    let index =
        r#"{"metadata": {"total_size": 6}, "weight_map": {"c": "b.safetensors", "a": "a.safetensors", "b": "b.safetensors"}}"#;
    let folder = filled(&[(CONFIG, LLAMA), (INDEX, index), (TOKENIZER, "{}"), ("a.safetensors", ""), ("b.safetensors", "")]);
    let Checkpoint::Safetensors { shards, .. } = super::folder(folder.path()).unwrap() else { panic!("not safetensors") };
    assert_eq!(shards, ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name)));
    std::fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    refused(super::folder(folder.path()), &["missing b.safetensors"]);
}

#[test]
fn a_broken_index_is_refused() {
    for (index, words) in [
        ("{", vec!["broken JSON"]),
        ("{}", vec!["weight_map"]),
        (r#"{"weight_map": []}"#, vec!["weight_map"]),
        (r#"{"weight_map": {}}"#, vec!["weight_map", "empty"]),
        (r#"{"weight_map": {"a": 1}}"#, vec!["`a`", "a file name"]),
        (r#"{"weight_map": {"a": "../b.safetensors"}}"#, vec!["`a`", "../b.safetensors"]),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, vec!["`a`", "/etc/passwd"]),
    ] {
        let folder = filled(&[(CONFIG, LLAMA), (INDEX, index), (TOKENIZER, "{}")]);
        refused(super::folder(folder.path()), &words);
    }
}

#[test]
fn what_a_folder_lacks_is_named_with_what_to_do() {
    let lacks = |files: &[&str], words: &[&str]| {
        let files: Vec<_> = files.iter().map(|name| (*name, if *name == CONFIG { LLAMA } else { "{}" })).collect();
        refused(super::folder(filled(&files).path()), words);
    };
    lacks(&[], &["missing config.json"]);
    lacks(&["model.Q4_1.gguf"], &["missing config.json", "model.Q4_1.gguf"]);
    lacks(&[CONFIG, TOKENIZER], &["missing model.safetensors", INDEX]);
    lacks(&[CONFIG, TOKENIZER, "consolidated.safetensors"], &["consolidated.safetensors has another name"]);
    lacks(&[CONFIG, TOKENIZER, "pytorch_model.bin"], &["pytorch_model.bin is not read", "safe_serialization=True"]);
    lacks(&[CONFIG, WEIGHTS], &["missing tokenizer.json", "AutoTokenizer"]);
}

#[test]
fn a_model_that_is_not_supported_is_refused_for_that_whatever_its_folder_has_or_lacks() {
    let gpt_oss = r#"{"model_type": "gpt_oss"}"#;
    let others: [&[&str]; 5] = [&[], &[TOKENIZER], &[WEIGHTS], &["pytorch_model.bin"], &[INDEX, TOKENIZER]];
    for beside in others {
        let beside = beside.iter().map(|name| (*name, "odd"));
        let folder = filled(&[(CONFIG, gpt_oss)].into_iter().chain(beside).collect::<Vec<_>>());
        refused(resolve_here(folder.path().to_str().unwrap(), None), &["gpt_oss", "sinks", "near: Qwen3"]);
    }
    refused(super::folder(filled(&[(CONFIG, r#"{"model_type": "gpt2"}"#)]).path()), &["gpt2", "expected one of llama"]);
}

#[test]
fn a_folder_is_a_split_model_only_if_it_holds_no_other_one() {
    let part = |number: usize| format!("m-{number:05}-of-00003.gguf");
    let parts: Vec<String> = (1..=3).map(part).collect();
    let files: Vec<(&str, &str)> = parts.iter().map(|name| (name.as_str(), "GGUF")).collect();
    let whole = filled(&files);
    assert_eq!(split_model(whole.path()), Some(whole.path().join(&parts[0])));
    // The part that is there stands for the one that is missing, and is refused when it is opened.
    let cut = filled(&files[1..]);
    assert_eq!(split_model(cut.path()), Some(cut.path().join(&parts[1])));
    for other in ["n-00001-of-00003.gguf", "other.gguf", "other.GGUF", WEIGHTS, INDEX] {
        assert_eq!(split_model(filled(&[&files[..], &[(other, "")]].concat()).path()), None, "{other}");
    }
    assert_eq!(split_model(filled(&[("m.gguf", "GGUF")]).path()), None);
    assert_eq!(split_model(filled(&[]).path()), None);
}

#[test]
fn a_gguf_file_is_known_by_its_name_or_its_first_bytes() {
    let folder = filled(&[("m.gguf", "broken"), ("blob", "GGUF…"), ("notes.txt", "notes")]);
    let path = |name: &str| folder.path().join(name);
    let resolved = |name: &str| resolve_here(path(name).to_str().unwrap(), None);
    for name in ["m.gguf", "blob"] {
        let files = resolved(name).unwrap();
        assert_eq!((files.name.as_str(), files.checkpoint), (name, Checkpoint::Gguf { path: path(name), tokenizer: None }));
    }
    refused(resolved("notes.txt"), &["notes.txt: not a model", ".gguf"]);
    std::fs::write(path(TOKENIZER), "{}").unwrap();
    let Checkpoint::Gguf { tokenizer, .. } = resolved("m.gguf").unwrap().checkpoint else { panic!("not GGUF") };
    assert_eq!(tokenizer, Some(path(TOKENIZER)));
}

#[test]
fn a_model_that_a_script_fetched_is_found_in_the_cache_directory_and_keeps_its_name() {
    for (alias, file, name) in [
        ("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("gemma-3-270m", "gemma-3-270m-q4_k_m.gguf", "google/gemma-3-270m"),
    ] {
        let cache = filled(&[(file, "GGUF")]);
        let files = resolve_here(alias, Some(cache.path())).unwrap();
        assert_eq!(files.name, name);
        assert_eq!(files.checkpoint, Checkpoint::Gguf { path: cache.path().join(file), tokenizer: None });
        assert!(matches!(resolve_here(alias, Some(filled(&[]).path())), Err(Error::Hub(_))), "{alias}");
        assert!(matches!(resolve_here("mistral", Some(cache.path())), Err(Error::Hub(_))));
    }
}

#[test]
fn aliases_and_hub_ids_go_to_the_hub() {
    for model in ["llama-2", "Mistral", "owner/name", "owner/name@main", "owner/name@refs/pr/1", "a-b/c_d.e"] {
        assert!(matches!(resolve_here(model, None), Err(Error::Hub(_))), "{model}");
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_closest_alias() {
    refused(resolve_here("mistrall", None), &["unknown model `mistrall`", "did you mean `mistral`?", "or an alias"]);
    refused(resolve_here("llama2", None), &["did you mean `llama-2`?"]);
    refused(resolve_here("qwen3-0.6", None), &["did you mean `qwen3-0.6b`?"]);
    refused(resolve_here("Llama-2-7b-chat-hf", None), &["did you mean `llama-2`?"]);
    let error = resolve_here("something-else-entirely", None).unwrap_err().to_string();
    assert!(!error.contains("did you mean"), "{error}");
    for model in ["", "a/", "/b@", "a/..", "a/b@", "a b/c", "a/b@../x"] {
        assert_eq!(resolve_here(model, None).unwrap_err().exit_code(), 2, "{model}");
    }
}

#[test]
fn a_path_that_is_not_there_is_said_to_be_missing() {
    for model in ["./models/none", "/none/model", "none.gguf", "models/llama/7b", "~/model"] {
        assert!(matches!(resolve_here(model, None), Err(Error::Read { .. })), "{model}");
    }
}
