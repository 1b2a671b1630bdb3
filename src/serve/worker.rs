//! The thread that computes: it owns the engine, takes work from a channel and sends text back as it comes. A request whose
//! receiver is gone is cancelled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokenizers::Tokenizer;
use tokio::sync::{mpsc, oneshot};

use super::error::ApiError;
use super::steering::Applied;
use crate::Result;
use crate::eval::tokens::{ScoredToken, score_tokens};
use crate::generate::{Engine, EngineLimits, Event, EventKind, FinishReason, Request, StreamId, TokenLogProbs};
use crate::model::Model;
use crate::steering::condition::{Verdict, When};
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
    /// Condition that says which prompts are steered; all are where it is none.
    pub when: Option<Arc<When>>,
    /// Texts that end it; they are not part of it.
    pub stop: Vec<String>,
    /// Index of the text among those of its request.
    pub index: usize,
    pub to: mpsc::UnboundedSender<Delta>,
}

/// A text whose tokens are scored.
pub(super) struct Score {
    pub ids: Vec<u32>,
    pub applied: Applied,
    pub to: oneshot::Sender<Result<Vec<ScoredToken>, ApiError>>,
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
    /// The text has ended.
    Done { reason: FinishReason, dose: f64, when: Option<Verdict>, token_ids: Vec<u32> },
    /// The server could not go on.
    Failed(ApiError),
}

/// A token with what was asked about it.
#[derive(Debug)]
pub(super) struct Token {
    pub id: u32,
    pub log_probs: Option<TokenLogProbs>,
}

/// How much there is to do, for those who hand in more.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Texts that wait or are under way.
    pub texts: AtomicUsize,
    /// Texts under way, which get tokens.
    pub running: AtomicUsize,
}

/// A text under way.
struct Stream<'a> {
    to: Recipient,
    /// What the condition said of its prompt.
    when: Option<Verdict>,
    decoder: TokenStream<'a>,
    text: Held,
    tokens: Vec<Token>,
    token_ids: Vec<u32>,
    since: Instant,
}

/// What the worker computes with and for.
pub(super) struct Worker<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end a text and are no part of it.
    pub eos: &'a [u32],
    pub limits: EngineLimits,
    pub load: &'a Load,
    /// Told of errors that are the server's.
    pub log: &'a (dyn Fn(&str) + Sync),
}

/// The texts under way.
struct Texts<'a> {
    worker: &'a Worker<'a>,
    engine: Engine<'a>,
    streams: HashMap<StreamId, Stream<'a>>,
    /// The last prompt that a condition was asked about, and what it said.
    asked: Option<(When, Vec<u32>, Verdict)>,
}

impl Worker<'_> {
    /// Runs until nobody is left to hand in work, or `stops` is set and all texts are complete.
    pub fn run(&self, work: &Receiver<Work>, stops: &AtomicBool) -> Result<()> {
        let engine = Engine::new(self.model, self.limits)?;
        let mut texts = Texts { worker: self, engine, streams: HashMap::new(), asked: None };
        loop {
            if texts.engine.is_idle() {
                match work.recv_timeout(IDLE) {
                    Ok(work) => texts.take(work),
                    Err(RecvTimeoutError::Timeout) if !stops.load(Ordering::SeqCst) => continue,
                    Err(_) => return Ok(()),
                }
            }
            while let Ok(work) = work.try_recv() {
                texts.take(work);
            }
            texts.drop_abandoned();
            if let Err(error) = texts.step() {
                texts.fail(self.refusal(error));
                texts.engine = Engine::new(self.model, self.limits)?;
            }
        }
    }

    /// The refusal of a request, and where it is the server's fault, a line in the log.
    fn refusal(&self, error: crate::Error) -> ApiError {
        let text = error.to_string();
        let refusal = ApiError::from(error);
        if refusal.status.is_server_error() {
            metrics::counter!("bipo_errors_total").increment(1);
            (self.log)(&text);
        }
        refusal
    }
}

