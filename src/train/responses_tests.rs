//! The kernel that computes the slopes of the loss, run on the CPU from its source, against the loss itself.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::ops::cuda::emulated;

const CPU: Device = Device::Cpu;

fn reference_of(log_probs: PairLogProbs) -> PairReference {
    PairReference { log_probs, tokens: [2, 3] }
}

/// Numbers in −1..1.
fn random(seed: u64, count: usize) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_iter((0..count).map(|_| rng.random_range(-1.0f32..1.0)), &CPU).unwrap()
}

#[test]
fn slopes_of_the_loss_are_those_of_the_cpu() {
    // Three pairs by turns: several tokens a response, one side alone, no token at all; more tokens than threads.
    let owners: Vec<(usize, usize)> = (0..700).map(|i| if i % 3 == 0 { (1, 1) } else { (0, i % 2) }).collect();
    let log_probs = ((random(1, 700) - 1.0).unwrap() * 3.0).unwrap();
    let constants = vec![[-1.5, 0.0], [0.0, -700.0], [-20.0, -30.0]];
    let of = || Responses::new(owners.clone(), constants.clone(), &CPU).unwrap();
    let (responses, tabled) = (of(), emulated(of));
    let sums = responses.sums(&log_probs.to_vec1().unwrap());
    for (beta, d) in [(0.1, 1.0), (0.1, -1.0), (1.0, 0.3)] {
        for margins in [[0.0, 2.0, -3.0], [1e-3, -1.0, 0.5]] {
            let reference: Vec<_> =
                sums.iter().zip(margins).map(|(sum, m)| reference_of([sum[0] - m / beta, sum[1]])).collect();
            let slopes = |responses: &Responses| responses.slopes(Objective::Bipo { beta }, d, &log_probs, &reference).unwrap();
            let (ours, theirs) = (emulated(|| slopes(&tabled)), slopes(&responses));
            let distance = (ours / theirs).unwrap().affine(1.0, -1.0).unwrap().abs().unwrap().max_all().unwrap();
            let distance = distance.to_scalar::<f32>().unwrap();
            // Sums of 1e3 nats in f32.
            assert!(distance < 3e-4 * beta as f32, "beta {beta}, d {d}: off by {distance}");
        }
    }
    // So far from the reference that an exponential of the margin is beyond f32: all of the slope, and none.
    let reference: Vec<_> = sums.iter().map(|sum| reference_of([sum[0] + 8000.0, sum[1]])).collect();
    let bipo = Objective::Bipo { beta: 0.1 };
    let slopes = |d| emulated(|| tabled.slopes(bipo, d, &log_probs, &reference)).unwrap().to_vec1::<f32>().unwrap();
    let sign = |(_, side): &(usize, usize)| if *side == 0 { -1.0 } else { 1.0 };
    let all: Vec<f32> = owners.iter().map(|owner| sign(owner) * 0.1 / 3.0).collect();
    assert!(slopes(1.0).iter().zip(&all).all(|(ours, all)| (ours - all).abs() < 1e-8));
    assert!(slopes(-1.0).iter().all(|slope| *slope == 0.0));
}

#[test]
fn a_pass_without_predictions_has_no_slopes() {
    let none = emulated(|| Responses::new(Vec::new(), vec![[-1.0, -2.0]], &CPU)).unwrap();
    let log_probs = Tensor::zeros(0, candle_core::DType::F32, &CPU).unwrap();
    let slopes =
        emulated(|| none.slopes(Objective::Bipo { beta: 0.1 }, 1.0, &log_probs, &[reference_of([-1.0, -2.0])])).unwrap();
    assert_eq!(slopes.dims(), [0]);
    assert_eq!(none.sums(&[]), [[-1.0, -2.0]]);
}
