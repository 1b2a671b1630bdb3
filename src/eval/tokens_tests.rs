//! Tests of `tokens` against the same numbers from the logits of whole passes.

use std::collections::BTreeMap;

use candle_core::{D, Device};

use super::*;
use crate::model::fixtures;
use crate::model::layout::Layout;
use crate::ops::linear::Products;

#[test]
fn tokens_are_scored_as_the_logits_of_whole_passes_say() {
    let model = fixtures::tiny("mistral", DType::F32);
    let v: Vec<f32> = (0..model.config.hidden_size).map(|i| (i as f32).sin()).collect();
    let steering = Steering::new(&BTreeMap::from([(1, v.clone())]), &Device::Cpu).unwrap();
    let ids = [3, 9, 27, 4, 11];
    let found = score_tokens(&model, &ids, &steering.with_factor(-2.0)).unwrap();
    let mut layout = Layout::default();
    layout.push_sequence(ids.len());
    let plan = model.plan(&layout).unwrap();
    let residual = model.run(0..2, &model.embed(&ids).unwrap(), &plan).unwrap();
    let added = Tensor::from_vec(v.iter().map(|v| -2.0 * v).collect::<Vec<_>>(), (1, v.len()), &Device::Cpu).unwrap();
    let expected = |x: &Tensor| -> Vec<f32> {
        let x = model.run(2..model.num_blocks(), x, &plan).unwrap();
        let log_p = candle_nn::ops::log_softmax(&model.logits(&x, Products::Fastest).unwrap(), D::Minus1).unwrap();
        let log_p = log_p.to_vec2::<f32>().unwrap();
        ids[1..].iter().zip(log_p).map(|(id, row)| row[*id as usize]).collect()
    };
    let (plain, steered) = (expected(&residual), expected(&residual.broadcast_add(&added).unwrap()));
    let near = |found: f32, expected: f32| (found - expected).abs() < 1e-4;
    assert_eq!((found[0].logprob, found[0].steered_logprob), (None, None));
    for at in 1..ids.len() {
        assert!(near(found[at].logprob.unwrap(), plain[at - 1]) && near(found[at].steered_logprob.unwrap(), steered[at - 1]));
    }
    assert!(plain.iter().zip(&steered).any(|(plain, steered)| !near(*plain, *steered)), "the vector changes nothing");
    for (score, row) in found.iter().zip(residual.to_vec2::<f32>().unwrap()) {
        let product: f32 = row.iter().zip(&v).map(|(x, v)| x * v).sum();
        let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(near(score.projection, product / (length(&row) * length(&v))));
    }
}
