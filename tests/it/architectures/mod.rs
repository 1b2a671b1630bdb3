//! Tiny random models of every supported architecture against what `transformers` computed from the same files, and the
//! properties that must hold on each: prompt sharing, packing, gradients, directions, layers and positions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bipo::generate::{GenerateOptions, generate, next_token_logits};
use bipo::model::Model;
use bipo::model::config::Config;
use bipo::model::layout::Layout;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::ops::head::Gradient;
use bipo::ops::linear::Products;
use bipo::steering::layers::Layers;
use bipo::steering::positions::Positions;
use bipo::steering::{Operation, Steering};
use bipo::text::spans::Spans;
use bipo::text::tokens::{EncodedPair, EncodedPrompt, EncodedResponse, PromptSpans};
use bipo::train::activations::{Activations, CachedPair};
use bipo::train::batch::{Batch, PairRows};
use bipo::train::objective::Objective;
use candle_core::{DType, Device, Tensor};

use crate::common;

mod gradients;
mod storage;
mod sweeps;

pub const ARCHITECTURES: [&str; 23] = [
    "llama",
    "llama-bias",
    "llama-dynamic",
    "llama-linear",
    "llama-tied",
    "llama-tied-bf16",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "gemma3",
    "gemma3-new",
    "phi3",
    "phi3-short",
    "olmo2",
    "olmo3",
    "granite",
    "smollm3",
    "mixtral",
    "qwen3_moe",
    "qwen3_moe-3d",
];

/// Those whose greedy tokens depend on how keys are cached.
const WITHOUT_GREEDY: [&str; 2] = ["llama-dynamic", "phi3-short"];

/// Those whose router chooses experts: the loss jumps where a small change makes it choose others.
const CHOOSING_EXPERTS: [&str; 3] = ["mixtral", "qwen3_moe", "qwen3_moe-3d"];

