//! Tests of `sweep`, on a random model of three blocks, and through the kernels of a GPU, run on the CPU from their sources.

use candle_core::{DType, Device};

use super::*;
use crate::model::architecture::Architecture;
use crate::model::config::Config;
use crate::model::fixtures;
use crate::model::layout::Layout;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::{WeightStorage, Weights};
use crate::ops::cuda::emulated;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPrompt, PromptSpans};

const LAYER: usize = 1;
const PROMPT: [u32; 6] = [1, 17, 4, 200, 33, 9];

fn tiny() -> Model {
    let config = Config { num_hidden_layers: 3, architecture: Architecture::llama(3), ..Shape::Tiny.config() };
    let weights = Weights::random(MadeOn::Host(7));
    Model::load_as(&weights, config, DType::F32, &Device::Cpu, WeightStorage::Dense).unwrap()
}

fn vectors(model: &Model) -> BTreeMap<usize, Vec<f32>> {
    BTreeMap::from([(LAYER, (0..model.config.hidden_size).map(|i| 2.0 * (i as f32 * 1.7).sin()).collect())])
}

/// Lengths of the residual after the steered layer, token by token.
fn lengths(model: &Model) -> Vec<f64> {
    let mut layout = Layout::default();
    layout.push_sequence(PROMPT.len());
    let plan = model.plan(&layout).unwrap();
    let residual = model.run(0..LAYER + 1, &model.embed(&PROMPT).unwrap(), &plan).unwrap();
    let length = |row: &Vec<f32>| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    residual.to_vec2::<f32>().unwrap().iter().map(length).collect()
}

#[test]
fn the_dose_is_the_median_over_the_prompts_steered_tokens_and_over_all_where_none_is() {
    let model = tiny();
    let (vectors, lengths) = (vectors(&model), lengths(&model));
    let length_of_v = vectors[&LAYER].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let median = |tokens: &[usize]| {
        let mut lengths: Vec<f64> = tokens.iter().map(|token| lengths[*token]).collect();
        lengths.sort_by(f64::total_cmp);
        lengths[lengths.len() / 2]
    };
    let of = |prompt: Prompt, positions| {
        let options = GenerateOptions { positions, ..GenerateOptions::greedy(1) };
        generate(&model, prompt, &vectors, &[-1.5], &options, &mut |_, _| Ok(())).unwrap()[0].dose
    };
    let assert_dose = |found: f64, tokens: &[usize]| {
        let expected = 1.5 * length_of_v / median(tokens);
        assert!((found / expected - 1.0).abs() < 1e-6, "{tokens:?}: {found} is not {expected}");
    };
    let all = [0, 1, 2, 3, 4, 5];
    for (positions, tokens) in
        [(Positions::All, &all[..]), (Positions::Prompt, &all), (Positions::Last, &[5]), (Positions::Response, &all)]
    {
        assert_dose(of(PROMPT.as_slice().into(), positions), tokens);
    }
    assert!((median(&[5]) / median(&all) - 1.0).abs() > 1e-3, "the last token tells nothing");
    let spans = PromptSpans { prompt: vec![false, true, true, false, false, false], generated: false };
    let words = EncodedPrompt { ids: PROMPT.to_vec(), spans: Some(spans) };
    assert_dose(of((&words).into(), Positions::All), &[1, 2]);
    let none = generate(&model, PROMPT.as_slice(), &BTreeMap::new(), &[2.0], &GenerateOptions::greedy(1), &mut |_, _| Ok(()));
    assert_eq!(none.unwrap()[0].dose, 0.0);
}

#[test]
fn a_magnitude_whose_logits_are_not_finite_ends_its_branch_and_no_other() {
    let model = tiny();
    let vectors = vectors(&model);
    let mut streamed = vec![Vec::new(); 4];
    let mut on_token = |branch: usize, token: u32| {
        streamed[branch].push(token);
        Ok(())
    };
    let options = GenerateOptions::greedy(8);
    let found = generate(&model, PROMPT.as_slice(), &vectors, &[0.0, 3e38, 1.0, -3e38], &options, &mut on_token).unwrap();
    let alone = generate(&model, PROMPT.as_slice(), &vectors, &[0.0, 1.0], &options, &mut |_, _| Ok(())).unwrap();
    for (finite, alone) in [&found[0], &found[2]].into_iter().zip(&alone) {
        assert_eq!(finite.token_ids, alone.token_ids);
        assert_eq!((finite.token_ids.len(), finite.finish_reason), (8, FinishReason::Length));
    }
    for infinite in [&found[1], &found[3]] {
        assert_eq!((infinite.token_ids.len(), infinite.finish_reason), (0, FinishReason::NotFinite));
    }
    assert_eq!(streamed, found.into_iter().map(|generation| generation.token_ids).collect::<Vec<_>>());
}

#[test]
fn a_magnitude_whose_residual_is_finite_and_too_long_for_a_norm_ends_its_branch() {
    let model = tiny();
    let options = GenerateOptions::greedy(4);
    let texts = |positions, magnitudes: &[f32]| {
        let options = GenerateOptions { positions, ..options.clone() };
        generate(&model, PROMPT.as_slice(), &vectors(&model), magnitudes, &options, &mut |_, _| Ok(())).unwrap()
    };
    // Also where none of the tokens that are generated behind it is steered.
    for positions in [Positions::All, Positions::Prompt, Positions::Response] {
        let found = texts(positions, &[0.0, 1e25]);
        assert_eq!((found[0].token_ids.len(), found[0].finish_reason), (4, FinishReason::Length), "{positions}");
        assert_eq!(found[1].finish_reason, FinishReason::NotFinite, "{positions}");
    }
}

#[test]
fn a_sweep_of_nothing_finite_is_an_error() {
    let model = tiny();
    let options = GenerateOptions::greedy(4);
    let found = generate(&model, PROMPT.as_slice(), &vectors(&model), &[3e38], &options, &mut |_, _| Ok(()));
    assert!(matches!(found, Err(Error::NotFinite(_))), "{found:?}");
}

#[test]
fn finish_reasons_are_written_in_snake_case() {
    let names = [FinishReason::Stop, FinishReason::Length, FinishReason::NotFinite].map(|reason| {
        let name = serde_json::to_value(reason).unwrap();
        name.as_str().unwrap().to_owned()
    });
    assert_eq!(names, ["stop", "length", "not_finite"]);
}

#[test]
fn a_sweep_through_the_kernels_writes_what_the_cpu_does() {
    let model = fixtures::tiny("mistral", DType::F32);
    let vectors = BTreeMap::from([(1, (0..model.config.hidden_size).map(|i| (i as f32).sin()).collect())]);
    let options = GenerateOptions::greedy(4);
    let prompt: Vec<u32> = (0..9).map(|i| 3 + i * 5).collect();
    let texts = || {
        let generations = generate(&model, &prompt, &vectors, &[-1.0, 0.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        generations.into_iter().map(|generation| generation.token_ids).collect::<Vec<_>>()
    };
    assert_eq!(emulated(texts), texts());
}
