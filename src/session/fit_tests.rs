//! Counted by hand from the published shapes of the paper's two models.

use super::*;
use crate::model::shapes::Shape;
use crate::session::demand::{LowerBlocks, WORKSPACE};

const GB: u64 = 1_000_000_000;

/// Four pairs of 100 tokens, 50 of them the prompt that both responses share, and 996 shorter ones.
fn rows() -> Vec<u64> {
    [vec![100; 996], vec![150; 4]].concat()
}

/// Training at the paper's layer of Llama-2-7B, 15: 16 blocks are above it.
fn llama(batch_size: usize, cache: CachePlace) -> Demand {
    Demand { cache, ..Demand::of_rows(rows(), 1).with_gradient(15, batch_size) }
}

fn memory(free: Bytes) -> DeviceMemory {
    DeviceMemory { free, total: Bytes(24 * GB) }
}

fn short(demand: &Demand, dtype: DType, free: Bytes) -> Shortage {
    on_device(demand, &Shape::Llama2_7b.config(), dtype, memory(free)).unwrap_err()
}

fn remedies(shortage: &Shortage) -> Vec<Vec<Remedy>> {
    shortage.fits.iter().map(|(remedies, _)| remedies.clone()).collect()
}

#[test]
fn llama_2_7b_in_bf16_takes_what_its_shape_says() {
    // 4·4096² for attention and 3·4096·11008 for the MLP are 202,375,168 numbers a block; 32 of them, and two embeddings of
    // 32000·4096.
    let weights = 32 * 202_375_168 + 2 * 131_072_000;
    assert_eq!(weights, 6_738_149_376_u64);
    let config = Shape::Llama2_7b.config();
    let need = llama(4, CachePlace::Device).on_device(&config, DType::BF16);
    assert_eq!(need.weights, Bytes(2 * weights));
    // 99,600 + 600 rows of 4096.
    assert_eq!(need.cache, Bytes(2 * 100_200 * 4096));
    // A block keeps two residuals, queries, keys and values of 4096 each, and gate and up: 5·4096 + 2·11008 = 42,496
    // numbers a row; 600 rows in 16 blocks.
    assert_eq!(need.activations, Bytes(2 * 600 * 16 * 42_496));
    assert_eq!(need.total(), Bytes(13_476_298_752 + 820_838_400 + 815_923_200 + WORKSPACE.0));
    assert_eq!(need.beside(), Bytes(815_923_200 + WORKSPACE.0));
    // The bound that training at batch 4 has.
    assert!(need.total() < Bytes(24 * GB));
    let on_host = llama(4, CachePlace::Host).on_device(&config, DType::BF16);
    assert_eq!(on_host, Need { cache: Bytes(0), ..need });
}

#[test]
fn mistral_7b_takes_twice_as_much_in_f32_and_a_large_batch_is_cut_at_a_third_of_the_weights() {
    // 2·4096² + 2·4096·1024 + 3·4096·14336 numbers a block.
    let weights = 32 * 218_103_808 + 2 * 131_072_000;
    assert_eq!(weights, 7_241_465_856_u64);
    let config = Shape::Mistral7b.config();
    // Above layer 13 there are 18 blocks.
    let need = |dtype, batch_size| Demand::of_rows(rows(), 1).with_gradient(13, batch_size).on_device(&config, dtype);
    assert_eq!(need(DType::F32, 4).weights, Bytes(4 * weights));
    // 2·4096 + (32 + 16)·128 + 2·14336 = 43,008 numbers a row.
    assert_eq!(need(DType::F32, 4).activations, Bytes(4 * 600 * 18 * 43_008));
    assert_eq!(need(DType::F16, 4).activations, Bytes(2 * 600 * 18 * 43_008));
    assert_eq!(need(DType::BF16, 1000).activations, Bytes(2 * (weights / 3)));
}