/// Those whose rotary frequencies depend on a sequence's length.
const DEPENDING_ON_LENGTH: [&str; 2] = ["llama-dynamic", "phi3"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn load(name: &str, dtype: DType) -> Model {
    load_as(name, dtype, WeightStorage::Dense)
}

fn load_as(name: &str, dtype: DType, storage: WeightStorage) -> Model {
    load_changed(name, (dtype, storage), |_| ())
}

/// Loads a model whose configuration is changed after it was read.
fn load_changed(name: &str, (dtype, storage): (DType, WeightStorage), change: impl FnOnce(&mut Config)) -> Model {
    let dir = folder(name);
    let checkpoint = common::checkpoint(&dir);
    let weights = Weights::open(&checkpoint).unwrap();
    let mut config = Config::load(&checkpoint, &weights).unwrap();
    change(&mut config);
    Model::load_as(&weights, config, dtype, &Device::Cpu, storage).unwrap()
}

struct Recorded(std::collections::HashMap<String, Tensor>);

impl Recorded {
    fn of(name: &str) -> Self {
        Self(candle_core::safetensors::load(folder(name).join("expected.safetensors"), &Device::Cpu).unwrap())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.0[name].flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn layer(&self) -> usize {
        self.ids("steered_layer")[0] as usize
    }
}

pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    (wide(a) - wide(b)).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn residuals_logits_and_steered_logits_agree_with_transformers() {
    for name in ARCHITECTURES {
        let (model, recorded) = (load(name, DType::F32), Recorded::of(name));
        let ids = recorded.ids("input_ids");
        let mut layout = Layout::default();
        layout.push_sequence(ids.len());
        let plan = model.plan(&layout).unwrap();
        let mut x = model.embed(&ids).unwrap();
        let mut steered = x.clone();
        for block in 0..model.num_blocks() {
            x = model.run(block..block + 1, &x, &plan).unwrap();
            steered = model.run(block..block + 1, &steered, &plan).unwrap();
            let worst = difference(&x, &recorded.0[&format!("hidden.{block}")]);
            assert!(worst < 1e-4, "{name}: residual after block {block} differs by {worst}");
            if block == recorded.layer() {
                steered = steered.broadcast_add(&(&recorded.0["v"] * 2.0).unwrap()).unwrap();
            }
        }
        for (x, what) in [(&x, "logits"), (&steered, "steered_logits")] {
            let worst = difference(&model.logits(x, Products::Fastest).unwrap(), &recorded.0[what]);
            assert!(worst < 1e-4, "{name}: {what} differ by {worst}");
        }
    }
}

#[test]
fn cached_greedy_tokens_agree_with_full_forward_passes_of_transformers() {
    for name in ARCHITECTURES {
        let recorded = Recorded::of(name);
        if WITHOUT_GREEDY.contains(&name) {
            assert!(!recorded.0.contains_key("greedy_ids"), "not recorded: depends on how keys are cached");
            continue;
        }
        let model = load(name, DType::F32);
        let vectors = BTreeMap::from([(recorded.layer(), recorded.floats("v"))]);
        let options = common::greedy(12, &[]);
        let texts = generate(&model, &recorded.ids("input_ids"), &vectors, &[-1.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(texts[1].token_ids, recorded.ids("greedy_ids"), "{name}");
    }
}

/// The recorded sequence as chosen, with its last five tokens as the response, and another response as rejected.
fn recorded_pair(recorded: &Recorded) -> EncodedPair {
    let ids = recorded.ids("input_ids");
    let start = ids.len() - 5;
    let other = [&ids[..start], &[ids[0], ids[2], ids[1]]].concat();
    let response = |ids| EncodedResponse { ids, start, in_spans: None };
    EncodedPair { row: 0, chosen: response(ids), rejected: response(other) }
}

#[test]
fn response_log_prob_and_its_gradient_agree_with_autograd() {
    for name in ARCHITECTURES {
        let (model, recorded) = (load(name, DType::F32), Recorded::of(name));
        let rows = PairRows::new(&recorded_pair(&recorded), &model, Positions::All);
        assert_eq!(rows.branches.shared == 0, DEPENDING_ON_LENGTH.contains(&name), "{name}: prompt sharing");
        let batch = Batch::new(&model, &[&rows]).unwrap();
        let residual = batch.lower(&rows.ids, recorded.layer()).unwrap();
        let zero = vec![0.0; model.config.hidden_size];
        let steering = Steering::new(&BTreeMap::from([(recorded.layer(), zero)]), model.device()).unwrap();
        let pass = batch.upper(&residual, recorded.layer(), &steering, Gradient::Wanted).unwrap();
        let expected = f64::from(recorded.floats("response_logprob")[0]);
        let slopes = common::slopes_of(&batch, &pass, [1.0, 0.0]);
        let (log_probs, gradient) = batch.vjp(pass, &slopes).unwrap();
        assert!((log_probs[0][0] - expected).abs() < 1e-4, "{name}: {} is not {expected}", log_probs[0][0]);
        let worst = gradient.iter().zip(recorded.floats("grad_v")).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let size = recorded.floats("grad_v").iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(worst < 1e-4 * size.max(1.0), "{name}: gradient differs by {worst} of {size}");
    }
}

/// Tokens that every prompt of [`pairs`] begins with. The responses of every third pair begin alike too.
const HEADER: usize = 2;

fn pairs(model: &Model, count: usize) -> Vec<EncodedPair> {
    let vocab = model.config.vocab_size as u32;
    let token = |i: usize| 3 + (i as u32 * 7919 + 13) % (vocab - 3);
    let response = |prompt: &[u32], seed: usize, len: usize| EncodedResponse {
        ids: prompt.iter().copied().chain((0..len).map(|i| token(seed * 31 + i))).collect(),
        start: prompt.len(),
        in_spans: None,
    };
    let pair = |row: usize| {
        let question = (0..1 + row % 4).map(|i| token(row * 17 + i));
        let prompt: Vec<u32> = (0..HEADER).map(|i| token(5 + i)).chain(question).collect();
        let (chosen, mut rejected) = (response(&prompt, row + 1, 1 + row % 5), response(&prompt, row + 100, 2 + row % 3));
        let alike = (prompt.len() + usize::from(row % 3 == 1)).min(chosen.ids.len());
        rejected.ids[..alike].copy_from_slice(&chosen.ids[..alike]);
        EncodedPair { row, chosen, rejected }
    };
    (0..count).map(pair).collect()
}

#[test]
fn sharing_what_responses_begin_with_and_packing_pairs_equal_separate_sequences() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        let pairs = pairs(&model, 6);
        let together = compute(&model, &pairs, 0, Positions::All);
        let alike = together.entries.iter().zip(&pairs).filter(|(entry, pair)| entry.rows.branches.shared > pair.chosen.start);
        assert_eq!(alike.count(), 2, "{name}: responses that begin alike");
        for (entry, pair) in together.entries.iter().zip(&pairs) {
            let alone = compute(&model, std::slice::from_ref(pair), 0, Positions::All);
            for (side, response) in [&pair.chosen, &pair.rejected].into_iter().enumerate() {
                let separate = separate_log_prob(&model, response);
                assert!((entry.reference[side] - separate).abs() < 1e-4, "{name}: shared and separate");
                let (packed, alone) = (entry.reference[side], alone.entries[0].reference[side]);
                // A matrix product of more rows may add in another order.
                assert!((packed - alone).abs() < 3e-6 * alone.abs().max(10.0), "{name}: {packed} packed, {alone} alone");
            }
        }
    }
}

fn separate_log_prob(model: &Model, response: &EncodedResponse) -> f64 {
    let mut layout = Layout::default();
    layout.push_sequence(response.ids.len());
    let x = model.embed(&response.ids).unwrap();
    let x = model.run(0..model.num_blocks(), &x, &model.plan(&layout).unwrap()).unwrap();
    log_prob_of(&model.logits(&x, Products::Fastest).unwrap(), response)
}

fn log_prob_of(logits: &Tensor, response: &EncodedResponse) -> f64 {
    let log_p = candle_nn::ops::log_softmax(logits, 1).unwrap().to_vec2::<f32>().unwrap();
    (response.start..response.ids.len()).map(|at| f64::from(log_p[at - 1][response.ids[at] as usize])).sum()
}

fn compute(model: &Model, pairs: &[EncodedPair], layer: usize, positions: Positions) -> Activations {
    Activations::compute(model, pairs, layer, positions).unwrap()
}

#[test]
fn what_all_pairs_begin_with_stands_once_and_changes_neither_loss_nor_gradient() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        let pairs = pairs(&model, 5);
        let data = compute(&model, &pairs, 0, Positions::All);
        let rows: usize = data.entries.iter().map(|entry| entry.rows.branches.rows()).sum();
        let (batch, _) = data.batch(&model, &data.entries.iter().collect::<Vec<_>>()).unwrap();
        // Two of the pairs are longer than the trained context, past which sequences of different lengths share nothing.
        let spared = if DEPENDING_ON_LENGTH.contains(&name) { 0 } else { 4 * HEADER };
        assert_eq!(batch.rows(), rows - spared, "{name}");
        let v = some_vector(model.config.hidden_size, 5);
        let (loss, gradient) = loss_at(&model, &data, &0.into(), &v, -1.0);
        let (mut mean_loss, mut mean_gradient) = (0.0, vec![0f32; v.len()]);
        for pair in &pairs {
            let alone = compute(&model, std::slice::from_ref(pair), 0, Positions::All);
            let (loss, gradient) = loss_at(&model, &alone, &0.into(), &v, -1.0);
            mean_loss += loss / 5.0;
            mean_gradient.iter_mut().zip(&gradient).for_each(|(mean, g)| *mean += g / 5.0);
        }
        assert!((loss - mean_loss).abs() < 1e-5, "{name}: {loss} is not {mean_loss}");
        let size = mean_gradient.iter().fold(0f32, |size, g| size.max(g.abs()));
        let worst = gradient.iter().zip(&mean_gradient).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst < 1e-4 * size.max(0.1), "{name}: gradient differs by {worst} of {size}");
    }
}

