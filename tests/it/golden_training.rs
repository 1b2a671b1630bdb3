//! The authors' own trainer, recorded on the real small model: reference log-probabilities, 48 training steps, and steered
//! generation. Rows and signs are injected as that run had them.

use std::collections::BTreeMap;
use std::path::Path;

use bipo::generate::{GenerateOptions, generate, next_token_logits};
use bipo::model::Model;
use bipo::session::{DTypeChoice, Demand, Session, SessionOptions};
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, EncodedResponse};
use bipo::train::activations::{Activations, CacheOptions};
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, Factor, ObjectiveName, TrainConfig, Trainer};
use candle_core::Device;
use serde_json::Value;

use crate::common::{self, ids};

fn recorded_pairs() -> (Vec<EncodedPair>, Vec<[f64; 2]>) {
    pairs_of(&common::golden_json("pairs64.json"))
}

/// Recorded pairs and the reference log-probabilities of their responses.
pub fn pairs_of(recorded: &Value) -> (Vec<EncodedPair>, Vec<[f64; 2]>) {
    let pairs = recorded.as_array().unwrap().iter().map(|pair| {
        let prompt = ids(&pair["prompt_ids"]);
        let response = |key: &str| EncodedResponse {
            ids: [prompt.clone(), ids(&pair[key])].concat(),
            start: prompt.len(),
            in_spans: None,
        };
        let reference = [pair["ref_chosen_logp"].as_f64().unwrap(), pair["ref_rejected_logp"].as_f64().unwrap()];
        let row = pair["row"].as_u64().unwrap() as usize;
        (EncodedPair { row, chosen: response("chosen_ids"), rejected: response("rejected_ids") }, reference)
    });
    pairs.unzip()
}