#[test]
fn without_a_gradient_nothing_is_saved_and_each_layer_keeps_its_residuals() {
    let config = Shape::Mistral7b.config();
    let need = Demand::of_rows(rows(), 3).on_device(&config, DType::BF16);
    assert_eq!((need.activations, need.cache), (Bytes(0), Bytes(3 * 2 * 100_200 * 4096)));
    let need = Demand::of_rows(rows(), 3).on_host(&config, Bytes(0), DType::F32);
    assert_eq!(need.total(), Bytes(3 * 4 * 100_200 * 4096));
}

#[test]
fn a_sweep_keeps_keys_and_values_of_every_branch() {
    let config = Shape::Mistral7b.config();
    let need = Demand::generation(5, 100, 128).on_device(&config, DType::BF16);
    // Keys and values of 8·128 numbers in 32 blocks; logits of two tokens.
    assert_eq!(need.keys, Bytes(2 * 5 * 228 * 2 * 32 * 1024));
    assert_eq!(need.logits, Bytes(2 * 5 * 32_000 * 4));
    assert_eq!((need.cache, need.activations), (Bytes(0), Bytes(0)));
    // A text ends where the context does.
    assert_eq!(config.max_position_embeddings, 32_768);
    let need = Demand::generation(1, 100, 100_000).on_host(&config, Bytes(0), DType::F32);
    assert_eq!(need.keys, Bytes(4 * 32_768 * 2 * 32 * 1024));
}

#[test]
fn main_memory_holds_the_cache_up_to_its_limit_unless_all_of_it_is_wanted_there() {
    let config = Shape::Llama2_7b.config();
    let cache = |place| llama(4, CachePlace::Auto).cached(place, Bytes(GB)).on_host(&config, Bytes(0), DType::F32).cache;
    assert_eq!(cache(CachePlace::Auto), Bytes(GB));
    assert_eq!(cache(CachePlace::Host), Bytes(GB));
    assert_eq!(cache(CachePlace::Device), Bytes(4 * 100_200 * 4096));
}

#[test]
fn the_cache_goes_to_main_memory_where_the_device_has_no_room_for_it() {
    let config = Shape::Llama2_7b.config();
    let need = |cache| llama(4, cache).on_device(&config, DType::BF16);
    let (with_cache, without) = (need(CachePlace::Device), need(CachePlace::Host));
    let auto = llama(4, CachePlace::Auto);
    let fit = |free| on_device(&auto, &config, DType::BF16, memory(free)).unwrap();
    let found = fit(with_cache.total());
    assert_eq!((found.cache, found.need), (CachePlace::Device, with_cache));
    let found = fit(Bytes(with_cache.total().0 - 1));
    assert_eq!((found.cache, found.need), (CachePlace::Host, without));

    let shortage = short(&llama(4, CachePlace::Device), DType::BF16, without.total());
    assert_eq!(shortage.need, with_cache);
    assert_eq!(shortage.fits, [(vec![Remedy::CacheOnHost], without.total())]);
}

#[test]
fn what_is_suggested_fits_and_is_the_largest_batch_that_does() {
    let wanted = llama(4, CachePlace::Auto);
    // 27.0 GB of f32 weights are too much for 24 GB; as bf16, cache and all fit.
    let shortage = short(&wanted, DType::F32, Bytes(24 * GB));
    assert_eq!(shortage.need.weights, Bytes(4 * 6_738_149_376));
    assert_eq!(remedies(&shortage), [[Remedy::DType(DType::BF16)]]);

    // Room for the activations of two pairs of the four.
    let config = Shape::Llama2_7b.config();
    let two = llama(2, CachePlace::Host).on_device(&config, DType::F32).total();
    let shortage = short(&wanted, DType::F32, two);
    assert_eq!(remedies(&shortage), [[Remedy::BatchSize(2)], [Remedy::DType(DType::BF16)]]);
    assert_eq!(shortage.fits[0].1, two);
    // As wanted, with the cache on the device.
    assert_eq!(shortage.fits[1].1, llama(4, CachePlace::Device).on_device(&config, DType::BF16).total());

    let shortage = short(&wanted, DType::F32, Bytes(8 * GB));
    assert_eq!((shortage.fits.as_slice(), shortage.helps.as_slice()), (&[][..], &[Remedy::OtherDevice][..]));
}

