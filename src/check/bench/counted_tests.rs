//! Tests of `counted`: against a model that runs, and by hand from the published shape of Llama-2-70B.

use std::time::Duration;

use candle_core::Device;

use super::*;
use crate::model::Model;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::Weights;
use crate::session::demand::WORKSPACE;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::batch::{Batch, PairRows};

/// Where Llama-2-70B is steered: 45 % of its 80 blocks are below.
const LAYER: usize = 36;

fn options() -> BenchOptions {
    let (batch_size, prompt_tokens, response_tokens) = (4, 50, 50);
    BenchOptions { batch_size, prompt_tokens, response_tokens, new_tokens: 64, sweeps: vec![1, 9], time: Duration::ZERO }
}

#[test]
fn all_devices_together_do_the_operations_of_a_step_of_one() {
    let config = Shape::Tiny.config();
    let model = Model::load(&Weights::random(MadeOn::Host(1)), config.clone(), DType::F32, &Device::Cpu).unwrap();
    let ids = |salt: usize, len: usize| (0..len).map(move |i| ((i * i + salt * 7) % 300) as u32);
    let pair = |row: usize| {
        let response = |salt| EncodedResponse { ids: ids(row, 50).chain(ids(salt, 50)).collect(), start: 50, in_spans: None };
        EncodedPair { row, chosen: response(row + 11), rejected: response(row + 23) }
    };
    let rows: Vec<PairRows> = (0..4).map(|row| PairRows::new(&pair(row), &model, Positions::All)).collect();
    let batch = Batch::new(&model, &rows.iter().collect::<Vec<_>>()).unwrap();
    let expected = batch.flops(presets::default_layer(4));
    for split in [&[4][..], &[2, 2], &[1, 3], &[3, 1], &[1, 1, 1, 1]] {
        let counted = count(&config, DType::F32, split, &options());
        assert_eq!(counted.iter().map(|stage| stage.step_flops).sum::<u64>(), expected, "{split:?}");
        let of_pairs: u64 = counted.iter().map(|stage| stage.cached_pair_flops).sum();
        assert_eq!(of_pairs, count(&config, DType::F32, &[4], &options())[0].cached_pair_flops, "{split:?}");
    }
}

#[test]
fn llama_2_70b_takes_of_two_devices_what_its_shape_says() {
    let config = Shape::Llama2_70b.config();
    assert_eq!(presets::default_layer(80), LAYER);
    // 2·8192² for queries and output, 2·8192·1024 for keys and values, 3·8192·28672 for the MLP.
    let block = 2 * 67_108_864 + 16_777_216 + 704_643_072_u64;
    let ends = 32_000 * 8192_u64;
    let counted = count(&config, DType::BF16, &[40, 40], &options());
    let [first, last] = counted.as_slice() else { panic!("{counted:?}") };
    assert_eq!((first.first_block, first.last_block, last.first_block, last.last_block), (0, 39, 40, 79));
    assert_eq!((first.weights_bytes, last.weights_bytes), (2 * (40 * block + ends), 2 * (40 * block + ends)));
    // 16 pairs of 148 rows keep their residuals where block 38 is; a step saves of a row two residuals, queries, keys and values,
    // gate and up.
    let (residuals, row) = (2 * 16 * 148 * 8192, 3 * 8192 + 2 * 1024 + 2 * 28672);
    assert_eq!(first.cache_bytes, first.weights_bytes + residuals + WORKSPACE.0);
    let own = 39 - LAYER as u64;
    assert_eq!(first.step_bytes, 2 * (own * block + ends) + residuals + 2 * 4 * 148 * own * row + WORKSPACE.0);
    assert_eq!(last.cache_bytes, last.weights_bytes + WORKSPACE.0);
    assert_eq!(last.step_bytes, last.weights_bytes + 2 * 4 * 148 * 40 * row + WORKSPACE.0);
    // One block of the lower ones at a time with the residuals of all rows, or what a step takes.
    let made = 2 * ((own + 1) * block + ends) + residuals + residuals + WORKSPACE.0;
    assert_eq!(first.offload_bytes, made.max(first.step_bytes));
    assert_eq!(last.offload_bytes, last.step_bytes);
    // Keys and values of 9 texts of 114 tokens; logits where the head is.
    let keys = 2 * 9 * 114 * 40 * 2048;
    assert_eq!(first.sweep_bytes, first.weights_bytes + keys + WORKSPACE.0);
    assert_eq!(last.sweep_bytes, last.weights_bytes + keys + 9 * 2 * 4 * 32_000 + WORKSPACE.0);
    // A pair's 148 rows see 50·51/2 keys within the prompt, and each of the 49 rows of either response 50 of the prompt and its own.
    let seen = 1275 + 2 * (49 * 50 + 1225);
    assert_eq!(first.cached_pair_flops, 40 * (2 * 148 * block + 4 * 8192 * seen));
    assert_eq!(first.step_flops, own * 4 * (4 * 148 * block + 3 * 4 * 8192 * seen));
    assert!(last.step_flops > 12 * first.step_flops, "{counted:?}");
}