/// The settings of a recorded run of three epochs.
pub fn recorded_config(config: &Value) -> TrainConfig {
    TrainConfig {
        layers: (config["layer"].as_u64().unwrap() as usize).into(),
        epochs: 3,
        max_steps: None,
        schedule_epochs: None,
        batch_size: 4,
        lr: config["lr"].as_f64().unwrap(),
        objective: ObjectiveName::Bipo,
        beta: config["beta"].as_f64().unwrap(),
        gamma: None,
        direction: Direction::Sign,
        max_grad_norm: None,
        positions: Positions::All,
        weight_decay: config["wd"].as_f64().unwrap(),
        warmup_steps: config["warmup"].as_u64().unwrap() as usize,
        scheduler: Scheduler::Cosine,
        seed: 0,
        init: None,
        init_scale: 0.0,
        factor: Factor::One,
        cache: CacheOptions::default(),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub fn norm(a: &[f32]) -> f64 {
    a.iter().map(|x| (*x as f64).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn reference_log_probs_and_48_steps_equal_the_authors_trainer() {
    let model: &Model = common::smollm2();
    let (pairs, reference) = recorded_pairs();
    let recorded = common::golden_json("train_wd05.json");
    let tensors = candle_core::safetensors::load(common::golden("train_v.safetensors"), &Device::Cpu).unwrap();
    let config = recorded_config(&recorded["config"]);

    let data = Activations::compute(model, &pairs, config.layers.lowest(), config.positions).unwrap();
    for (entry, expected) in data.entries.iter().zip(&reference) {
        for side in [0, 1] {
            let difference = (entry.reference[side] - expected[side]).abs();
            assert!(difference < 2e-3, "row {}: {:?} is not {expected:?}", entry.rows.row, entry.reference);
        }
    }

    let mut trainer = Trainer::new(model, &config, &data);
    let steps = recorded["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 48);
    let row_of = |name: &str, step: usize| -> Vec<f32> { tensors[name].get(step).unwrap().to_vec1().unwrap() };
    for (index, step) in steps.iter().enumerate() {
        let rows: Vec<usize> = step["rows"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap() as usize).collect();
        let record = trainer.step(&rows, step["d"].as_f64().unwrap(), 1 + index / 16).unwrap();
        let number = |key: &str| step[key].as_f64().unwrap();
        assert!((record.loss - number("loss")).abs() < 2e-5, "step {index}: {} is not {}", record.loss, number("loss"));
        assert!((record.lr - number("lr")).abs() < 1e-12, "step {index}: lr {}", record.lr);
        for (what, ours) in [("grad_norm", record.grad_norm), ("v_norm_after", record.vector_norm)] {
            let difference = (ours - number(what)).abs();
            assert!(difference <= 1e-4 * number(what), "step {index}: {what} {ours} is not {}", number(what));
        }
        let gradient_cosine = cosine(&trainer.gradient, &row_of("grad_at_step_wd05", index));
        assert!(gradient_cosine >= 0.9999, "step {index}: gradient cosine {gradient_cosine}");
    }
    let expected = row_of("v_after_step_wd05", 0);
    let (cosine, ratio) = (cosine(&trainer.state.v, &expected), norm(&trainer.state.v) / norm(&expected));
    assert!(cosine >= 0.9999, "cosine of v {cosine}");
    assert!((ratio - 1.0).abs() < 1e-3, "norm ratio of v {ratio}");
}

/// `--dtype bf16` on the CPU: bf16 operands of the products with weights, f32 elsewhere. Each loss is the recorded one within 0.02,
/// and the vector points where the recorded one does.
#[test]
fn steps_in_bf16_stay_near_the_authors_trainer() {
    let options = SessionOptions { dtype: DTypeChoice::Bf16, ..common::smollm2_options() };
    let model = Session::open(options).unwrap().load(&Demand::default()).unwrap().model;
    let (pairs, _) = recorded_pairs();
    let recorded = common::golden_json("train_wd05.json");
    let tensors = candle_core::safetensors::load(common::golden("train_v.safetensors"), &Device::Cpu).unwrap();
    let config = recorded_config(&recorded["config"]);
    let data = Activations::compute(&model, &pairs, config.layers.lowest(), config.positions).unwrap();
    let mut trainer = Trainer::new(&model, &config, &data);
    let mut largest: f64 = 0.0;
    for (index, step) in recorded["steps"].as_array().unwrap().iter().enumerate() {
        let rows: Vec<usize> = step["rows"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap() as usize).collect();
        let record = trainer.step(&rows, step["d"].as_f64().unwrap(), 1 + index / 16).unwrap();
        let difference = (record.loss - step["loss"].as_f64().unwrap()).abs();
        assert!(difference < 0.02, "step {index}: {} is not {}", record.loss, step["loss"]);
        largest = largest.max(difference);
    }
    let expected: Vec<f32> = tensors["v_after_step_wd05"].get(0).unwrap().to_vec1().unwrap();
    let cosine = cosine(&trainer.state.v, &expected);
    assert!(cosine >= 0.99, "cosine of v {cosine}");
    assert!(largest > 2e-5, "nothing was rounded");
}

#[test]
fn the_first_loss_is_ln_2() {
    let model = common::smollm2();
    let (pairs, _) = recorded_pairs();
    let config = recorded_config(&common::golden_json("train_wd05.json")["config"]);
    let data = Activations::compute(model, &pairs[..8], config.layers.lowest(), config.positions).unwrap();
    let record = Trainer::new(model, &config, &data).step(&[5, 0, 3, 7], -1.0, 1).unwrap();
    assert!((record.loss - std::f64::consts::LN_2).abs() < 1e-6, "{}", record.loss);
}

#[test]
fn steered_logits_and_greedy_tokens_equal_the_recorded_ones() {
    let model = common::smollm2();
    let recorded = common::golden_json("steer_parity.json");
    let tensors = candle_core::safetensors::load(common::golden("steer_parity.safetensors"), &Device::Cpu).unwrap();
    let layer = recorded["layer"].as_u64().unwrap() as usize;
    let v: Vec<f32> = tensors["v_random_norm8"].to_vec1().unwrap();
    let vectors = BTreeMap::from([(layer, v)]);
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    let [sample, sums] = ["logits_of_every_128th_id", "sums_of_128_logits"].map(|name| tensors[name].to_vec2::<f32>().unwrap());
    for (prompt, cases) in cases.chunks(3).enumerate() {
        let prompt_ids = ids(&cases[0]["prompt_ids"]);
        let magnitudes: Vec<f32> = cases.iter().map(|case| case["magnitude"].as_f64().unwrap() as f32).collect();
        let options = common::greedy(32, &[2]);
        let logits = next_token_logits(model, &prompt_ids, &vectors, &magnitudes, &options).unwrap();
        let texts = generate(model, &prompt_ids, &vectors, &magnitudes, &options, &mut |_, _| Ok(())).unwrap();
        for (branch, case) in cases.iter().enumerate() {
            assert_eq!(ids(&case["prompt_ids"]), prompt_ids);
            let name = format!("p{prompt}_m{:+}", magnitudes[branch]);
            let got: Vec<f32> = logits.get(branch).unwrap().to_vec1().unwrap();
            let row = 3 * prompt + branch;
            assert_logits(&name, &got, case, &sample[row], &sums[row]);
            let (ours, theirs) = (&texts[branch].token_ids, ids(&case["greedy32_ids"]));
            let Some(at) = (0..theirs.len()).find(|at| ours.get(*at) != Some(&theirs[*at])) else { continue };
            assert!(case["min_top2_gap"].as_f64().unwrap() < 0.02, "{name}: {ours:?} is not {theirs:?}");
            // They part at the near-tie and nowhere else.
            let prefix = [&prompt_ids, &theirs[..at]].concat();
            let tied = next_token_logits(model, &prefix, &vectors, &magnitudes[branch..=branch], &options).unwrap();
            let tied = tied.get(0).unwrap().to_vec1::<f32>().unwrap();
            let gap = (tied[ours[at] as usize] - tied[theirs[at] as usize]).abs();
            assert!(gap < 0.02, "{name}: token {at} is {}, not {}: no near-tie, {gap}", ours[at], theirs[at]);
        }
    }
}

/// Not every logit is recorded, but each is in a sum, which it changes by as much as it is wrong.
fn assert_logits(name: &str, got: &[f32], case: &Value, sample: &[f32], sums: &[f32]) {
    assert!(got.len() == 128 * sums.len() && sample.len() == sums.len(), "{name}: {} logits", got.len());
    let top_ids = ids(&case["top20_ids"]);
    let top_logits = case["top20_logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32);
    let top = top_ids.iter().map(|id| *id as usize).zip(top_logits);
    for (id, logit) in top.chain((0..).step_by(128).zip(sample.iter().copied())) {
        assert!((got[id] - logit).abs() < 2e-2, "{name}: logit {id} is {}, not {logit}", got[id]);
    }
    for (run, (got, sum)) in got.chunks(128).zip(sums).enumerate() {
        let got: f64 = got.iter().map(|logit| f64::from(*logit)).sum();
        let difference = (got - f64::from(*sum)).abs();
        assert!(difference < 2e-2, "{name}: sum of the 128 logits from {} on is {got}, not {sum}", 128 * run);
    }
    let top = (0..got.len()).max_by(|a, b| got[*a].total_cmp(&got[*b])).unwrap();
    assert_eq!(top as u32, top_ids[0], "{name}: top token");
}

/// The rate, steps and rows of the recorded PyTorch run: |v| 4.5, +3.7 at d = +1 and −4.0 at d = −1, 96 % and 92 % right.
#[test]
#[ignore = "needs the authors' data in ../shared/data"]
fn power_seeking_moves_held_out_pairs_as_far_as_in_pytorch() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/power-seeking/train.csv");
    let out = tempfile::tempdir().unwrap();
    let heldout = common::rows_as_csv(&dir, 160..210, &out.path().join("heldout.csv"));
    let args = ["--dataset", dir.to_str().unwrap(), "--limit", "160", "--eval-dataset", heldout.to_str().unwrap()];
    let settings = ["--lr", "0.01", "--layer", "14", "--max-steps", "100", "--warmup-steps", "10", "--weight-decay", "0"];
    let system = ["--system", "You are a helpful, honest and concise assistant.", "--response-prefix", " "];
    let training = common::train_smollm2(&[&args[..], &settings, &system].concat(), out.path());
    let heldout = &training.metadata["heldout"];
    let number = |key: &str| heldout[key].as_f64().unwrap();
    let (positive, negative) = (number("positive_margin") / 0.1, number("negative_margin") / 0.1);
    assert!((3.0..6.0).contains(&training.norm), "|v| {}", training.norm);
    assert!(positive > 3.0 && negative < -3.0, "{positive} and {negative}");
    assert!(number("positive_right") >= 0.9 && number("negative_right") >= 0.88, "{heldout}");
}

#[test]
fn the_bundled_default_moves_nine_of_ten_held_out_pairs_the_right_way() {
    let out = tempfile::tempdir().unwrap();
    // Two epochs of the five: the later ones make the margins larger.
    let training = common::train_smollm2(&["--eval-dataset", "cheerful-heldout", "--epochs", "2"], out.path());
    let heldout = &training.metadata["heldout"];
    let number = |key: &str| heldout[key].as_f64().unwrap();
    assert!(number("positive_right") >= 0.9 && number("negative_right") >= 0.9, "{heldout}");
    assert!(number("positive_margin") > 0.15 && number("negative_margin") < -0.15, "{heldout}");
}

fn options_for(positions: Positions) -> GenerateOptions {
    GenerateOptions { positions, ..common::greedy(6, &[2]) }
}

#[test]
fn magnitude_zero_is_bit_identical_to_no_vector_and_a_batch_to_single_runs() {
    let model = common::smollm2();
    let prompt: Vec<u32> = (0..31).map(|i| 300 + 97 * i).collect();
    let v: Vec<f32> = (0..model.config.hidden_size).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0).collect();
    let vectors = BTreeMap::from([(14, v)]);
    for positions in [Positions::All, Positions::Prompt, Positions::Response, Positions::Last] {
        let options = options_for(positions);
        let bits = |vectors: &BTreeMap<usize, Vec<f32>>, magnitudes: &[f32]| -> Vec<Vec<u32>> {
            let logits = next_token_logits(model, &prompt, vectors, magnitudes, &options).unwrap();
            logits.to_vec2::<f32>().unwrap().into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
        };
        let sweep = bits(&vectors, &[-2.0, 0.0, 2.0]);
        assert_eq!(sweep[1], bits(&BTreeMap::new(), &[0.0])[0]);
        assert_eq!(sweep[2], bits(&vectors, &[2.0])[0]);
        let texts = |vectors: &BTreeMap<usize, Vec<f32>>, magnitudes: &[f32]| {
            generate(model, &prompt, vectors, magnitudes, &options, &mut |_, _| Ok(())).unwrap()
        };
        let sweep = texts(&vectors, &[-2.0, 0.0, 2.0]);
        assert_eq!(sweep[1].token_ids, texts(&BTreeMap::new(), &[0.0])[0].token_ids);
        for (branch, magnitude) in [(0, -2.0), (2, 2.0)] {
            assert_eq!(sweep[branch].token_ids, texts(&vectors, &[magnitude])[0].token_ids);
        }
    }
}
