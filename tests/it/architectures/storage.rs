//! Weights in memory, in their file, as tensors, and in types of two bytes.

use super::*;

/// A file of bf16 numbers gives the same results mapped, widened and as candle's tensors.
#[test]
fn weights_left_in_their_file_give_the_results_of_those_in_memory() {
    for name in ["llama-tied-bf16", "llama", "qwen3"] {
        let models = [WeightStorage::Dense, WeightStorage::Stored, WeightStorage::Tensors]
            .map(|storage| load_as(name, DType::F32, storage));
        let v = some_vector(models[0].config.hidden_size, 2);
        let [dense, stored, tensors] = models.each_ref().map(|model| {
            let data = compute(model, &pairs(model, 5), 0, Positions::All);
            loss_at(model, &data, &0.into(), &v, 1.0)
        });
        for (loss, gradient) in [stored, tensors] {
            assert!((loss - dense.0).abs() < 1e-6, "{name}: {loss} is not {}", dense.0);
            for (a, b) in gradient.iter().zip(&dense.1) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} is not {b}");
            }
        }
        let (in_memory, mapped) = models[1].weight_bytes();
        assert!(in_memory == 0 && mapped > 0, "{name}: {in_memory} bytes copied");
    }
}

#[test]
fn half_precision_runs_and_stays_near_f32() {
    let recorded = Recorded::of("llama");
    let kinds = [WeightStorage::Tensors, WeightStorage::Dense]
        .map(|storage| [(DType::F16, 0.05, storage), (DType::BF16, 0.5, storage)]);
    for (dtype, tolerance, storage) in kinds.concat() {
        let (model, exact) = (load_as("llama", dtype, storage), load("llama", DType::F32));
        let data = |model: &Model| compute(model, &[recorded_pair(&recorded)], 1, Positions::All);
        let (rough, exact_data) = (data(&model), data(&exact));
        for side in [0, 1] {
            let error = (rough.entries[0].reference[side] - exact_data.entries[0].reference[side]).abs();
            assert!(error < tolerance, "{dtype:?}: log-prob differs by {error}");
        }
        let v = some_vector(model.config.hidden_size, 2);
        let (_, gradient) = loss_at(&model, &rough, &1.into(), &v, 1.0);
        let (_, expected) = loss_at(&exact, &exact_data, &1.into(), &v, 1.0);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(&gradient, &expected) / (dot(&gradient, &gradient) * dot(&expected, &expected)).sqrt();
        assert!(cosine > 0.99, "{dtype:?}: gradient cosine {cosine}");
        let vectors = BTreeMap::from([(1, v)]);
        let ids = recorded.ids("input_ids");
        let texts = generate(&model, &ids, &vectors, &[0.0, 1.0], &common::greedy(4, &[]), &mut |_, _| Ok(())).unwrap();
        assert_eq!(texts[1].token_ids.len(), 4);
    }
}

#[test]
fn gemma_2_multiplies_its_embeddings_by_the_root_of_the_hidden_size_in_their_own_type() {
    let ids = [3, 17, 60];
    let weights = candle_core::safetensors::load(folder("gemma2").join("model.safetensors"), &Device::Cpu).unwrap();
    let rows = weights["model.embed_tokens.weight"].index_select(&Tensor::new(&ids, &Device::Cpu).unwrap(), 0).unwrap();
    // torch.tensor(24 ** 0.5) in each type.
    for (dtype, root) in [(DType::F32, 4.898_979_5), (DType::BF16, 4.906_25), (DType::F16, 4.898_437_5)] {
        let expected = (rows.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap() * root).unwrap();
        let found = load_as("gemma2", dtype, WeightStorage::Dense).embed(&ids).unwrap();
        assert!(difference(&found, &expected) < 1e-6, "{dtype:?}");
        let on_a_device = load_as("gemma2", dtype, WeightStorage::Tensors).embed(&ids).unwrap();
        assert_eq!(difference(&on_a_device, &expected.to_dtype(dtype).unwrap()), 0.0, "{dtype:?}");
    }
}

/// However few rows a step computes: what the reference pass rounded, the step rounds too.
#[test]
fn the_first_loss_in_bf16_is_ln_2() {
    for name in ["llama", "gemma3", "mixtral"] {
        let model = load_as(name, DType::BF16, WeightStorage::Dense);
        let none = vec![0.0; model.config.hidden_size];
        for count in [1, 2, 5] {
            let data = compute(&model, &pairs(&model, count), 0, Positions::All);
            let (loss, _) = loss_at(&model, &data, &0.into(), &none, 1.0);
            assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "{name}, {count} pairs: {loss}");
        }
    }
}
