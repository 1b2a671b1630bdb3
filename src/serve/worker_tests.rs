//! Tests of `worker`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device};

use super::super::text::Delta;
use super::*;
use crate::generate::{FinishReason, GenerateOptions};
use crate::model::fixtures;
use crate::steering::Steering;
use crate::steering::condition::{Condition, FiringSide, PromptReading};
use crate::steering::vector::{Metadata, SteeringVector};
use crate::text::tokens::tokenizer_from_file;

/// Runs `body` on a worker of a tiny model, which counts the texts that it is handed.
fn with_worker<T>(log: &(dyn Fn(&str) + Sync), body: impl FnOnce(&Worker) -> T) -> T {
    let model = fixtures::tiny("llama", DType::F32);
    let tokenizer = tokenizer_from_file("tests/fixtures/llama/tokenizer.json".as_ref()).unwrap();
    let (load, has_ended) = (Load::default(), AtomicBool::new(false));
    let limits = EngineLimits { tokens: 2000, streams: 4 };
    body(&Worker { model: &model, tokenizer: &tokenizer, eos: &[], limits, load: &load, has_ended: &has_ended, log })
}

fn vector(worker: &Worker, metadata: Metadata) -> SteeringVector {
    let v = (0..worker.model.config.hidden_size).map(|i| (i as f32).sin()).collect();
    SteeringVector { layers: BTreeMap::from([(1, v)]), metadata }
}

fn steering(worker: &Worker) -> Arc<Steering> {
    Arc::new(Steering::new(&vector(worker, Metadata::default()).layers, &Device::Cpu).unwrap())
}

/// A condition that fires on every prompt.
fn condition(worker: &Worker) -> Arc<When> {
    let condition =
        Condition { reading: PromptReading::Mean, comparison: FiringSide::Above, threshold: -1.0, f1: 1.0, need: 1, rest: 1 };
    let vector = vector(worker, Metadata { condition: Some(condition), ..Metadata::default() });
    Arc::new(When::new(vector, None).unwrap())
}

fn score(worker: &Worker, ids: Vec<u32>) -> (Work, oneshot::Receiver<Result<Vec<ScoredToken>, ApiError>>) {
    let (to, scores) = oneshot::channel();
    let (steering, magnitude) = (steering(worker), 2.0);
    let (parts, positions) = (Vec::new(), crate::steering::positions::Positions::All);
    let applied = Applied { parts, steering, magnitude, positions, spans: None, when: None };
    worker.load.texts.fetch_add(1, Ordering::SeqCst);
    (Work::Score(Box::new(Score { ids, applied, to })), scores)
}

type Deltas = tokio::sync::mpsc::UnboundedReceiver<Delta>;

fn text(worker: &Worker, ids: &[u32], when: Option<Arc<When>>, options: &GenerateOptions) -> (Work, Deltas) {
    let (to, deltas) = tokio::sync::mpsc::unbounded_channel();
    let request = Request::new(&ids.to_vec(), &steering(worker), 1.0, options);
    worker.load.texts.fetch_add(1, Ordering::SeqCst);
    (Work::Generate(Box::new(Generate { request, when, stop: Vec::new(), to: Recipient { index: 0, to } })), deltas)
}

/// How a text has ended, if it has, and how many tokens it has got.
fn ended(deltas: &mut Deltas) -> (Option<FinishReason>, usize) {
    let mut tokens = 0;
    while let Ok(delta) = deltas.try_recv() {
        match delta.kind {
            DeltaKind::Text { tokens: more, .. } => tokens += more.len(),
            DeltaKind::Done { reason, .. } => return (Some(reason), tokens),
            DeltaKind::Failed(refusal) => panic!("{refusal:?}"),
        }
    }
    (None, tokens)
}

fn long_text() -> Vec<u32> {
    (0..400).map(|i| 3 + i * 7 % 250).collect()
}

