//! Tests of `flops`.

use super::*;
use crate::model::layout::{Branches, Layout};
use crate::model::shapes::Shape;

#[test]
fn a_pass_counts_what_its_shapes_say() {
    let config: Config = {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama/config.json")).unwrap();
        Config::from_json(&text, std::path::Path::new("config.json")).unwrap()
    };
    let mut layout = Layout::default();
    layout.push_branches(&Branches { shared: 3, first: 2, second: 1 });
    let (selected, _) = layout.select(&[2, 3, 4, 5]);
    let pass = PassShape { blocks: 2, rows: 6, segments: &layout.segments, selected: &selected };
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

#[test]
fn keys_outside_a_blocks_window_are_not_counted() {
    let mut config = Shape::Tiny.config(); // 4 blocks
    config.architecture.windows = vec![Some(1), Some(2), None, Some(3)];
    let mut layout = Layout::default();
    layout.push_sequence(5);
    let (selected, _) = layout.select(&[4]);
    let of = |blocks| PassShape { blocks, rows: 5, segments: &layout.segments, selected: &selected }.attention(&config);
    let a_key = 4 * 4 * 16; // 4 heads of 16
    // The last block's one query sees 3 keys. The others' five queries see 1 + 2 + 3 + 4 + 5 with no window, 1 + 2 + 2 + 2 + 2
    // with one of two keys, and one each with one of one.
    assert_eq!([1, 2, 3, 4].map(of), [3, 3 + 15, 3 + 15 + 9, 3 + 15 + 9 + 5].map(|keys| a_key * keys));
    assert_eq!(of(0), 0);
}

#[test]
fn of_a_mixture_the_experts_that_a_token_goes_through_are_counted_alone() {
    let mut config = Shape::Qwen3_30bA3b.config();
    let mut layout = Layout::default();
    layout.push_sequence(100);
    let (selected, _) = layout.select(&(0..100).collect::<Vec<_>>());
    let pass =
        |config: &Config| PassShape { blocks: 48, rows: 100, segments: &layout.segments, selected: &selected }.products(config);
    // Queries and outputs of 32 heads of 128, keys and values of 4, a router to 128 experts, and three matrices of 2048 by 768 of
    // each expert: two operations for each of their elements, 48 blocks and 100 tokens.
    let (attention, router, expert) = (2 * 2048 * 4096 + 2 * 2048 * 512, 128 * 2048, 3 * 2048 * 768);
    assert_eq!(pass(&config), 2 * 48 * 100 * (attention + router + 8 * expert));
    let experts = config.architecture.experts.as_mut().unwrap();
    experts.per_token = experts.count;
    assert_eq!(pass(&config), 2 * 48 * 100 * (attention + router + 128 * expert));
    // One block with an MLP in place of experts.
    config = Shape::Qwen3_30bA3b.config();
    config.architecture.experts.as_mut().unwrap().blocks[7] = false;
    let dense = 3 * 2048 * 6144;
    assert_eq!(pass(&config), 2 * 100 * (48 * attention + 47 * (router + 8 * expert) + dense));
}