#[test]
fn a_device_that_is_too_small_is_told_with_the_choices_that_fit_it() {
    // 150 rows a pair, of which 4000 are 4.9 GB of bf16 residuals.
    let demand = Demand::of_rows(vec![150; 4000], 1).with_gradient(13, 4);
    let config = Shape::Mistral7b.config();
    let fit = |dtype, gb: u64| on_device(&demand, &config, dtype, memory(Bytes(gb * GB)));
    assert_eq!(
        fit(DType::BF16, 23).unwrap().to_string(),
        "device memory: about 21.9 GB of 23.0 GB free (24.0 GB in all): weights 14.5 GB, activation cache 4.9 GB, \
         activations of a step 929.0 MB, work space 1.6 GB"
    );
    assert_eq!(
        fit(DType::BF16, 20).unwrap().to_string(),
        "device memory: about 17.0 GB of 20.0 GB free (24.0 GB in all): weights 14.5 GB, activations of a step 929.0 MB, work \
         space 1.6 GB, activation cache in main memory"
    );
    assert_eq!(
        fit(DType::F32, 20).unwrap_err().to_string(),
        "not enough device memory: about 32.4 GB are needed (weights 29.0 GB, activations of a step 1.9 GB, work space 1.6 \
         GB), 20.0 GB are free; what fits: dtype bf16 (17.0 GB)"
    );
    assert!(fit(DType::BF16, 8).unwrap_err().to_string().ends_with("8.0 GB are free; a smaller model or the CPU"));
}

#[test]
fn what_is_too_large_for_main_memory_is_said_with_its_parts_and_what_helps() {
    let config = Shape::Llama2_7b.config();
    let refused = |demand: &Demand, weights, storage, free| {
        on_host(demand, &config, (Bytes(weights), storage), DType::F32, Bytes(free)).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&llama(4, CachePlace::Auto), 14 * GB, WeightStorage::Dense, 8 * GB),
        "not enough memory: about 17.3 GB are needed (weights 14.0 GB, activation cache 1.6 GB, activations of a step 1.6 \
         GB), 8.0 GB are free; what fits: quantized weights that stay in their file (3.3 GB)"
    );
    assert!(refused(&llama(4, CachePlace::Auto), 0, WeightStorage::Dense, 0).ends_with(
        "0 B are free; a cache memory of 0, with the cache in a file; shorter pairs or a batch size of 1 make a step smaller"
    ));
    let weights = refused(&Demand::default(), 14 * GB, WeightStorage::Tensors, 8 * GB);
    assert!(weights.ends_with("(weights 14.0 GB), 8.0 GB are free; a smaller model fits"), "{weights}");
    // A cache that is wanted on the device, here the CPU, is not sent to a file.
    let step = refused(&llama(4, CachePlace::Device), 0, WeightStorage::Dense, 0);
    assert!(step.ends_with("0 B are free; shorter pairs or a batch size of 1 make a step smaller"), "{step}");
    let nothing = on_host(&Demand::default(), &config, (Bytes(0), WeightStorage::Dense), DType::F32, Bytes(0));
    assert_eq!(nothing, Ok(()));
}