#[test]
fn streams_go_on_while_texts_are_scored() {
    with_worker(&|line| panic!("{line}"), |worker| {
        let mut texts = Texts::new(worker).unwrap();
        let (generate, mut deltas) = text(worker, &[5, 6, 7], None, &GenerateOptions::greedy(400));
        texts.take(generate);
        while ended(&mut deltas).1 == 0 {
            texts.turn().unwrap();
        }
        let (first, mut scores) = score(worker, long_text());
        let (second, mut others) = score(worker, vec![9]);
        texts.take(first);
        texts.take(second);
        let mut turns = 0;
        let found = loop {
            texts.turn().unwrap();
            turns += 1;
            if let Ok(scores) = scores.try_recv() {
                break scores.unwrap();
            }
        };
        // Pieces of blocks for each pass, and of rows of the head for both.
        let (_, tokens) = ended(&mut deltas);
        assert!(turns > 2 * worker.model.num_blocks() && tokens >= turns - 1, "{tokens} tokens in {turns} turns");
        let whole = crate::eval::tokens::score_tokens(worker.model, &long_text(), &steering(worker).with_factor(2.0)).unwrap();
        for (found, whole) in found.iter().zip(&whole) {
            let near = |a: Option<f32>, b: Option<f32>| {
                a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-4) && a.is_some() == b.is_some()
            };
            assert!(found.id == whole.id && found.projection == whole.projection, "{found:?} is not {whole:?}");
            assert!(near(found.logprob, whole.logprob) && near(found.steered_logprob, whole.steered_logprob));
        }
        assert_eq!(found.len(), 400);
        while others.try_recv().is_err() {
            texts.turn().unwrap();
        }
        // The stream is left.
        assert_eq!(worker.load.texts.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    with_worker(&|line| panic!("{line}"), |worker| {
        let mut texts = Texts::new(worker).unwrap();
        let (first, gone) = score(worker, long_text());
        let (second, mut scores) = score(worker, vec![3, 4, 5]);
        texts.take(first);
        texts.take(second);
        texts.turn().unwrap();
        drop(gone);
        // Three tokens are a few pieces; what is left of the long text would be many.
        for _ in 0..6 {
            texts.turn().unwrap();
        }
        assert_eq!(scores.try_recv().unwrap().unwrap().len(), 3);
        assert!(texts.is_idle() && texts.scoring.is_none());
        assert_eq!(worker.load.texts.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_condition_is_asked_in_pieces_and_once_for_the_texts_of_a_prompt() {
    with_worker(&|line| panic!("{line}"), |worker| {
        let when = condition(worker);
        let mut texts = Texts::new(worker).unwrap();
        let (running, mut deltas) = text(worker, &[5, 6, 7], None, &GenerateOptions::greedy(400));
        texts.take(running);
        while ended(&mut deltas).1 == 0 {
            texts.turn().unwrap();
        }
        let options = GenerateOptions::greedy(2);
        let mut asked: Vec<Deltas> = Vec::new();
        for _ in 0..3 {
            let (generate, deltas) = text(worker, &long_text(), Some(Arc::clone(&when)), &options);
            texts.take(generate);
            asked.push(deltas);
        }
        texts.turn().unwrap();
        // Two blocks of 400 tokens are two pieces; the stream got a token meanwhile.
        assert_eq!((texts.asks.len(), ended(&mut deltas).1), (3, 1));
        texts.turn().unwrap();
        assert_eq!((texts.asks.len(), texts.streams.len()), (0, 4));
        let expected = when.ask(worker.model, &long_text()).unwrap();
        assert!(texts.streams.values().filter(|stream| stream.when == Some(expected)).count() == 3 && expected.fired);
        while asked.iter_mut().any(|deltas| ended(deltas).0.is_none()) && !texts.is_idle() {
            texts.turn().unwrap();
        }
    });
}

#[test]
fn a_condition_and_a_text_to_score_take_turns() {
    with_worker(&|line| panic!("{line}"), |worker| {
        let mut texts = Texts::new(worker).unwrap();
        let (generate, mut deltas) = text(worker, &long_text(), Some(condition(worker)), &GenerateOptions::greedy(2));
        let (long, mut scores) = score(worker, long_text());
        texts.take(long);
        texts.take(generate);
        let mut under_way = Vec::new();
        while !texts.is_idle() {
            texts.turn().unwrap();
            under_way.push((texts.asking.is_some(), texts.scoring.is_some()));
        }
        // Two pieces for the condition, and more for the text.
        assert_eq!(under_way[..4], [(true, false), (true, true), (false, true), (false, true)]);
        assert_eq!(scores.try_recv().unwrap().unwrap().len(), 400);
        assert_eq!(ended(&mut deltas), (Some(FinishReason::Length), 2));
    });
}

#[test]
fn a_sampler_that_cannot_choose_ends_its_own_text_alone() {
    with_worker(&|line| panic!("{line}"), |worker| {
        let mut texts = Texts::new(worker).unwrap();
        let (sound, mut deltas) = text(worker, &[5, 6, 7], None, &GenerateOptions::greedy(5));
        // Logits over this are infinite.
        let broken = GenerateOptions { temperature: 1e-40, ..GenerateOptions::greedy(5) };
        let (broken, mut others) = text(worker, &[5, 6, 8], None, &broken);
        texts.take(sound);
        texts.take(broken);
        for _ in 0..20 {
            texts.turn().unwrap();
        }
        assert_eq!(ended(&mut deltas), (Some(FinishReason::Length), 5));
        assert_eq!(ended(&mut others), (Some(FinishReason::NotFinite), 0));
    });
}

#[test]
fn a_worker_that_panics_says_that_it_has_ended_and_lets_go_of_its_work() {
    let log = |line: &str| panic!("a test of a worker that panics: {line}");
    with_worker(&log, |worker| {
        let (work, receiver) = std::sync::mpsc::channel();
        // A vector of another model, which no request can name: an error of the server's, at which the log panics.
        let (broken, mut scores) = score(worker, vec![3, 4]);
        let Work::Score(mut broken) = broken else { unreachable!() };
        broken.applied.steering = Arc::new(Steering::new(&BTreeMap::from([(1, vec![1.0; 3])]), &Device::Cpu).unwrap());
        let broken = Work::Score(broken);
        let (waits, mut waiting) = score(worker, vec![3]);
        work.send(broken).unwrap();
        work.send(waits).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| worker.run(receiver, &AtomicBool::new(false))));
        assert!(ended.is_err() && worker.has_ended.load(Ordering::SeqCst));
        assert_eq!(scores.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert_eq!(waiting.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    });
}

#[test]
fn an_error_of_the_servers_is_one_line_in_the_log() {
    let lines = std::sync::Mutex::new(Vec::new());
    with_worker(&|line| lines.lock().unwrap().push(line.to_owned()), |worker| {
        let refusal = worker.refusal(candle_core::Error::Msg("the cause\n   0: a frame\n   1: another".into()).into());
        assert!(refusal.status.is_server_error());
    });
    assert_eq!(*lines.lock().unwrap(), ["the cause"]);
}
