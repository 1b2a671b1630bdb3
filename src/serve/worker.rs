//! The thread that computes: it owns the engine, takes work from a channel and sends text back as it comes. A request whose
//! receiver is gone is cancelled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokenizers::Tokenizer;
use tokio::sync::{mpsc, oneshot};

use super::error::ApiError;
use super::steering::Applied;
use crate::Result;
use crate::eval::tokens::{TokenScore, score_tokens};
use crate::generate::{Engine, EngineLimits, Event, EventKind, FinishReason, LogProbs, Request, StreamId};
use crate::model::Model;
use crate::text::tokens::TokenStream;

/// How often an idle worker looks whether it should stop.
const IDLE: Duration = Duration::from_millis(100);

/// What the worker is asked to do.
pub(super) enum Work {
    /// Generate a text.
    Generate(Box<Generate>),
    /// Score each token of a text.
    Score(Box<Score>),
}

/// A text to generate.
pub(super) struct Generate {
    pub request: Request,
    /// Texts that end it; they are not part of it.
    pub stop: Vec<String>,
    /// Which of the texts of a request it is.
    pub index: usize,
    pub to: mpsc::UnboundedSender<Delta>,
}

/// A text whose tokens are scored.
pub(super) struct Score {
    pub ids: Vec<u32>,
    pub applied: Applied,
    pub to: oneshot::Sender<Result<Vec<TokenScore>, ApiError>>,
}

/// A piece of a text, or its end.
#[derive(Debug)]
pub(super) struct Delta {
    pub index: usize,
    pub kind: DeltaKind,
}

#[derive(Debug)]
pub(super) enum DeltaKind {
    /// What the text gained. Tokens whose characters are incomplete come with those that complete them.
    Text { text: String, tokens: Vec<Token> },
    /// It has ended.
    Done { reason: FinishReason, dose: f64, token_ids: Vec<u32> },
    /// The server could not go on.
    Failed(ApiError),
}

/// A token with what was asked about it.
#[derive(Debug)]
pub(super) struct Token {
    pub id: u32,
    pub log_probs: Option<LogProbs>,
}

/// What turns token ids into text.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end a text and are no part of it.
    pub eos: &'a [u32],
}

/// How much there is to do, for those who hand in more.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Texts that wait or are under way.
    pub texts: AtomicUsize,
    /// Of these, those that get tokens.
    pub running: AtomicUsize,
}

/// A text under way.
struct Stream<'a> {
    generate: Box<Generate>,
    decoder: TokenStream<'a>,
    text: Held,
    tokens: Vec<Token>,
    token_ids: Vec<u32>,
    since: Instant,
}

/// Runs until the channel is closed or `stops` is set and all texts are complete.
pub(super) fn run(
    model: &Model,
    texts: Texts,
    limits: EngineLimits,
    work: &Receiver<Work>,
    load: &Arc<Load>,
    stops: &AtomicBool,
) -> Result<()> {
    let mut engine = Engine::new(model, limits)?;
    let mut streams: HashMap<StreamId, Stream> = HashMap::new();
    loop {
        let mut next = if engine.is_idle() {
            match work.recv_timeout(IDLE) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) if !stops.load(Ordering::SeqCst) => continue,
                Err(_) => return Ok(()),
            }
        } else {
            None
        };
        loop {
            match next.take().map_or_else(|| work.try_recv(), Ok) {
                Ok(Work::Score(score)) => {
                    let scores = score_tokens(model, &score.ids, &score.applied.steering, score.applied.magnitude);
                    // Whoever asked may have gone.
                    let _ = score.to.send(scores.map_err(logged));
                }
                Ok(Work::Generate(generate)) => match engine.submit(generate.request.clone()) {
                    Ok(id) => {
                        let text = Held::new(generate.stop.clone());
                        let (decoder, since) = (TokenStream::new(texts.tokenizer, true), Instant::now());
                        streams
                            .insert(id, Stream { generate, decoder, text, tokens: Vec::new(), token_ids: Vec::new(), since });
                    }
                    Err(error) => {
                        load.texts.fetch_sub(1, Ordering::SeqCst);
                        send(&generate, DeltaKind::Failed(logged(error)));
                    }
                },
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let gone: Vec<StreamId> =
            streams.iter().filter(|(_, stream)| stream.generate.to.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            end(id, &mut engine, &mut streams, load);
            metrics::counter!("bipo_cancelled_texts_total").increment(1);
        }
        let started = Instant::now();
        let events = match engine.step() {
            Ok(events) => events,
            Err(error) => {
                let refusal = logged(error);
                for stream in streams.values() {
                    send(&stream.generate, DeltaKind::Failed(refusal.clone()));
                }
                load.texts.fetch_sub(streams.len(), Ordering::SeqCst);
                streams.clear();
                engine = Engine::new(model, limits)?;
                continue;
            }
        };
        load.running.store(engine.load().0, Ordering::SeqCst);
        if !events.is_empty() {
            metrics::histogram!("bipo_step_seconds").record(started.elapsed().as_secs_f64());
        }
        for event in events {
            let id = event.stream;
            let Some(stream) = streams.get_mut(&id) else { continue };
            match stream.take(event, texts.eos) {
                Ok(None) => {}
                Ok(Some((reason, dose))) => {
                    stream.done(reason, dose.or_else(|| engine.dose(id)).unwrap_or(f64::NAN));
                    end(id, &mut engine, &mut streams, load);
                }
                Err(error) => {
                    send(&stream.generate, DeltaKind::Failed(logged(error)));
                    end(id, &mut engine, &mut streams, load);
                }
            }
        }
    }
}

