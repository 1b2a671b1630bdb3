//! Tests of `engine` on a random model of three blocks: a text is the same alone and among others, to the bit.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::DType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::generate::GenerateOptions;
use crate::model::architecture::Architecture;
use crate::model::config::Config;
use crate::model::fixtures;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::{WeightStorage, Weights};
use crate::steering::positions::Positions;
use crate::steering::{Operation, Steering};
use crate::text::tokens::{EncodedPrompt, PromptSpans};

/// Sizes at which products of a prompt take the same kernel with and without the prompts of others.
fn model() -> Model {
    let config = Config {
        num_hidden_layers: 3,
        hidden_size: 192,
        intermediate_size: 256,
        max_position_embeddings: 400,
        architecture: Architecture::llama(3),
        ..Shape::Tiny.config()
    };
    Model::load_as(&Weights::random(MadeOn::Host(7)), config, DType::F32, &Device::Cpu, WeightStorage::Dense).unwrap()
}

/// A mixture of experts whose weights are bf16 in their file, and stay there or become others that are not multiplied as they are.
fn encoded_mixture(dtype: DType, storage: WeightStorage) -> Model {
    let (fixture, dir) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mixtral"), tempfile::tempdir().unwrap());
    let tensors = candle_core::safetensors::load(fixture.join("model.safetensors"), &Device::Cpu).unwrap();
    let halves = tensors.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::BF16).unwrap()));
    candle_core::safetensors::save(&halves.collect::<HashMap<_, _>>(), dir.path().join("model.safetensors")).unwrap();
    std::fs::copy(fixture.join("config.json"), dir.path().join("config.json")).unwrap();
    fixtures::open(dir.path(), dtype, storage)
}

fn steering(model: &Model, layers: &[usize]) -> Arc<Steering> {
    steering_by(Operation::Add, model, layers)
}

fn steering_by(operation: Operation, model: &Model, layers: &[usize]) -> Arc<Steering> {
    let v = |layer: &usize| (0..model.config.hidden_size).map(|i| 2.0 * ((i + layer) as f32 * 1.7).sin()).collect();
    let vectors: BTreeMap<usize, Vec<f32>> = layers.iter().map(|layer| (*layer, v(layer))).collect();
    Arc::new(Steering::by(operation, &vectors, &Device::Cpu).unwrap())
}

/// What a request became: tokens with the bits of their log-probabilities, and how it ended.
#[derive(Debug, Clone, PartialEq, Default)]
struct Text {
    tokens: Vec<(u32, u32)>,
    ended: Option<(FinishReason, u64)>,
}

/// Runs an engine until it is idle, handing in the requests of `arrivals` before the step that each names.
fn run(engine: &mut Engine, mut arrivals: Vec<(usize, Request)>) -> Vec<Text> {
    arrivals.sort_by_key(|(step, _)| *step);
    let mut arrivals = VecDeque::from(arrivals);
    let (mut ids, mut texts) = (HashMap::new(), Vec::new());
    for step in 0.. {
        while let Some((_, request)) = arrivals.pop_front_if(|(at, _)| *at <= step) {
            ids.insert(engine.submit(request).unwrap(), texts.len());
            texts.push(Text::default());
        }
        if engine.is_idle() && arrivals.is_empty() {
            break;
        }
        for event in engine.step().unwrap() {
            let text = &mut texts[ids[&event.stream]];
            assert_eq!(text.ended, None, "a text goes on behind its end");
            match event.kind {
                EventKind::Token { id, log_probs } => text.tokens.push((id, log_probs.unwrap().chosen.to_bits())),
                EventKind::Finished { reason, dose } => text.ended = Some((reason, dose.to_bits())),
            }
        }
    }
    texts
}

