//! Hints belong to messages that the library has, and stand where they can be read.

use std::fs;
use std::path::Path;

use super::*;

/// All sources of the library, white space and the breaks of long strings apart.
fn sources(dir: &Path, found: &mut String) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("cli") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *found += &fs::read_to_string(&path).unwrap().replace("\\\n", "");
        }
    }
}

#[test]
fn each_hint_goes_on_from_a_message_of_the_library() {
    let mut library = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut library);
    let library: String = library.split_whitespace().collect::<Vec<_>>().join(" ");
    for (fact, hint) in HINTS {
        // The role is a word of its own in the source.
        let fact = fact.replace("the user", "the {role}").replace("the assistant", "the {role}");
        assert!(library.contains(&fact), "no message says {fact:?}");
        assert!(hint.contains("--") || hint.contains("`bipo "), "{hint:?} names neither a flag nor a command");
    }
}

#[test]
fn a_device_that_there_is_not_is_told_with_its_flag() {
    let error = bipo::machine::device::open("gpu").unwrap_err();
    let hint = hint(&error, || true).unwrap();
    assert_eq!(
        format!("{error}{hint}"),
        "device gpu: expected auto, cpu, cuda[:N], cuda:N,N,..., cuda:all or metal, not --device gpu"
    );
}

#[test]
fn a_model_in_the_place_of_a_file_is_told_to_be_one() {
    let hint_of = |path: &str| hint(&Error::read(path, std::io::ErrorKind::NotFound.into()), || true);
    assert!(hint_of("smollm2").unwrap().contains("smollm2 is a model: name it with --model"));
    assert!(hint_of("HuggingFaceTB/SmolLM2-135M-Instruct").unwrap().contains("smollm2 is a model"));
    assert_eq!(hint_of("vector.safetensors"), None);
    assert_eq!(hint_of("SmolLM2-135M-Instruct.Q4_1.gguf"), None);
}

#[test]
fn f32_is_advised_where_it_is_not_used_alone() {
    let error = Error::NotFinite("step 1: the vector is not finite".into());
    let hint_of = |is_f32| hint(&error, || is_f32).unwrap();
    assert!(hint_of(false).contains("try --dtype f32, a lower --lr"));
    assert!(hint_of(true).starts_with("; try a lower --lr"));
}