/// Loss of all pairs with d·v added at `layers`, and its gradient at v.
fn loss_at(model: &Model, data: &Activations, layers: &Layers, v: &[f32], d: f64) -> (f64, Vec<f32>) {
    let (batch, residual) = data.batch(model, &data.entries.iter().collect::<Vec<_>>()).unwrap();
    loss_of(model, data, (&batch, &residual), layers, v, d)
}

fn loss_of(
    model: &Model,
    data: &Activations,
    (batch, residual): (&Batch, &Tensor),
    layers: &Layers,
    v: &[f32],
    d: f64,
) -> (f64, Vec<f32>) {
    let steering = Steering::new(&layers.split(v), model.device()).unwrap().with_factor(d as f32);
    let pass = batch.upper(residual, data.layer, &steering, Gradient::Wanted).unwrap();
    let references: Vec<_> = data.entries.iter().map(CachedPair::pair_reference).collect();
    let bipo = Objective::Bipo { beta: 0.5 };
    let slopes = batch.slopes(&pass, bipo, d, &references).unwrap();
    let (log_probs, gradient) = batch.vjp(pass, &slopes).unwrap();
    let gradient = gradient.into_iter().map(|g| d as f32 * g).collect();
    (bipo.loss(d, &log_probs, &references).mean(), gradient)
}

