//! Counted by hand from the published shapes of the paper's two models.

use super::*;
use crate::model::shapes::Shape;

const GB: u64 = 1_000_000_000;

/// Four pairs of 100 tokens, 50 of them the prompt that both responses share, and 996 shorter ones.
fn rows() -> Vec<u64> {
    [vec![100; 996], vec![150; 4]].concat()
}

fn choice(dtype: DType, batch_size: usize, cache: CachePlace) -> Choice {
    Choice { dtype, batch_size, cache }
}

#[test]
fn llama_2_7b_in_bf16_takes_what_its_shape_says() {
    // 4·4096² for attention and 3·4096·11008 for the MLP are 202,375,168 numbers a block; 32 of them, and two embeddings of
    // 32000·4096.
    let weights = 32 * 202_375_168 + 2 * 131_072_000;
    assert_eq!(weights, 6_738_149_376_u64);
    let run = Run::training(&Shape::Llama2_7b.config(), rows(), 1, 16);
    let need = run.need(&choice(DType::BF16, 4, CachePlace::Device));
    assert_eq!(need.weights, Bytes(2 * weights));
    // 99,600 + 600 rows of 4096.
    assert_eq!(need.cache, Bytes(2 * 100_200 * 4096));
    // A block keeps two residuals, queries, keys and values of 4096 each, and gate and up: 5·4096 + 2·11008 = 42,496
    // numbers a row; 600 rows in 16 blocks.
    assert_eq!(need.activations, Bytes(2 * 600 * 16 * 42_496));
    assert_eq!(need.total(), Bytes(13_476_298_752 + 820_838_400 + 815_923_200 + WORKSPACE.0));
    // Issue's bound for training at batch 4.
    assert!(need.total() < Bytes(24 * GB));
    let on_host = run.need(&choice(DType::BF16, 4, CachePlace::Host));
    assert_eq!(on_host, Need { cache: Bytes(0), ..need });
}

#[test]
fn mistral_7b_takes_twice_as_much_in_f32_and_a_large_batch_is_cut_at_a_third_of_the_weights() {
    // 2·4096² + 2·4096·1024 + 3·4096·14336 numbers a block.
    let weights = 32 * 218_103_808 + 2 * 131_072_000;
    assert_eq!(weights, 7_241_465_856_u64);
    let run = Run::training(&Shape::Mistral7b.config(), rows(), 1, 18);
    let need = |dtype, batch_size| run.need(&choice(dtype, batch_size, CachePlace::Host));
    assert_eq!(need(DType::F32, 4).weights, Bytes(4 * weights));
    // 2·4096 + (32 + 16)·128 + 2·14336 = 43,008 numbers a row.
    assert_eq!(need(DType::F32, 4).activations, Bytes(4 * 600 * 18 * 43_008));
    assert_eq!(need(DType::F16, 4).activations, Bytes(2 * 600 * 18 * 43_008));
    assert_eq!(need(DType::BF16, 1000).activations, Bytes(2 * (weights / 3)));
}

#[test]
fn a_sweep_keeps_keys_and_values_of_every_branch() {
    let need = Run::generation(&Shape::Mistral7b.config(), 5, 228).need(&choice(DType::BF16, 4, CachePlace::Auto));
    // Keys and values of 8·128 numbers in 32 blocks.
    assert_eq!(need.activations, Bytes(2 * 5 * 228 * 2 * 32 * 1024));
    assert_eq!(need.cache, Bytes(0));
}

#[test]
fn the_cache_goes_to_main_memory_where_the_device_has_no_room_for_it() {
    let run = Run::training(&Shape::Llama2_7b.config(), rows(), 1, 16);
    let auto = choice(DType::BF16, 4, CachePlace::Auto);
    let (on_device, on_host) =
        (run.need(&choice(DType::BF16, 4, CachePlace::Device)), run.need(&choice(DType::BF16, 4, CachePlace::Host)));
    assert_eq!(run.fit(&auto, on_device.total()), Fit::Fits(CachePlace::Device, on_device));
    assert_eq!(run.fit(&auto, Bytes(on_device.total().0 - 1)), Fit::Fits(CachePlace::Host, on_host));
    let Fit::TooMuch(need, choices) = run.fit(&choice(DType::BF16, 4, CachePlace::Device), on_host.total()) else {
        panic!("there is no room for the cache");
    };
    assert_eq!(need, on_device);
    assert_eq!(choices, [(choice(DType::BF16, 4, CachePlace::Host), on_host)]);
    assert_eq!(choices[0].0.flags(&choice(DType::BF16, 4, CachePlace::Device)), "--cache host");
}

#[test]
fn what_is_suggested_fits_and_is_the_largest_batch_that_does() {
    let run = Run::training(&Shape::Llama2_7b.config(), rows(), 1, 16);
    let wanted = choice(DType::F32, 4, CachePlace::Auto);
    // 27.0 GB of f32 weights are too much for 24 GB; as bf16, cache and all fit.
    let Fit::TooMuch(need, choices) = run.fit(&wanted, Bytes(24 * GB)) else { panic!("27 GB do not fit 24") };
    assert_eq!(need.weights, Bytes(4 * 6_738_149_376));
    assert_eq!(choices.iter().map(|(choice, _)| choice.flags(&wanted)).collect::<Vec<_>>(), ["--dtype bf16"]);

    // Room for the activations of two pairs of the four.
    let two = run.need(&choice(DType::F32, 2, CachePlace::Host)).total();
    let Fit::TooMuch(_, choices) = run.fit(&wanted, two) else { panic!("there is room for two pairs") };
    let flags: Vec<String> = choices.iter().map(|(choice, _)| choice.flags(&wanted)).collect();
    assert_eq!(flags, ["--batch-size 2", "--dtype bf16"]);
    for (choice, need) in &choices {
        assert!(need.total() <= two && run.need(choice) == *need);
    }

    let Fit::TooMuch(_, choices) = run.fit(&wanted, Bytes(8 * GB)) else { panic!("no choice of these fits 8 GB") };
    assert_eq!(choices, []);
}
