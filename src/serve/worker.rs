//! The thread that computes: it owns the engine, takes work from a channel and sends text back as it comes. Between the engine's
//! steps it computes scores and asks conditions about prompts, in pieces that are as large as those in which a step reads a prompt.
//! Work whose receiver is gone is left.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokenizers::Tokenizer;
use tokio::sync::oneshot;

use super::error::ApiError;
use super::steering::Applied;
use super::text::{DeltaKind, Recipient, Stream};
use crate::Result;
use crate::eval::tokens::{ScoredToken, Scoring};
use crate::generate::{Engine, EngineLimits, Event, PIECE, Request, StreamId};
use crate::model::Model;
use crate::steering::condition::{PendingVerdict, Verdict, When};

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
    pub to: Recipient,
}

/// A text whose tokens are scored.
pub(super) struct Score {
    pub ids: Vec<u32>,
    pub applied: Applied,
    pub to: oneshot::Sender<Result<Vec<ScoredToken>, ApiError>>,
}

/// How much there is to do, for those who hand in more.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Texts that wait or are under way, those to score included.
    pub texts: AtomicUsize,
    /// Texts under way, which get tokens.
    pub running: AtomicUsize,
}

/// What the worker computes with and for.
pub(super) struct Worker<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end a text and are no part of it.
    pub eos: &'a [u32],
    pub limits: EngineLimits,
    pub load: &'a Load,
    /// Becomes true when the worker ends, in whatever way.
    pub has_ended: &'a AtomicBool,
    /// Told of errors that are the server's.
    pub log: &'a (dyn Fn(&str) + Sync),
}

/// The texts under way, and those that wait for something else than a place.
struct Texts<'a> {
    worker: &'a Worker<'a>,
    engine: Engine<'a>,
    streams: HashMap<StreamId, Stream<'a>>,
    /// Texts whose condition is not asked yet. The first of them may be under way.
    asks: VecDeque<(Box<Generate>, Arc<When>)>,
    asking: Option<PendingVerdict<'a>>,
    /// The last prompt that a condition was asked about, and what it said.
    asked: Option<(Arc<When>, Vec<u32>, Verdict)>,
    /// Texts to score. The first of them may be under way.
    scores: VecDeque<Box<Score>>,
    scoring: Option<Scoring<'a>>,
    /// Whether a condition comes before a score where both wait.
    asks_next: bool,
}

/// Tells that the worker has ended, also where it panics.
struct EndOfWorker<'a>(&'a AtomicBool);

impl Drop for EndOfWorker<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Worker<'_> {
    /// Runs until nobody is left to hand in work, or `stops` is set and all texts are complete.
    pub fn run(&self, work: Receiver<Work>, stops: &AtomicBool) -> Result<()> {
        let _ended = EndOfWorker(self.has_ended);
        // Dropped before the above: whoever waits for a text learns at once that none comes.
        let work = work;
        let mut texts = Texts::new(self)?;
        loop {
            if texts.is_idle() {
                match work.recv_timeout(IDLE) {
                    Ok(work) => texts.take(work),
                    Err(RecvTimeoutError::Timeout) if !stops.load(Ordering::SeqCst) => continue,
                    Err(_) => return Ok(()),
                }
            }
            while let Ok(work) = work.try_recv() {
                texts.take(work);
            }
            texts.turn()?;
        }
    }

    /// The refusal of a request, and where it is the server's fault, a line in the log.
    fn refusal(&self, error: crate::Error) -> ApiError {
        let text = error.to_string();
        let refusal = ApiError::from(error);
        if refusal.status.is_server_error() {
            metrics::counter!("bipo_errors_total").increment(1);
            // Behind the first line stands where in the program it happened, if the user wants backtraces.
            (self.log)(text.lines().next().unwrap_or_default());
        }
        refusal
    }
}

impl<'a> Texts<'a> {
    fn new(worker: &'a Worker<'a>) -> Result<Self> {
        Ok(Self {
            worker,
            engine: Engine::new(worker.model, worker.limits)?,
            streams: HashMap::new(),
            asks: VecDeque::new(),
            asking: None,
            asked: None,
            scores: VecDeque::new(),
            scoring: None,
            asks_next: true,
        })
    }

