//! Gemma 3 270M, real weights, against what `transformers` computed with the same GGUF file (tests/fixtures/make_gemma3.py): also
//! behind prompts that are longer than the window of its sliding blocks.

use std::collections::BTreeMap;

use bipo::generate::{generate, next_token_logits};
use bipo::model::Model;
use bipo::model::layout::Layout;
use bipo::ops::head::{Gradient, Prediction, Predictions};
use bipo::session::{Demand, Session, SessionOptions, WeightsChoice};
use bipo::steering::Steering;
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, EncodedResponse};
use bipo::train::batch::{Batch, PairRows};
use candle_core::Tensor;
use serde_json::Value;

use crate::common::{self, ids};
use crate::golden_training::norm;

fn gemma3() -> Model {
    let path = bipo::hub::cache_dir::cache_dir().unwrap().join("gemma-3-270m-q4_k_m.gguf");
    assert!(path.is_file(), "{} is not there: run scripts/fetch-gemma3.sh first", path.display());
    let model = path.to_str().unwrap().to_owned();
    let options =
        SessionOptions { model, device: "cpu".into(), weights: WeightsChoice::Dense, offline: true, ..Default::default() };
    Session::open(options).unwrap().load(&Demand::default()).unwrap().model
}

/// The vector of the recording: 3·sin(1.7·i).
fn vector(hidden: usize) -> Vec<f32> {
    (0..hidden).map(|i| (3.0 * (1.7 * i as f64).sin()) as f32).collect()
}

/// Log-probability of a response, with `v` on the output of block `layer` where there is one.
fn log_prob(model: &Model, prompt: &[u32], response: &[u32], layer: usize, v: Option<&[f32]>) -> f64 {
    let tokens = [prompt, response].concat();
    let mut layout = Layout::default();
    layout.push_sequence(tokens.len());
    let plan = model.plan(&layout).unwrap();
    let mut x = model.run(0..layer + 1, &model.embed(&tokens).unwrap(), &plan).unwrap();
    if let Some(v) = v {
        x = x.broadcast_add(&Tensor::new(v, x.device()).unwrap()).unwrap();
    }
    let x = model.run(layer + 1..model.num_blocks(), &x, &plan).unwrap();
    let list = (prompt.len()..tokens.len()).map(|at| Prediction { row: at - 1, target: tokens[at] }).collect();
    let predictions = Predictions::new(list, tokens.len(), model.device()).unwrap();
    let log_probs = model.log_probs(&x, &predictions, Gradient::NotWanted).unwrap().log_probs;
    log_probs.to_vec1::<f32>().unwrap().into_iter().map(f64::from).sum()
}

#[test]
fn log_probs_gradients_and_greedy_tokens_equal_those_of_transformers() {
    let (model, recorded) = (gemma3(), common::golden_json("gemma3.json"));
    let layer = recorded["layer"].as_u64().unwrap() as usize;
    let v = vector(model.config.hidden_size);
    let pairs = recorded["pairs"].as_array().unwrap();
    assert!(pairs.iter().any(|pair| ids(&pair["prompt"]).len() > 512), "no prompt is longer than the window");
    for (row, pair) in pairs.iter().enumerate() {
        let prompt = ids(&pair["prompt"]);
        for (which, addition) in [("plain", None), ("steered", Some(v.as_slice()))] {
            for (side, response) in ["chosen", "rejected"].into_iter().enumerate() {
                let found = log_prob(&model, &prompt, &ids(&pair[response]), layer, addition);
                let expected = pair[which][side].as_f64().unwrap();
                let away = (found - expected).abs() / expected.abs();
                assert!(away < 2e-4, "pair {row}, {which} {response}: {found} is not {expected}, {away:e} away");
            }
        }
        gradient(&model, pair, &prompt, layer, row);
        greedy(&model, pair, &prompt, (layer, v.as_slice()), row);
    }
}

/// Compares the greedy tokens without and with `v`. They part from the recorded ones at a near-tie and nowhere else.
fn greedy(model: &Model, pair: &Value, prompt: &[u32], (layer, v): (usize, &[f32]), row: usize) {
    let vectors = BTreeMap::from([(layer, v.to_vec())]);
    let recorded = pair["greedy"].as_array().unwrap();
    assert_eq!(recorded.len(), 2);
    for (recorded, magnitude) in recorded.iter().zip([0.0, 1.0]) {
        let theirs = ids(&recorded["ids"]);
        let options = common::greedy(theirs.len(), &[]);
        let texts = generate(model, prompt, &vectors, &[magnitude], &options, &mut |_, _| Ok(())).unwrap();
        let ours = &texts[0].token_ids;
        let Some(at) = (0..theirs.len()).find(|at| ours.get(*at) != Some(&theirs[*at])) else { continue };
        let what = format!("pair {row}, magnitude {magnitude}: {ours:?} is not {theirs:?}");
        assert!(recorded["smallest_gap"].as_f64().unwrap() < 0.02, "{what}, and no token was nearly tied");
        let prefix = [prompt, &theirs[..at]].concat();
        let tied = next_token_logits(model, &prefix, &vectors, &[magnitude], &options).unwrap();
        let tied = tied.get(0).unwrap().to_vec1::<f32>().unwrap();
        let gap = (tied[ours[at] as usize] - tied[theirs[at] as usize]).abs();
        assert!(gap < 0.02, "{what}: no near-tie at token {at}, where the logits are {gap} apart");
    }
}

/// Compares the gradient of log p(chosen) − log p(rejected) at v = 0.
fn gradient(model: &Model, pair: &Value, prompt: &[u32], layer: usize, row: usize) {
    let response =
        |key: &str| EncodedResponse { ids: [prompt, &ids(&pair[key])].concat(), start: prompt.len(), in_spans: None };
    let encoded = EncodedPair { row, chosen: response("chosen"), rejected: response("rejected") };
    let rows = PairRows::new(&encoded, model, Positions::All);
    let batch = Batch::new(model, &[&rows]).unwrap();
    let residual = batch.lower(&rows.ids, layer).unwrap();
    let zero = BTreeMap::from([(layer, vec![0.0; model.config.hidden_size])]);
    let steering = Steering::new(&zero, model.device()).unwrap();
    let pass = batch.upper(&residual, layer, &steering, Gradient::Wanted).unwrap();
    let slopes = common::slopes_of(&batch, &pass, [1.0, -1.0]);
    let (_, gradient) = batch.vjp(pass, &slopes).unwrap();
    let length = pair["grad_v_length"].as_f64().unwrap();
    assert!((norm(&gradient) - length).abs() < 1e-3 * length, "pair {row}: |∂/∂v| is {}, not {length}", norm(&gradient));
    for (at, expected) in pair["grad_v"].as_array().unwrap().iter().enumerate() {
        let (found, expected) = (f64::from(gradient[64 * at]), expected.as_f64().unwrap());
        assert!((found - expected).abs() < 1e-3 * length, "pair {row}, ∂/∂v[{}]: {found} is not {expected}", 64 * at);
    }
}