/// Weights of 14 GB, residuals of 1.64 GB, and 1.63 GB that a step of four pairs keeps.
#[test]
fn choices_that_fit_main_memory_alone_or_together_are_named_and_fit() {
    let (config, demand) = (Shape::Llama2_7b.config(), llama(4, CachePlace::Auto));
    let cases: [(u64, &[&[Remedy]]); 5] = [
        (17 * GB, &[&[Remedy::BatchSize(3)], &[Remedy::StoredWeights], &[Remedy::CacheInFile]]),
        (16 * GB, &[&[Remedy::StoredWeights], &[Remedy::CacheInFile]]),
        (4 * GB, &[&[Remedy::StoredWeights]]),
        (3 * GB, &[&[Remedy::StoredWeights, Remedy::BatchSize(3)], &[Remedy::StoredWeights, Remedy::CacheInFile]]),
        (GB, &[&[Remedy::StoredWeights, Remedy::CacheInFile, Remedy::BatchSize(2)]]),
    ];
    for (free, expected) in cases {
        let shortage = on_host(&demand, &config, (Bytes(14 * GB), WeightStorage::Dense), DType::F32, Bytes(free)).unwrap_err();
        assert_eq!(remedies(&shortage), expected, "{free}");
        assert!(shortage.helps.is_empty());
        for (remedies, total) in &shortage.fits {
            let is_stored = remedies.contains(&Remedy::StoredWeights);
            let memory = if remedies.contains(&Remedy::CacheInFile) { Bytes(0) } else { Bytes(2 * GB) };
            let batch_size = remedies.iter().find_map(|remedy| match remedy {
                Remedy::BatchSize(pairs) => Some(*pairs),
                _ => None,
            });
            let demand = llama(batch_size.unwrap_or(4), CachePlace::Auto).cached(CachePlace::Auto, memory);
            let weights = if is_stored { (Bytes(0), WeightStorage::Stored) } else { (Bytes(14 * GB), WeightStorage::Dense) };
            assert_eq!(on_host(&demand, &config, weights, DType::F32, Bytes(free)), Ok(()), "{remedies:?}");
            assert_eq!(demand.on_host(&config, weights.0, DType::F32).total(), *total, "{remedies:?}");
        }
    }
}

#[test]
fn a_sweep_beside_weights_that_leave_no_room_is_told_what_fits_without_them_in_memory() {
    let config = Shape::Llama2_7b.config();
    let demand = Demand::generation(10, 50, 150);
    let sweep = |weights, free| {
        let shortage = on_host(&demand, &config, (Bytes(weights), WeightStorage::Dense), DType::F32, Bytes(free));
        remedies(&shortage.unwrap_err())
    };
    let stored = |remedy| vec![Remedy::StoredWeights, remedy];
    // As in the test below, where weights are in their file from the start.
    let both = [stored(Remedy::Branches(4)), stored(Remedy::NewTokens(45))];
    assert_eq!(sweep(14 * GB, GB), both);
    let few = [vec![Remedy::Branches(2)], vec![Remedy::StoredWeights, Remedy::Branches(4)], stored(Remedy::NewTokens(45))];
    assert_eq!(sweep(GB / 2, GB), few);
}