/// Which layers of a model are steered in turn: the first, the last, and all together.
fn layer_sets(model: &Model) -> [Layers; 3] {
    let count = model.num_blocks();
    [0.into(), (count - 1).into(), (0..count).collect::<Vec<_>>().try_into().unwrap()]
}

/// Every rule on positions and spans that leaves a token.
fn rules() -> Vec<(Positions, Option<Spans>)> {
    let ends = |text: &str| text.parse::<Positions>().unwrap();
    let positions = [Positions::All, Positions::Prompt, Positions::Response, Positions::Last, ends("first:1+last:2")];
    let positions = positions.into_iter().chain([ends("first:2+response")]);
    let spans = [None, Some(Spans::User), Some(Spans::Assistant)];
    let all = positions.flat_map(|positions| spans.map(|spans| (positions, spans)));
    // The response is never the user's, and the prompt's last token is the template's.
    let leaves_none = |rule: &(Positions, Option<Spans>)| {
        matches!(rule, (Positions::Response, Some(Spans::User)) | (Positions::Last, Some(_)))
    };
    all.filter(|rule| !leaves_none(rule)).collect()
}

/// As if a prompt's tokens were by turns the template's, the user's and the assistant's.
fn is_in_spans(token: usize, start: usize, spans: Spans) -> bool {
    match spans {
        Spans::User => token < start && token % 3 == 1,
        Spans::Assistant => token >= start || token % 3 == 2,
    }
}

/// The rules by their definition.
fn is_steered(token: usize, start: usize, (positions, spans): (Positions, Option<Spans>)) -> bool {
    let here = match positions {
        Positions::All => true,
        Positions::Prompt => token < start,
        Positions::Response => token >= start,
        Positions::Last => token == start - 1,
        Positions::Ends(ends) => ends.include(token, &(1..start)),
    };
    here && spans.is_none_or(|spans| is_in_spans(token, start, spans))
}

