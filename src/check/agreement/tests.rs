//! Tests of `agreement`.

use super::*;
use crate::model::family::FAMILIES;
use crate::ops::cuda::emulated;

#[test]
fn every_family_that_the_decoder_implements_is_checked() {
    let checked: Vec<String> = architectures().into_iter().map(|(_, config)| config.model_type).collect();
    for family in FAMILIES {
        assert!(checked.iter().any(|model_type| model_type == family.name), "{}", family.name);
    }
}

#[test]
fn a_model_agrees_with_itself_and_not_with_one_that_differs_a_little() {
    let (_, config) = architectures().into_iter().find(|(name, _)| *name == "mistral, sliding window").unwrap();
    let of = |config: &Config| {
        numbers(&random_model(config, DType::F32, &Device::Cpu, WeightStorage::Dense).unwrap(), SHORT).unwrap()
    };
    let expected = of(&config);
    assert!(compare("x", DType::F32, &of(&config), &expected).iter().all(|check| check.passed && check.difference == 0.0));
    let mut wider = config.clone();
    wider.architecture.windows.iter_mut().flatten().for_each(|window| *window += 1);
    // A single additional key changes the gradient by more than the bound of the coarsest dtype.
    let checks = compare("x", DType::BF16, &of(&wider), &expected);
    assert!(!checks.iter().find(|check| check.what == "gradient").unwrap().passed, "{checks:?}");
    let mut turned = config.clone();
    turned.ropes[0].theta *= 1.1;
    let checks = compare("x", DType::F32, &of(&turned), &expected);
    assert!(checks.iter().take(4).all(|check| !check.passed), "{checks:?}");
}

#[test]
fn the_kernels_pass_with_the_heads_of_7b_models_and_of_gemma_2_and_sequences_of_several_tiles() {
    for (name, config) in wide_heads() {
        // The sequences fill two tiles of keys and three of queries. Sequences as long as the real check's would take a minute.
        let of = |dtype, hold| numbers(&random_model(&config, dtype, &Device::Cpu, hold).unwrap(), 80).unwrap();
        let (found, expected) = (emulated(|| of(DType::BF16, WeightStorage::Tensors)), of(DType::F32, WeightStorage::Dense));
        let checks = compare(name, DType::BF16, &found, &expected);
        assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
    }
}

#[test]
fn every_architecture_agrees_with_itself_composed_of_candles_ops() {
    for (name, config) in architectures() {
        let of = |dtype, hold| numbers(&random_model(&config, dtype, &Device::Cpu, hold).unwrap(), SHORT).unwrap();
        let expected = of(DType::F32, WeightStorage::Dense);
        for dtype in [DType::F32, DType::BF16].into_iter().filter(|dtype| *dtype == DType::F32 || !chooses_experts(&config)) {
            let checks = compare(name, dtype, &of(dtype, WeightStorage::Tensors), &expected);
            assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
        }
    }
}

#[test]
fn the_kernels_pass_on_what_the_families_add() {
    for (name, dtype) in [
        ("gemma2", DType::F32),
        ("gemma2", DType::BF16),
        ("gemma3", DType::F32),
        ("gemma3", DType::BF16),
        ("granite", DType::F32),
        ("granite", DType::BF16),
        ("phi3", DType::F32),
        ("phi3", DType::BF16),
        ("olmo2", DType::F32),
        // With YaRN in one block.
        ("olmo3", DType::F32),
        ("smollm3", DType::F32),
        ("mixtral", DType::F32),
        ("mixtral, all experts", DType::F16),
        ("mixtral, all experts", DType::BF16),
        ("qwen3_moe", DType::F32),
        ("qwen3_moe", DType::BF16),
    ] {
        let (_, mut config) = architectures().into_iter().find(|(known, _)| *known == name).unwrap();
        if dtype != DType::F32 && chooses_experts(&config) {
            // Two experts that are nearly as likely fall either way in 16 bits: every token goes through all of them.
            config.architecture.experts.as_mut().into_iter().for_each(|experts| experts.per_token = experts.count);
        }
        let of = |dtype, hold| numbers(&random_model(&config, dtype, &Device::Cpu, hold).unwrap(), SHORT).unwrap();
        let expected = of(DType::F32, WeightStorage::Dense);
        let checks = compare(name, dtype, &emulated(|| of(dtype, WeightStorage::Tensors)), &expected);
        assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
    }
}

#[test]
fn what_is_no_number_does_not_pass() {
    assert!(!Check::new("x", DType::F32, "logits", f64::NAN, 1.0).passed);
    assert!(distance(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
    assert_eq!(distance(&[1.0], &[1.0, 1.0]), f64::INFINITY);
    assert_eq!(distance(&[3.0, 0.0], &[0.0, 4.0]), 1.25);
}
