//! A sweep through the kernels of a GPU, run on the CPU from their sources, against the sweep of the CPU.

use candle_core::DType;

use super::*;
use crate::model::fixtures::tiny;
use crate::ops::cuda::emulated;

#[test]
fn a_sweep_through_the_kernels_writes_what_the_cpu_does() {
    let model = tiny("mistral", DType::F32);
    let vectors = BTreeMap::from([(1, (0..model.config.hidden_size).map(|i| (i as f32).sin()).collect())]);
    let options = GenerateOptions::greedy(4);
    let prompt: Vec<u32> = (0..9).map(|i| 3 + i * 5).collect();
    let texts = || {
        let generations = generate(&model, &prompt, &vectors, &[-1.0, 0.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        generations.into_iter().map(|generation| generation.token_ids).collect::<Vec<_>>()
    };
    assert_eq!(emulated(texts), texts());
}