impl Texts<'_> {
    fn take(&mut self, work: Work) {
        match work {
            Work::Score(score) => {
                let Score { ids, applied, to } = *score;
                let scores = score_tokens(self.worker.model, &ids, &applied.steering.with_factor(applied.magnitude));
                // Whoever asked may have gone.
                let _ = to.send(scores.map_err(|error| self.worker.refusal(error)));
            }
            Work::Generate(generate) => {
                let Generate { request, when, stop, index, to } = *generate;
                let to = Recipient { index, to };
                match self.submit(request, when.as_deref()) {
                    Ok((id, when)) => {
                        let decoder = TokenStream::new(self.worker.tokenizer, true);
                        let (tokens, token_ids, since) = (Vec::new(), Vec::new(), Instant::now());
                        self.streams.insert(id, Stream { to, when, decoder, text: Held::new(stop), tokens, token_ids, since });
                    }
                    Err(error) => {
                        self.worker.load.texts.fetch_sub(1, Ordering::SeqCst);
                        to.send(DeltaKind::Failed(self.worker.refusal(error)));
                    }
                }
            }
        }
    }

    /// What a condition says of a prompt; the texts of one prompt come one after the other, and it is asked once for them.
    fn ask(&mut self, when: &When, prompt: &[u32]) -> Result<Verdict> {
        if let Some((condition, asked, verdict)) = &self.asked
            && asked == prompt
            && condition == when
        {
            return Ok(*verdict);
        }
        let verdict = when.ask(self.worker.model, prompt)?;
        self.asked = Some((when.clone(), prompt.to_vec(), verdict));
        Ok(verdict)
    }

    /// Hands a request to the engine, left alone where a condition does not fire on its prompt.
    fn submit(&mut self, request: Request, when: Option<&When>) -> Result<(StreamId, Option<Verdict>)> {
        let verdict = when.map(|when| self.ask(when, request.prompt())).transpose()?;
        let request = match verdict {
            Some(verdict) => request.under(verdict),
            None => request,
        };
        Ok((self.engine.submit(request)?, verdict))
    }

    /// Cancels the texts that nobody waits for.
    fn drop_abandoned(&mut self) {
        let abandoned = self.streams.iter().filter(|(_, stream)| stream.to.to.is_closed());
        for id in abandoned.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id);
            metrics::counter!("bipo_cancelled_texts_total").increment(1);
        }
    }

    /// Gives texts their next tokens.
    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let events = self.engine.step()?;
        self.worker.load.running.store(self.engine.load().0, Ordering::SeqCst);
        if !events.is_empty() {
            metrics::histogram!("bipo_step_seconds").record(started.elapsed().as_secs_f64());
        }
        for Event { stream: id, kind } in events {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            match stream.take(kind, self.worker.eos) {
                Ok(None) => continue,
                Ok(Some((reason, dose))) => {
                    let dose = dose.or_else(|| self.engine.dose(id)).unwrap_or(f64::NAN);
                    let (when, token_ids) = (stream.when, std::mem::take(&mut stream.token_ids));
                    stream.to.send(DeltaKind::Done { reason, dose, when, token_ids });
                }
                Err(error) => stream.to.send(DeltaKind::Failed(self.worker.refusal(error))),
            }
            self.end(id);
        }
        Ok(())
    }

    /// Forgets a text.
    fn end(&mut self, id: StreamId) {
        self.engine.cancel(id);
        if self.streams.remove(&id).is_some() {
            self.worker.load.texts.fetch_sub(1, Ordering::SeqCst);
            self.worker.load.running.store(self.engine.load().0, Ordering::SeqCst);
        }
    }

    /// Ends all texts with a refusal.
    fn fail(&mut self, refusal: ApiError) {
        self.worker.load.texts.fetch_sub(self.streams.len(), Ordering::SeqCst);
        for (_, stream) in self.streams.drain() {
            stream.to.send(DeltaKind::Failed(refusal.clone()));
        }
    }
}

/// Who gets a text.
struct Recipient {
    index: usize,
    to: mpsc::UnboundedSender<Delta>,
}

impl Recipient {
    fn send(&self, kind: DeltaKind) {
        // A recipient that has gone is found before the next step.
        let _ = self.to.send(Delta { index: self.index, kind });
    }
}

impl Stream<'_> {
    /// Takes what the engine says. → where the text has ended: why, and its dose where the engine told it
    fn take(&mut self, event: EventKind, eos: &[u32]) -> Result<Option<(FinishReason, Option<f64>)>> {
        match event {
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
            self.to.send(DeltaKind::Text { text, tokens: std::mem::take(&mut self.tokens) });
        }
    }
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