/// Requests whose prompts begin alike in many ways, of many lengths, steered in many ways.
fn requests(model: &Model) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let ablation = steering_by(Operation::Ablate, model, &[0, 1]);
    let last = model.num_blocks() - 1;
    let steerings = [steering(model, &[1]), steering(model, &[0, last]), steering(model, &[]), ablation];
    let vocabulary = (model.config.vocab_size as u32).min(200);
    let system: Vec<u32> = (0..40).map(|_| rng.random_range(0..vocabulary)).collect();
    let lengths = [3, 12, 13, 14, 25, 27, 60, 61, 150, 230];
    let mut requests = Vec::new();
    for index in 0..36 {
        let length = lengths[index % lengths.len()];
        let common = rng.random_range(0..=length.min(40));
        let mut ids = system[..common].to_vec();
        ids.extend((common..length).map(|_| rng.random_range(0..vocabulary)));
        let positions = [Positions::All, Positions::Response, Positions::Last, Positions::Prompt][index % 4];
        let options = GenerateOptions {
            positions,
            eos: (0..vocabulary * 3 / 20).collect(),
            top_log_probs: Some(1),
            temperature: if index % 3 == 0 { 0.9 } else { 0.0 },
            seed: index as u64,
            ..GenerateOptions::greedy(3 + index % 9)
        };
        let spans = (index % 5 == 0).then(|| PromptSpans { prompt: (0..length).map(|i| i >= 2).collect(), generated: true });
        let prompt = EncodedPrompt { ids, spans };
        // A sweep: the same prompt at three magnitudes, the second of which is the untouched model.
        for magnitude in [-1.0, 0.0, 1.5] {
            requests.push(Request::new(&prompt, &steerings[index % 7 % 4], magnitude, &options));
        }
    }
    // Attention of few queries adds in an order of its own: prompts of few tokens, in front of and behind longer ones that begin with
    // them.
    for lengths in [[3, 60], [60, 4], [3, 9], [9, 4]] {
        let ids: Vec<u32> = (0..60).map(|_| rng.random_range(0..vocabulary)).collect();
        for length in lengths {
            let options = GenerateOptions { top_log_probs: Some(1), ..GenerateOptions::greedy(4) };
            requests.push(Request::new(&ids[..length].to_vec(), &steerings[1], 1.0, &options));
            requests.push(Request::new(&ids[..length].to_vec(), &steerings[2], 0.0, &options));
        }
    }
    requests
}

#[test]
fn a_text_has_the_same_bits_alone_and_among_others() {
    assert_same_alone_and_among_others(&model());
}

/// An expert meets few rows of one text, and more of several.
#[test]
fn a_text_of_a_mixture_has_the_same_bits_alone_and_among_others() {
    assert_same_alone_and_among_others(&encoded_mixture(DType::F32, WeightStorage::Stored));
    assert_same_alone_and_among_others(&encoded_mixture(DType::F16, WeightStorage::Dense));
}

fn assert_same_alone_and_among_others(model: &Model) {
    let requests = requests(model);
    let alone: Vec<Text> = requests
        .iter()
        .map(|request| {
            let limits = EngineLimits { tokens: 400, streams: 1 };
            run(&mut Engine::new(model, limits).unwrap(), vec![(0, request.clone())]).remove(0)
        })
        .collect();
    let longest = alone.iter().map(|text| text.tokens.len()).max().unwrap();
    assert!(longest > 8 && alone.iter().any(|text| text.ended.unwrap().0 == FinishReason::Stop));
    for (tokens, streams) in [(20_000, 124), (900, 7), (260, 3)] {
        let mut engine = Engine::new(model, EngineLimits { tokens, streams }).unwrap();
        let arrivals = requests.iter().enumerate().map(|(index, request)| (index / 2, request.clone())).collect();
        let together = run(&mut engine, arrivals);
        for (index, (alone, together)) in alone.iter().zip(&together).enumerate() {
            assert!(
                alone == together,
                "request {index} with room for {tokens} tokens of {streams} texts: {alone:?}, {together:?}"
            );
        }
    }
}