/// Keys and values of a token are 2·32·4096 f32 numbers, 1 MiB; logits of two tokens 256,000 bytes.
#[test]
fn a_sweep_that_is_too_large_is_told_how_many_magnitudes_or_tokens_fit() {
    let config = Shape::Llama2_7b.config();
    let free = Bytes(GB);
    let demand = Demand::generation(10, 50, 150);
    let shortage = on_host(&demand, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free).unwrap_err();
    let (mib, logits) = (1 << 20, 256_000);
    assert_eq!(shortage.need.total(), Bytes(10 * (200 * mib + logits)));
    // 4 · (200 MiB + 256 kB) are less than 10⁹ bytes; so are 10 · (95 MiB + 256 kB), which leaves 45 new tokens.
    let fits = [(vec![Remedy::Branches(4)], 4 * (200 * mib + logits)), (vec![Remedy::NewTokens(45)], 10 * (95 * mib + logits))];
    assert_eq!(shortage.fits, fits.clone().map(|(remedies, bytes)| (remedies, Bytes(bytes))));
    assert!(shortage.to_string().ends_with("what fits: 4 magnitudes (839.9 MB), or 45 new tokens (998.7 MB)"), "{shortage}");
    for (branches, new_tokens) in [(4, 150), (10, 45)] {
        let fitting = Demand::generation(branches, 50, new_tokens);
        assert_eq!(on_host(&fitting, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free), Ok(()));
    }
    for (branches, new_tokens) in [(5, 150), (10, 46)] {
        let larger = Demand::generation(branches, 50, new_tokens);
        assert!(on_host(&larger, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free).is_err());
    }
    // Where neither is enough alone: 50 tokens of a prompt and 44 new ones are 94 MiB.
    let free = Bytes(95 * mib);
    let shortage = on_host(&demand, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free).unwrap_err();
    let both = vec![Remedy::Branches(1), Remedy::NewTokens(44)];
    assert_eq!(shortage.fits, [(both, Bytes(94 * mib + logits))]);
    let (fitting, larger) = (Demand::generation(1, 50, 44), Demand::generation(1, 50, 45));
    assert_eq!(on_host(&fitting, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free), Ok(()));
    assert!(on_host(&larger, &config, (Bytes(0), WeightStorage::Stored), DType::F32, free).is_err());
}

/// Training at layer 15 of 32: the 16 blocks below and at it are as large as those above.
#[test]
fn blocks_that_no_step_needs_count_while_the_cache_is_made_and_not_from_then_on() {
    let config = Shape::Llama2_7b.config();
    let block = 2 * 202_375_168;
    let stay = llama(1000, CachePlace::Host).on_device(&config, DType::BF16);
    let wanted = |lower| llama(1000, CachePlace::Host).with_lower(lower);
    let [made, steps] = wanted(LowerBlocks::Leave).phases(&config, DType::BF16);
    assert_eq!(made, Need { activations: Bytes(0), ..stay });
    assert_eq!(steps, Need { weights: Bytes(stay.weights.0 - 16 * block), ..stay });
    // A step saves at most a third of the weights, which is less than half of them.
    assert_eq!(wanted(LowerBlocks::Leave).on_device(&config, DType::BF16), made);
    let [made, _] = wanted(LowerBlocks::InFile).phases(&config, DType::BF16);
    assert_eq!(made.weights, Bytes(stay.weights.0 - 15 * block));
    assert_eq!(wanted(LowerBlocks::InFile).on_device(&config, DType::BF16), steps);
}

#[test]
fn devices_take_of_a_demand_what_their_blocks_do() {
    let config = Shape::Llama2_7b.config();
    let whole = llama(4, CachePlace::Device).and_generation(5, 100, 28);
    let parts = [0..10, 10..16, 16..32].map(|blocks| whole.on_stage(blocks).on_device(&config, DType::BF16));
    let whole = whole.on_device(&config, DType::BF16);
    let sum = |of: fn(&Need) -> Bytes| Bytes(parts.iter().map(|part| of(part).0).sum());
    assert_eq!(sum(|need| need.weights), whole.weights);
    assert_eq!(sum(|need| need.keys), whole.keys);
    assert_eq!(sum(|need| need.logits), whole.logits);
    assert_eq!(sum(|need| need.activations), whole.activations);
    // The residuals after block 15 are where block 16 is, and so is all that is saved above it.
    assert_eq!(parts.map(|part| part.cache), [Bytes(0), Bytes(0), whole.cache]);
    assert_eq!(parts.map(|part| part.activations), [Bytes(0), Bytes(0), whole.activations]);
    assert_eq!(parts.map(|part| part.workspace), [WORKSPACE; 3]);
    let short = on_device(&llama(4, CachePlace::Device).on_stage(16..32), &config, DType::BF16, memory(Bytes(GB)));
    let short = short.unwrap_err().to_string();
    assert!(short.starts_with("not enough device memory of blocks 16 to 31: about "), "{short}");
}
