//! Tests of `flops`.

use super::*;
use crate::model::layout::{Branches, Layout};

#[test]
fn a_pass_counts_what_its_shapes_say() {
    let config: Config = {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama/config.json")).unwrap();
        Config::from_json(&text, std::path::Path::new("config.json")).unwrap()
    };
    let mut layout = Layout::default();
    layout.push_branches(&Branches { shared: 3, first: 2, second: 1 });
    let (selected, _) = layout.select(&[2, 3, 4, 5]);
    let pass = Pass { blocks: 2, rows: 6, segments: &layout.segments, selected: &selected };
    let (h, q, kv) = (
        config.hidden_size as u64,
        (config.num_attention_heads * config.head_dim) as u64,
        (config.num_key_value_heads * config.head_dim) as u64,
    );
    let (inner, vocab) = (config.intermediate_size as u64, config.vocab_size as u64);
    let projections = 6 * (2 * h * (q + 2 * kv) + 2 * q * h + 6 * h * inner);
    let last = 6 * 2 * h * 2 * kv + 4 * (4 * h * q + 6 * h * inner);
    // Keys seen: 1 + 2 + 3 by the prompt, 4 + 5 and 4 by the responses; in the last block 3, then 4 + 5 and 4.
    let attention = 4 * q * ((6 + 9 + 4) + (3 + 9 + 4));
    let head = 2 * 4 * h * vocab;
    assert_eq!(pass.forward(&config), projections + last + attention + head);
    assert_eq!(pass.backward(&config), projections + last + 2 * attention + head);
}
