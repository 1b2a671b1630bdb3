//! The gradient of a mixture of experts against finite differences: through the experts and through the router.

use candle_core::{DType, Device};

use super::*;
use crate::model::architecture::Architecture;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::{WeightStorage, Weights};

const ROWS: usize = 5;

fn mixture(per_token: usize, normalised: bool) -> MixtureOfExperts {
    let experts = ExpertsShape { count: 4, per_token, intermediate_size: 24, normalised, blocks: vec![true; 4] };
    let architecture = Architecture { experts: Some(experts.clone()), ..Architecture::llama(4) };
    let config = Config { architecture, ..Shape::Tiny.config() };
    let loader = Loader {
        weights: &Weights::random(MadeOn::Host(3)),
        config: &config,
        matrices: DType::F32,
        activations: DType::F32,
        storage: WeightStorage::Dense,
        device: &Device::Cpu,
        prefix: "model.layers.0.mlp.".into(),
    };
    MixtureOfExperts::load(&loader, &config, &experts).unwrap()
}

fn wave(seed: usize) -> Tensor {
    let numbers = (0..ROWS * 64).map(|i| (((i + seed) * 37 % 101) as f32 - 50.0) / 50.0);
    Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape((ROWS, 64)).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Number of rows of each expert that has some.
fn rows_of_each(saved: &ExpertsSaved) -> Vec<usize> {
    saved.gate_up().iter().map(|gate_up| gate_up.dim(0).unwrap()).collect()
}

#[test]
fn its_gradient_agrees_with_finite_differences() {
    for (per_token, normalised) in [(4, true), (4, false), (2, true), (2, false)] {
        let mixture = mixture(per_token, normalised);
        let (x, u, dy) = (wave(0), wave(7), wave(13));
        let (_, saved) = mixture.forward(&x, None, Products::Fastest).unwrap();
        let at = |by: f64| {
            let moved = (&x + (&u * by).unwrap()).unwrap();
            let (y, moved_saved) = mixture.forward(&moved, None, Products::Fastest).unwrap();
            // The output jumps where the router's choice changes.
            assert_eq!(rows_of_each(&moved_saved), rows_of_each(&saved), "another step is needed");
            dot(&y, &dy)
        };
        let central = |eps: f64| (at(eps) - at(-eps)) / (2.0 * eps);
        let numeric = (4.0 * central(2e-3) - central(4e-3)) / 3.0;
        let analytic = dot(&mixture.vjp(&saved, &dy).unwrap(), &u);
        assert!((numeric - analytic).abs() < 2e-3 * analytic.abs().max(1.0), "{per_token} {normalised}: {numeric} {analytic}");
    }
}

#[test]
fn only_the_chosen_experts_are_computed() {
    let mixture = mixture(2, true);
    let (_, saved) = mixture.forward(&wave(0), None, Products::Fastest).unwrap();
    assert_eq!(rows_of_each(&saved).iter().sum::<usize>(), 2 * ROWS);
}