/// Forgets a text.
fn end(id: StreamId, engine: &mut Engine, streams: &mut HashMap<StreamId, Stream>, load: &Load) {
    engine.cancel(id);
    if streams.remove(&id).is_some() {
        load.texts.fetch_sub(1, Ordering::SeqCst);
        load.running.store(engine.load().0, Ordering::SeqCst);
    }
}

impl Stream<'_> {
    /// Takes what the engine says. → where the text has ended: why, and its dose where the engine told it
    fn take(&mut self, event: Event, eos: &[u32]) -> Result<Option<(FinishReason, Option<f64>)>> {
        match event.kind {
            EventKind::Token { id, log_probs } => {
                if self.token_ids.is_empty() {
                    metrics::histogram!("bipo_first_token_seconds").record(self.since.elapsed().as_secs_f64());
                }
                metrics::counter!("bipo_generated_tokens_total").increment(1);
                self.token_ids.push(id);
                if !eos.contains(&id) {
                    self.tokens.push(Token { id, log_probs });
                    if let Some(text) = self.decoder.push(id)? {
                        self.text.push(&text);
                    }
                }
                self.tell();
                Ok(self.text.has_stopped.then_some((FinishReason::Stop, None)))
            }
            EventKind::Finished { reason, dose } => {
                self.text.release();
                self.tell();
                Ok(Some((reason, Some(dose))))
            }
        }
    }

    /// Sends the text that no stop can begin in.
    fn tell(&mut self) {
        let text = self.text.ready();
        if !text.is_empty() || (!self.tokens.is_empty() && self.text.is_empty()) {
            send(&self.generate, DeltaKind::Text { text, tokens: std::mem::take(&mut self.tokens) });
        }
    }

    fn done(&self, reason: FinishReason, dose: f64) {
        send(&self.generate, DeltaKind::Done { reason, dose, token_ids: self.token_ids.clone() });
    }
}

fn send(generate: &Generate, kind: DeltaKind) {
    // A receiver that has gone is found before the next step.
    let _ = generate.to.send(Delta { index: generate.index, kind });
}

/// The refusal of a request, and where it is the server's fault, a line in the log.
fn logged(error: crate::Error) -> ApiError {
    let text = error.to_string();
    let refusal = ApiError::from(error);
    if refusal.status.is_server_error() {
        metrics::counter!("bipo_errors_total").increment(1);
        super::log::error(&text);
    }
    refusal
}

/// Text that is held back as long as it may be the beginning of a stop.
#[derive(Debug, Default)]
struct Held {
    stops: Vec<String>,
    text: String,
    has_stopped: bool,
    is_released: bool,
}

impl Held {
    fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), ..Self::default() }
    }

    fn push(&mut self, text: &str) {
        self.text += text;
        let first = self.stops.iter().filter_map(|stop| self.text.find(stop.as_str())).min();
        if let Some(first) = first {
            self.text.truncate(first);
            (self.has_stopped, self.is_released) = (true, true);
        }
    }

    /// No more text comes: what is held is the text's end.
    fn release(&mut self) {
        self.is_released = true;
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the text in which no stop can begin.
    fn ready(&mut self) -> String {
        if self.is_released {
            return std::mem::take(&mut self.text);
        }
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.text[*at..]));
        let held = self.text.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.text.len());
        let rest = self.text.split_off(held);
        std::mem::replace(&mut self.text, rest)
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
