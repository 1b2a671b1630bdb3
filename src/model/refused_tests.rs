//! Tests of `refused`.

use super::*;
use crate::model::family::Family;

#[test]
fn the_families_that_people_ask_for_are_refused_with_a_reason_in_one_line() {
    for (model_type, word) in [
        ("qwen3_next", "linear attention"),
        ("qwen3_5", "linear attention"),
        ("gpt_oss", "MXFP4"),
        ("gemma4", "Gemma 3"),
        ("deepseek_v3", "MLA"),
        ("t5", "encoder"),
        ("llava", "vision tower"),
        ("phi4mm", "vision tower"),
        ("qwen2_5_omni", "vision tower"),
        ("seamless_m4t", "encoder"),
        ("kimi_k2", "MLA"),
        ("kimi_linear", "linear attention"),
        ("deepseek_v4", "compressed keys"),
        ("mistral3", "vision tower"),
        ("clip", "generates no text"),
        ("siglip", "generates no text"),
        ("falcon-h1", "state-space"),
        ("granitehybrid", "state-space"),
    ] {
        let reason = reason(model_type).unwrap();
        assert!(reason.contains(word) && reason.contains("near: ") && !reason.contains('\n'), "{model_type}: {reason}");
    }
    assert_eq!(reason("llama"), None);
}

#[test]
fn no_family_is_both_refused_and_implemented_and_none_stands_twice() {
    let names: Vec<&str> = REFUSED.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    for (index, name) in names.iter().enumerate() {
        assert!(Family::of(name).is_none() && Family::of_gguf(name).is_none(), "{name}");
        assert!(!names[..index].contains(name), "{name}");
    }
}
