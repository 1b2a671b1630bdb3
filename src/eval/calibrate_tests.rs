//! Tests of `calibrate` against the same numbers from whole passes, one text and one magnitude at a time.

use candle_core::{D, DType, Device, Tensor};

use super::*;
use crate::eval::damage::{NEUTRAL_TEXT, Window};
use crate::eval::divergence::{answers, divergences_of};
use crate::model::fixtures;
use crate::ops::linear::Products;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::collective::Share;

fn vectors(model: &Model) -> BTreeMap<usize, Vec<f32>> {
    BTreeMap::from([(1, (0..model.config.hidden_size).map(|i| 0.3 * (i as f32).sin()).collect())])
}

fn prompts() -> Vec<EncodedPrompt> {
    let prompt = |ids: &[u32]| EncodedPrompt { ids: ids.to_vec(), spans: None };
    vec![prompt(&[3, 9, 27, 4]), prompt(&[11, 5]), prompt(&[8, 8, 2, 30, 17, 6])]
}

/// log p of each next token behind `ids`, steered by m·v at the tokens that `steered` names. Each text takes a pass of its own.
fn log_p(model: &Model, ids: &[u32], v: &[f32], steered: &[f32]) -> Vec<Vec<f64>> {
    let window = Window::of(model, &[ids.to_vec()], 2).unwrap();
    let v = Tensor::from_vec(v.to_vec(), (1, v.len()), &Device::Cpu).unwrap();
    let factors = Tensor::from_vec(steered.to_vec(), (steered.len(), 1), &Device::Cpu).unwrap();
    let x = (&window.residual + factors.matmul(&v).unwrap()).unwrap();
    let mut layout = crate::model::layout::Layout::default();
    layout.push_sequence(ids.len());
    let x = model.run(2..model.num_blocks(), &x, &model.plan(&layout).unwrap()).unwrap();
    let logits = model.logits(&x, Products::Fastest).unwrap();
    candle_nn::ops::log_softmax(&logits.to_dtype(DType::F64).unwrap(), D::Minus1).unwrap().to_vec2().unwrap()
}

#[test]
fn the_divergence_of_answers_is_that_of_whole_passes() {
    let model = fixtures::tiny("llama", DType::F32);
    let (vectors, prompts) = (vectors(&model), prompts());
    for positions in ["all", "prompt", "response"] {
        let options = GenerateOptions { positions: positions.parse().unwrap(), ..GenerateOptions::greedy(7) };
        let magnitude = -1.5;
        let found = answers(&model, &prompts, &vectors, &[magnitude], &options, 3, &mut || Ok(())).unwrap();
        let answers = found[0].as_ref().unwrap();
        let mut expected = Vec::new();
        for (prompt, answer) in prompts.iter().zip(answers) {
            let ids = [&prompt.ids, &answer.token_ids[..6]].concat();
            let at = |token: usize| match positions {
                "prompt" => token < prompt.ids.len(),
                "response" => token >= prompt.ids.len(),
                _ => true,
            };
            let factors: Vec<f32> = (0..ids.len()).map(|token| if at(token) { magnitude } else { 0.0 }).collect();
            let steered = log_p(&model, &ids, &vectors[&1], &factors);
            let plain = log_p(&model, &ids, &vectors[&1], &vec![0.0; ids.len()]);
            let divergence = |(p, q): (&Vec<f64>, &Vec<f64>)| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            expected.extend(steered.iter().zip(&plain).skip(prompt.ids.len() - 1).map(divergence));
        }
        assert_eq!(expected.len(), 21);
        expected.sort_by(f64::total_cmp);
        // 0.95 × 20 = 19: the second largest of 21.
        let steering = Steering::new(&vectors, &Device::Cpu).unwrap().with_factor(magnitude);
        // In one pass, and a prompt a pass.
        for share in [Share::All, Share::OneOfEvery { ranks: 1, first: 0 }] {
            let found = divergences_of(&model, &prompts, answers, &steering, &options, share).unwrap();
            assert!(found.iter().all(|of_prompt| of_prompt.len() == 7), "{found:?}");
            let found = percentile(found.concat());
            assert!((found / expected[19] - 1.0).abs() < 1e-4 && found > 0.001, "{positions}: {found} and {}", expected[19]);
        }
    }
}

#[test]
fn every_budget_is_kept_and_nearly_used_up() {
    let model = fixtures::tiny("mistral", DType::F32);
    let (vectors, prompts) = (vectors(&model), prompts());
    let options = GenerateOptions::greedy(5);
    let ids: Vec<u32> = NEUTRAL_TEXT.bytes().map(|byte| u32::from(byte) % 60).take(200).collect();
    let check = |budget: Budget, limit: Limit| {
        let within = limit.found(budget).unwrap_or_else(|| panic!("{budget}: {limit:?}"));
        assert!(within.cost <= budget.target() && within.size > 0.0, "{budget}: {limit:?}");
        let is_jump = limit.beyond.is_some_and(|beyond| beyond.size < 1.01 * within.size);
        assert!(within.cost >= 0.95 * budget.target() || is_jump, "{budget}: {limit:?}");
    };
    let kl = Budget::Kl(0.05);
    let answers = Gauge::Answers { prompts: &prompts, options: &options, streams: 6 };
    let limits = calibrate(&model, &vectors, kl, answers, &Collective::SingleProcess, &mut || Ok(())).unwrap();
    limits.into_iter().for_each(|limit| check(kl, limit));
    // What a random model reads is as improbable with a vector as without: one direction makes the text likelier.
    let perplexity = Budget::Perplexity(1.002);
    let text = Gauge::Text(TextIds { ids: &ids, bos: None });
    let limits = calibrate(&model, &vectors, perplexity, text, &Collective::SingleProcess, &mut || Ok(())).unwrap();
    let reached: Vec<Limit> = limits.into_iter().filter(|limit| limit.found(perplexity).is_some()).collect();
    assert!(!reached.is_empty(), "{limits:?}");
    reached.into_iter().for_each(|limit| check(perplexity, limit));
    let response = GenerateOptions { positions: Positions::Response, ..options };
    let gauge = Gauge::Answers { prompts: &prompts, options: &response, streams: 6 };
    let [minus, plus] =
        calibrate(&model, &vectors, Budget::Kl(0.05), gauge, &Collective::SingleProcess, &mut || Ok(())).unwrap();
    assert!(minus.found(Budget::Kl(0.05)).is_some() && plus.found(Budget::Kl(0.05)).is_some());
}