#[test]
fn a_sweep_computes_the_blocks_below_its_vectors_once() {
    let model = model();
    let steering = steering(&model, &[2]);
    let prompt: Vec<u32> = (0..45).collect();
    let mut engine = Engine::new(&model, EngineLimits { tokens: 1000, streams: 8 }).unwrap();
    for magnitude in [-1.0, 0.0, 1.0] {
        engine.submit(Request::new(&prompt, &steering, magnitude, &GenerateOptions::greedy(4))).unwrap();
    }
    engine.step().unwrap();
    assert!(engine.streams[0].prefix.is_complete() && engine.streams[1..].iter().all(|stream| stream.prefix.tokens == 0));
    for _ in 0..2 {
        engine.step().unwrap();
    }
    for stream in &engine.streams {
        assert!(stream.prefix.is_complete());
    }
    // What enters at block 3 is the first's; nothing was computed below.
    let begun = |at: usize| engine.streams[at].prefix.at_split(45).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(begun(1), begun(0));
    // The same prompt at the same magnitude, later: all but the last rows are there.
    let again = engine.submit(Request::new(&prompt, &steering, 1.0, &GenerateOptions::greedy(4))).unwrap();
    engine.admit();
    let at = engine.streams.iter().position(|stream| stream.id == again).unwrap();
    assert!(engine.begin(at).unwrap());
    assert_eq!(engine.streams[at].prefix.tokens, 45 - 13);
}

#[test]
fn a_long_prompt_delays_no_stream_by_more_than_a_piece() {
    let model = model();
    let steering = steering(&model, &[1]);
    let mut engine = Engine::new(&model, EngineLimits { tokens: 1000, streams: 8 }).unwrap();
    let short = engine.submit(Request::new(&vec![5; 20], &steering, 1.0, &GenerateOptions::greedy(50))).unwrap();
    engine.step().unwrap();
    let long: Vec<u32> = (0..320).map(|i| i % 199).collect();
    let long = engine.submit(Request::new(&long, &steering, 1.0, &GenerateOptions::greedy(9))).unwrap();
    let steps = (0..).map(|_| {
        let before: usize = engine.streams.iter().map(|stream| stream.prefix.tokens).sum();
        let events = engine.step().unwrap();
        let rows = engine.streams.iter().map(|stream| stream.prefix.tokens).sum::<usize>() - before;
        assert!(rows <= PIECE, "{rows} rows");
        // The step that completes the long prompt tells its first token, and the next one those of the others.
        let expected = if events.iter().any(|event| event.stream == long) { long } else { short };
        assert!(events.iter().any(|event| event.stream == expected), "no token of {expected:?} in {events:?}");
        events.iter().any(|event| event.stream == long)
    });
    // One step gives the short text the token that it is owed, the others a piece each.
    assert_eq!(steps.take_while(|has_begun| !has_begun).count(), 1 + 320 / PIECE);
}

#[test]
fn a_cancelled_request_gets_no_token_and_its_place_is_free() {
    let model = model();
    let steering = steering(&model, &[1]);
    let request = || Request::new(&vec![5; 20], &steering, 1.0, &GenerateOptions::greedy(10));
    let mut engine = Engine::new(&model, EngineLimits { tokens: 60, streams: 2 }).unwrap();
    let ids = [(); 4].map(|()| engine.submit(request()).unwrap());
    engine.step().unwrap();
    assert_eq!(engine.load(), (2, 2));
    assert!(engine.cancel(ids[0]) && engine.cancel(ids[2]) && !engine.cancel(ids[0]));
    let mut ended = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            assert!(![ids[0], ids[2]].contains(&event.stream));
            if matches!(event.kind, EventKind::Finished { .. }) {
                ended.push(event.stream);
            }
        }
    }
    assert_eq!(ended, [ids[1], ids[3]]);
}

#[test]
fn a_request_that_can_never_have_a_place_is_refused() {
    let model = model();
    let mut engine = Engine::new(&model, EngineLimits { tokens: 25, streams: 2 }).unwrap();
    let mut refusal = |ids: Vec<u32>, steering: &Arc<Steering>| {
        let request = Request::new(&ids, steering, 1.0, &GenerateOptions::greedy(6));
        engine.submit(request).unwrap_err().to_string()
    };
    let plain = steering(&model, &[]);
    assert!(refusal(Vec::new(), &plain).contains("the prompt is empty"));
    assert!(refusal(vec![1; 20], &plain).contains("need keys and values of 26 tokens, but there is memory for 25"));
    assert!(refusal(vec![1; 500], &plain).contains("500 tokens, but the model's context is 400"));
    assert!(refusal(vec![1; 5], &steering(&model, &[7])).contains("layer 7 out of range"));
}