    fn is_idle(&self) -> bool {
        self.engine.is_idle() && self.asks.is_empty() && self.scores.is_empty()
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Score(score) => self.scores.push_back(score),
            Work::Generate(mut generate) => match generate.when.take() {
                Some(when) => self.asks.push_back((generate, when)),
                None => self.submit(generate, None),
            },
        }
    }

    /// One piece of what stands aside, and one step of the engine.
    fn turn(&mut self) -> Result<()> {
        self.drop_abandoned();
        // Where both wait, they take turns.
        self.asks_next = !self.asks.is_empty() && (self.asks_next || self.scores.is_empty());
        if self.asks_next {
            self.ask();
        } else {
            self.score();
        }
        self.asks_next = !self.asks_next;
        if let Err(error) = self.step() {
            self.fail(self.worker.refusal(error));
            self.engine = Engine::new(self.worker.model, self.worker.limits)?;
        }
        Ok(())
    }

    /// Goes on asking the first condition about its prompt, and hands the texts of which the verdict is known to the engine: those
    /// of one prompt come one after the other.
    fn ask(&mut self) {
        let mut may_compute = true;
        while let Some((generate, when)) = self.asks.pop_front() {
            let prompt = generate.request.prompt();
            let is_same = |(asked, ids, _): &&(Arc<When>, Vec<u32>, Verdict)| Arc::ptr_eq(asked, &when) && ids == prompt;
            if let Some((_, _, verdict)) = self.asked.as_ref().filter(is_same) {
                let verdict = *verdict;
                self.submit(generate, Some(verdict));
                continue;
            }
            let asked = if may_compute { self.piece_of_asking(&when, prompt) } else { Ok(None) };
            may_compute = false;
            match asked {
                Ok(Some(verdict)) => {
                    self.asked = Some((when, prompt.to_vec(), verdict));
                    self.submit(generate, Some(verdict));
                }
                Ok(None) => return self.asks.push_front((generate, when)),
                Err(error) => self.refuse(&generate.to, error),
            }
        }
    }

    fn piece_of_asking(&mut self, when: &Arc<When>, prompt: &[u32]) -> Result<Option<Verdict>> {
        let mut asking = match self.asking.take() {
            Some(asking) => asking,
            None => PendingVerdict::new(self.worker.model, Arc::clone(when), prompt)?,
        };
        let verdict = asking.advance(PIECE)?;
        if verdict.is_none() {
            self.asking = Some(asking);
        }
        Ok(verdict)
    }

    /// Goes on with the first text to score.
    fn score(&mut self) {
        let Some(score) = self.scores.front() else { return };
        let Score { ids, applied, .. } = &**score;
        let scoring = self
            .scoring
            .take()
            .map_or_else(|| Scoring::new(self.worker.model, ids.clone(), applied.steering.with_factor(applied.magnitude)), Ok);
        let found = scoring.and_then(|mut scoring| {
            let found = scoring.advance(PIECE)?;
            if found.is_none() {
                self.scoring = Some(scoring);
            }
            Ok(found)
        });
        let scores = match found {
            Ok(None) => return,
            Ok(Some(scores)) => Ok(scores),
            Err(error) => Err(self.worker.refusal(error)),
        };
        if let Some(score) = self.scores.pop_front() {
            self.worker.load.texts.fetch_sub(1, Ordering::SeqCst);
            // Whoever asked may have gone.
            let _ = score.to.send(scores);
        }
    }

    /// Hands a text to the engine, left alone where a condition does not fire on its prompt.
    fn submit(&mut self, generate: Box<Generate>, verdict: Option<Verdict>) {
        let Generate { request, stop, to, .. } = *generate;
        let request = match verdict {
            Some(verdict) => request.under(verdict),
            None => request,
        };
        match self.engine.submit(request) {
            Ok(id) => {
                self.streams.insert(id, Stream::new(to, verdict, stop, self.worker.tokenizer));
            }
            Err(error) => self.refuse(&to, error),
        }
    }

    /// Refuses a text that the engine does not have.
    fn refuse(&self, to: &Recipient, error: crate::Error) {
        self.worker.load.texts.fetch_sub(1, Ordering::SeqCst);
        to.send(DeltaKind::Failed(self.worker.refusal(error)));
    }

    /// Leaves what nobody waits for.
    fn drop_abandoned(&mut self) {
        let before = self.asks.len() + self.scores.len();
        if self.asks.front().is_some_and(|(generate, _)| generate.to.has_gone()) {
            self.asking = None;
        }
        if self.scores.front().is_some_and(|score| score.to.is_closed()) {
            self.scoring = None;
        }
        self.asks.retain(|(generate, _)| !generate.to.has_gone());
        self.scores.retain(|score| !score.to.is_closed());
        let left = before - self.asks.len() - self.scores.len();
        self.worker.load.texts.fetch_sub(left, Ordering::SeqCst);
        let abandoned = self.streams.iter().filter(|(_, stream)| stream.to.has_gone());
        let abandoned = abandoned.map(|(id, _)| *id).collect::<Vec<_>>();
        metrics::counter!("bipo_cancelled_texts_total").increment((left + abandoned.len()) as u64);
        abandoned.into_iter().for_each(|id| self.end(id));
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

    /// Ends all texts that the engine has with a refusal.
    fn fail(&mut self, refusal: ApiError) {
        self.worker.load.texts.fetch_sub(self.streams.len(), Ordering::SeqCst);
        for (_, stream) in self.streams.drain() {
            stream.to.send(DeltaKind::Failed(refusal.clone()));
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