#[test]
fn the_margin_at_what_is_found_uses_the_budget_up_by_whole_passes_too() {
    let model = fixtures::tiny("llama", DType::F32);
    let (vectors, beta) = (vectors(&model), 0.5);
    let response =
        |prompt: &[u32], ids: &[u32]| EncodedResponse { ids: [prompt, ids].concat(), start: prompt.len(), in_spans: None };
    let pair = |row: usize, prompt: &[u32], chosen: &[u32], rejected: &[u32]| EncodedPair {
        row,
        chosen: response(prompt, chosen),
        rejected: response(prompt, rejected),
    };
    let mut pairs = [
        pair(0, &[3, 9, 27], &[4, 11], &[5, 8, 2]),
        pair(1, &[30, 17], &[6, 40, 12], &[21]),
        pair(2, &[8, 8, 2, 14], &[33, 7], &[19, 50]),
    ];
    let log_prob = |response: &EncodedResponse, magnitude: f32| -> f64 {
        let rows = log_p(&model, &response.ids, &vectors[&1], &vec![magnitude; response.ids.len()]);
        (response.start..response.ids.len()).map(|at| rows[at - 1][response.ids[at] as usize]).sum()
    };
    let gain = |response: &EncodedResponse, magnitude: f32| log_prob(response, magnitude) - log_prob(response, 0.0);
    let mean_margin = |pairs: &[EncodedPair], magnitude: f32| -> f64 {
        let of_pair = |pair: &EncodedPair| beta * (gain(&pair.chosen, magnitude) - gain(&pair.rejected, magnitude));
        pairs.iter().map(of_pair).sum::<f64>() / pairs.len() as f64
    };
    if mean_margin(&pairs, 0.1) < 0.0 {
        pairs.iter_mut().for_each(|pair| std::mem::swap(&mut pair.chosen, &mut pair.rejected));
    }
    let budget = Budget::Margin(mean_margin(&pairs, 0.2));
    let activations = Activations::compute(&model, &pairs, 1, Positions::All).unwrap();
    let gauge = Gauge::Pairs { pairs: &activations, beta };
    let limits = calibrate(&model, &vectors, budget, gauge, &Collective::SingleProcess, &mut || Ok(())).unwrap();
    for (limit, sign) in limits.into_iter().zip([-1.0_f32, 1.0]) {
        let within = limit.found(budget).unwrap_or_else(|| panic!("{budget}: {limit:?}"));
        let margin = f64::from(sign) * mean_margin(&pairs, sign * within.size as f32);
        assert!((0.949..=1.001).contains(&(margin / budget.target())), "{budget} {sign}: {margin} of {within:?}");
    }
}

#[test]
fn costs_become_a_measure_of_their_rows_and_what_stays_below_the_budget_is_named() {
    let budget = Budget::Perplexity(1.5);
    let row = |subject: &str, magnitude| EvalRow {
        subject: subject.into(),
        magnitude: Some(magnitude),
        measures: Vec::new(),
        failure: None,
    };
    let mut rows = [row("a", -1.0), row("a", 0.0), row("a", 2.0), row("b", 2.0)];
    let of = |subject: &str, magnitude, share: f64| ReachedCost {
        subject: subject.into(),
        magnitude,
        cost: share * budget.target(),
    };
    let reached = vec![of("a", -1.0, 0.97), of("a", 2.0, 1.0), of("b", 2.0, 0.5)];
    let mut calibrated = CalibratedSubjects { reached, unreached: Vec::new() };
    calibrated.add_to(&mut rows, budget);
    let shown = rows.map(|row| row.get("reached_ppl").map(|measure| measure.estimate.value));
    let expected = [Some(1.5_f64.powf(0.97)), None, Some(1.5), Some(1.5_f64.sqrt())];
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.is_some() == expected.is_some());
        assert!((shown.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{shown:?} {expected:?}");
    }
    let warning = calibrated.shortfall(budget).unwrap();
    assert!(warning.starts_with("ppl=1.5 is not used up, which is from 1.470 on, by b at +2 (1.225): "), "{warning}");
    calibrated.reached.pop();
    assert_eq!(calibrated.shortfall(budget), None);
}

#[test]
fn a_vector_of_zeros_reaches_no_budget() {
    let model = fixtures::tiny("llama", DType::F32);
    let (vectors, prompts) = (BTreeMap::from([(1, vec![0.0; model.config.hidden_size])]), prompts());
    let options = GenerateOptions::greedy(3);
    let gauge = Gauge::Answers { prompts: &prompts, options: &options, streams: 6 };
    let limits = calibrate(&model, &vectors, Budget::Kl(1.0), gauge, &Collective::SingleProcess, &mut || Ok(())).unwrap();
    assert!(limits.iter().all(|limit| limit.found(Budget::Kl(1.0)).is_none()));
}