/// What an encoder tells of `tokens`, the first of which every prompt begins with: as little as the rules need.
fn told(tokens: std::ops::Range<usize>, start: usize, (positions, spans): (Positions, Option<Spans>)) -> Option<Vec<bool>> {
    let is_told = |token| {
        let at_ends = positions.ends().is_none_or(|ends| ends.include(token, &(1..start)));
        at_ends && spans.is_none_or(|spans| is_in_spans(token, start, spans))
    };
    (spans.is_some() || positions.ends().is_some()).then(|| tokens.map(is_told).collect())
}

fn pairs_in_places(model: &Model, count: usize, rules: (Positions, Option<Spans>)) -> Vec<EncodedPair> {
    let mut pairs = pairs(model, count);
    for response in pairs.iter_mut().flat_map(|pair| [&mut pair.chosen, &mut pair.rejected]) {
        response.in_spans = told(0..response.ids.len(), response.start, rules);
    }
    pairs
}

/// Logits of one sequence by the slow way: every block on every token, `v` added where the rules say.
fn logits_by_definition(
    model: &Model,
    ids: &[u32],
    start: usize,
    vectors: &BTreeMap<usize, Vec<f32>>,
    rules: (Positions, Option<Spans>),
) -> Tensor {
    let add = |row: &mut [f32], v: &[f32]| row.iter_mut().zip(v).for_each(|(x, v)| *x += v);
    let is_steered = |token| is_steered(token, start, rules);
    logits_steered_by(model, ids, vectors, &|token, row, v| {
        if is_steered(token) {
            add(row, v)
        }
    })
}

/// Changes the residual of a token, given the vector of its layer.
type Steer<'a> = &'a dyn Fn(usize, &mut [f32], &[f32]);

/// Logits of one sequence by the slow way: every block on every token, whose residual `steer` changes.
fn logits_steered_by(model: &Model, ids: &[u32], vectors: &BTreeMap<usize, Vec<f32>>, steer: Steer) -> Tensor {
    let mut layout = Layout::default();
    layout.push_sequence(ids.len());
    let plan = model.plan(&layout).unwrap();
    let mut x = model.embed(ids).unwrap();
    for block in 0..model.num_blocks() {
        x = model.run(block..block + 1, &x, &plan).unwrap();
        if let Some(v) = vectors.get(&block) {
            let mut rows = x.to_vec2::<f32>().unwrap();
            rows.iter_mut().enumerate().for_each(|(token, row)| steer(token, row, v));
            x = Tensor::new(rows, &Device::Cpu).unwrap();
        }
    }
    model.logits(&x, Products::Fastest).unwrap()
}

