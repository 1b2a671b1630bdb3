//! Tests of `bench`.

use candle_core::{DType, Device};

use super::*;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::Weights;

#[test]
fn steps_and_sweeps_are_counted_as_their_shapes_say() {
    let model = Model::load(&Weights::random(MadeOn::Host(1)), Shape::Tiny.config(), DType::F32, &Device::Cpu).unwrap();
    let options = BenchOptions {
        batch_size: 2,
        prompt_tokens: 5,
        response_tokens: 4,
        new_tokens: 6,
        sweeps: vec![3],
        time: Duration::ZERO,
    };
    let measured = steps(&model, &options).unwrap();
    assert_eq!(measured.steps, 3);
    // A pair has a prompt of 5 tokens and two responses of 4 tokens, whose last token predicts nothing.
    assert_eq!(measured.tokens_a_step, 2 * (5 + 3 + 3));
    assert!(measured.flops_per_s > 0.0 && measured.cached_pairs_per_s > 0.0 && measured.cached_flops_per_s > 0.0);
    let swept = sweep(&model, 3, &options).unwrap();
    assert_eq!((swept.magnitudes, swept.tokens), (3, 18));
}