#[test]
fn vectors_are_added_at_the_tokens_and_layers_that_the_rules_name() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        for layers in layer_sets(&model) {
            let v = some_vector(layers.as_slice().len() * model.config.hidden_size, 5);
            for rules in rules() {
                let pairs = pairs_in_places(&model, 4, rules);
                let data = compute(&model, &pairs, layers.lowest(), rules.0);
                let scores = data.score(&model, &Steering::new(&layers.split(&v), model.device()).unwrap()).unwrap();
                for (pair, score) in pairs.iter().zip(scores) {
                    for (response, score) in [&pair.chosen, &pair.rejected].into_iter().zip(score) {
                        let logits = logits_by_definition(&model, &response.ids, response.start, &layers.split(&v), rules);
                        let expected = log_prob_of(&logits, response);
                        assert!((score - expected).abs() < 2e-4, "{name}, {layers}, {rules:?}: {score} is not {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_ablation_takes_out_what_lies_along_the_vector_and_magnitude_0_is_no_vector() {
    let model = load("llama", DType::F32);
    let ids = Recorded::of("llama").ids("input_ids");
    let options = GenerateOptions { operation: Operation::Ablate, ..common::greedy(1, &[]) };
    let unsteered = next_token_logits(&model, &ids, &BTreeMap::new(), &[1.0], &common::greedy(1, &[])).unwrap();
    for layers in layer_sets(&model) {
        let vectors = layers.split(&some_vector(layers.as_slice().len() * model.config.hidden_size, 7));
        let logits = next_token_logits(&model, &ids, &vectors, &[0.0, 1.0, 0.4], &options).unwrap();
        let bits = |logits: &Tensor| logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&logits.get(0).unwrap()), bits(&unsteered));
        for (branch, magnitude) in [(1, 1.0), (2, 0.4)] {
            let expected = logits_steered_by(&model, &ids, &vectors, &|_, row, v| {
                let share = row.iter().zip(v).map(|(x, v)| x * v).sum::<f32>() / v.iter().map(|v| v * v).sum::<f32>();
                row.iter_mut().zip(v).for_each(|(x, v)| *x -= magnitude * share * v);
            });
            let worst = difference(&logits.get(branch).unwrap(), &expected.get(ids.len() - 1).unwrap());
            assert!(worst < 2e-4, "layers {layers}, magnitude {magnitude}: logits differ by {worst}");
        }
    }
}

#[test]
fn gradients_through_ablations_at_several_layers_agree_with_finite_differences() {
    let model = load("llama", DType::F32);
    for (layers, operation) in
        layer_sets(&model).into_iter().flat_map(|layers| [Operation::Ablate, Operation::Null].map(|by| (layers.clone(), by)))
    {
        let data = compute(&model, &pairs(&model, 5), layers.lowest(), Positions::All);
        let len = layers.as_slice().len() * model.config.hidden_size;
        let (v, u) = (some_vector(len, 5), some_vector(len, 11));
        let weights = [1.0, -0.5];
        let run = |v: &[f32]| {
            let (batch, residual) = data.batch(&model, &data.entries.iter().collect::<Vec<_>>()).unwrap();
            let steering = Steering::by(operation, &layers.split(v), model.device()).unwrap().with_factor(0.8);
            let pass = batch.upper(&residual, data.layer, &steering, Gradient::Wanted).unwrap();
            let slopes = common::slopes_of(&batch, &pass, weights);
            let (log_probs, gradient) = batch.vjp(pass, &slopes).unwrap();
            let sum: f64 = log_probs.iter().map(|of| of[0] * weights[0] + of[1] * weights[1]).sum();
            (sum, gradient)
        };
        let analytic: f64 = run(&v).1.iter().zip(&u).map(|(g, u)| 0.8 * f64::from(*g) * f64::from(*u)).sum();
        let at = |by: f32| run(&v.iter().zip(&u).map(|(v, u)| v + by * u).collect::<Vec<_>>()).0;
        let numeric = (at(4e-3) - at(-4e-3)) / 8e-3;
        assert!((numeric - analytic).abs() < 2e-2 * analytic.abs().max(0.2), "{layers}, {operation:?}: {numeric}, {analytic}");
    }
}

#[test]
fn the_last_prompt_token_is_steered_on_its_own_side_where_a_merge_moves_the_border() {
    let model = load("llama", DType::F32);
    let response = |ids: &[u32], start| EncodedResponse { ids: ids.to_vec(), start, in_spans: None };
    let pair = EncodedPair { row: 0, chosen: response(&[1, 9, 30, 8], 2), rejected: response(&[1, 9, 20, 40, 7, 5], 3) };
    let v = some_vector(model.config.hidden_size, 5);
    let layers = Layers::from(1);
    for positions in [Positions::Last, Positions::Prompt, Positions::Response] {
        let data = compute(&model, std::slice::from_ref(&pair), 1, positions);
        let scores = data.score(&model, &Steering::new(&layers.split(&v), model.device()).unwrap()).unwrap();
        for (response, score) in [&pair.chosen, &pair.rejected].into_iter().zip(scores[0]) {
            let steered = logits_by_definition(&model, &response.ids, response.start, &layers.split(&v), (positions, None));
            assert!((score - log_prob_of(&steered, response)).abs() < 1e-4, "{positions}");
        }
    }
}

fn some_vector(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i + seed) * 37 % 101) as f32 - 50.0) / 100.0).collect()
}
