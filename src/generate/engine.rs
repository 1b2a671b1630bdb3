//! Many texts in one running batch: each step gives a token to every text that is under way, takes in a piece of the prompts
//! that wait, and gives the place of a text that has ended to the next.

use std::collections::VecDeque;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::options::FinishReason;
use super::pass::{Passed, Run, pass};
use super::prefix::{Prefix, Shared, piece};
use super::request::{Event, EventKind, Request, StreamId};
use super::rows::Rows;
use super::sampler::{Sampled, Sampler};
use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::layout::Continuation;
use crate::ops::linear::Products;
use crate::steering::layers::check_layer;
use crate::{Error, Result};

/// Most rows of prompts in a step while other texts wait for their next token.
pub(crate) const PIECE: usize = 96;

/// Most rows of prompts in a step that no text waits for.
const LARGE_PIECE: usize = 512;

/// How much an engine holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Tokens whose keys and values it has memory for: prompts, and what is generated behind them.
    pub tokens: usize,
    /// Texts that get tokens at once.
    pub streams: usize,
}

/// Generates texts for requests, as many at once as its memory holds; the others wait, first come, first served.
///
/// What a text becomes does not depend on the others: on a CPU every number of it has the same bits alone and in a batch; on a GPU
/// sums may be rounded otherwise. What prompts begin with is computed once, as far as the same vectors enter at the same tokens.
#[derive(Debug)]
pub struct Engine<'m> {
    model: &'m Model,
    cache: KvCache,
    rows: Rows,
    limits: EngineLimits,
    waiting: VecDeque<(StreamId, Request)>,
    streams: Vec<RunningText>,
    /// Prompts of texts that have ended, which others may begin with.
    kept: Vec<Prefix>,
    /// Requests that were submitted, and uses of prompts.
    submitted: usize,
    uses: usize,
    /// Whether the last step gave tokens to prompts that became complete, and none to the other texts.
    owes_tokens: bool,
}

/// A text under way.
#[derive(Debug)]
struct RunningText {
    id: StreamId,
    prefix: Prefix,
    /// Tokens of the prompt whose residuals below its vectors are another prompt's: they enter where those vectors do.
    from_below: Option<FromBelow>,
    has_begun: bool,
    sampler: Sampler,
    /// Tokens that were generated, and the last one, which is not in the cache yet.
    generated: usize,
    next: Option<u32>,
    has_ended: bool,
}

/// The first tokens of a prompt, as another prompt's vectors found them.
#[derive(Debug)]
struct FromBelow {
    /// The block that they enter.
    entry: usize,
    tokens: usize,
    residual: Tensor, // (tokens, H)
}

impl<'m> Engine<'m> {
    /// An engine without requests.
    ///
    /// # Errors
    /// The device has no memory for that many keys and values.
    pub fn new(model: &'m Model, limits: EngineLimits) -> Result<Self> {
        let cache = model.cache(limits.tokens)?;
        let (waiting, rows) = (VecDeque::new(), Rows::new(limits.tokens));
        Ok(Self {
            model,
            cache,
            rows,
            limits,
            waiting,
            streams: Vec::new(),
            kept: Vec::new(),
            submitted: 0,
            uses: 0,
            owes_tokens: false,
        })
    }

    /// Takes a request, which gets its tokens in the steps that follow.
    ///
    /// # Errors
    /// The prompt is empty, fills the context or has a token that the model has not; a vector does not fit the model; or the
    /// engine has no memory for that many tokens.
    pub fn submit(&mut self, request: Request) -> Result<StreamId> {
        self.check(&request)?;
        let id = StreamId(self.submitted);
        self.submitted += 1;
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Ends a request before its time. → whether it was under way or waiting.
    pub fn cancel(&mut self, id: StreamId) -> bool {
        let waiting = self.waiting.len();
        self.waiting.retain(|(other, _)| *other != id);
        let Some(at) = self.streams.iter().position(|stream| stream.id == id) else {
            return self.waiting.len() < waiting;
        };
        let stream = self.streams.remove(at);
        self.keep(stream.prefix);
        true
    }

    /// The dose of a text under way whose prompt is complete; none where it cannot be computed.
    pub fn dose(&self, id: StreamId) -> Option<f64> {
        let of = |stream: &&RunningText| stream.id == id && stream.prefix.is_complete();
        self.streams.iter().find(of).and_then(|stream| stream.prefix.dose().ok())
    }

    /// Texts that get tokens, and requests that wait for a place.
    pub fn load(&self) -> (usize, usize) {
        (self.streams.len(), self.waiting.len())
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty()
    }

    /// Takes in some rows of the prompts that wait, and gives one token to each text whose prompt is complete. Where prompts
    /// become complete, their first tokens are told before the other texts get theirs, in the next step.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let completed = if self.owes_tokens { None } else { self.prefill()? };
        self.owes_tokens = completed.is_some();
        let decoding: Vec<usize> = (0..self.streams.len()).filter(|at| self.streams[*at].next.is_some()).collect();
        if let Some((streams, logits)) = completed {
            self.choose(&streams, &logits, &mut events)?;
        } else if !decoding.is_empty() {
            let logits = self.decode(&decoding)?;
            self.choose(&decoding, &logits, &mut events)?;
        }
        let (ended, streams): (Vec<RunningText>, _) =
            std::mem::take(&mut self.streams).into_iter().partition(|stream| stream.has_ended);
        self.streams = streams;
        for stream in ended {
            self.keep(stream.prefix);
        }
        Ok(events)
    }

    /// Takes in prompts until all that were submitted are complete. → the logits behind each, f32, in the order of submission.
    /// `(requests, V)`
    pub(super) fn prompt_logits(&mut self) -> Result<Tensor> {
        let mut found = Vec::new();
        loop {
            if let Some((streams, logits)) = self.prefill()? {
                for (row, stream) in streams.into_iter().enumerate() {
                    found.push((self.streams[stream].id, logits.narrow(0, row, 1)?));
                }
            } else if self.streams.iter().all(|stream| stream.prefix.is_complete()) {
                break;
            }
        }
        found.sort_by_key(|(id, _)| *id);
        Ok(Tensor::cat(&found.into_iter().map(|(_, logits)| logits).collect::<Vec<_>>(), 0)?)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let (config, tokens) = (&self.model.config, request.ids.len());
        let context = config.max_position_embeddings;
        if tokens == 0 {
            return Err(Error::Argument("the prompt is empty".into()));
        }
        if tokens >= context {
            return Err(Error::Argument(format!(
                "the prompt has {tokens} tokens, but the model's context is {context}: shorten it"
            )));
        }
        let (layers, hidden) = (self.model.num_blocks(), config.hidden_size);
        for (layer, v) in request.steering.vectors() {
            check_layer(layer, layers, "model")?;
            let len = v.elem_count();
            if len != hidden {
                return Err(Error::Argument(format!("the vector has hidden size {len}, but the model has {hidden}")));
            }
        }
        let limit = self.limit(request);
        if let Some(trained) = self.model.keys_change_past().filter(|trained| (tokens..tokens + limit).contains(trained)) {
            return Err(Error::Argument(format!(
                "a prompt of {tokens} tokens and {limit} new ones cross the {trained} tokens past which LongRoPE rotates all \
                 keys otherwise: generate at most {} tokens, or give a longer prompt",
                trained - tokens
            )));
        }
        if tokens + limit > self.limits.tokens {
            return Err(Error::Argument(format!(
                "a prompt of {tokens} tokens and {limit} new ones need keys and values of {} tokens, but there is memory for {}: \
                 shorten the prompt, generate fewer tokens, or allow more memory",
                tokens + limit,
                self.limits.tokens
            )));
        }
        Ok(())
    }

    /// Tokens that a request gets at most.
    fn limit(&self, request: &Request) -> usize {
        request.options.max_new_tokens.min(self.model.config.max_position_embeddings - request.ids.len())
    }

    /// Gives the requests that have waited longest a place, as long as there is one.
    fn admit(&mut self) {
        while self.streams.len() < self.limits.streams.max(1) {
            let Some((_, request)) = self.waiting.front() else { return };
            let tokens = request.ids.len() + self.limit(request);
            let rows = loop {
                if let Some(rows) = self.rows.take(tokens) {
                    break rows;
                }
                let oldest = (0..self.kept.len()).min_by_key(|at| self.kept[*at].last_used);
                let Some(oldest) = oldest.map(|at| self.kept.swap_remove(at)) else { return };
                self.rows.shrink(&oldest.rows, 0);
            };
            let Some((id, request)) = self.waiting.pop_front() else { return };
            let sampler = Sampler::new(&request.ids, &request.options);
            let prefix = Prefix::new(request, rows, self.model);
            let (from_below, generated, next) = (None, 0, None);
            let (has_begun, has_ended) = (false, false);
            self.streams.push(RunningText { id, prefix, from_below, has_begun, sampler, generated, next, has_ended });
        }
    }

    /// Keeps the prompt of a text that has ended, and frees the rest of its rows.
    fn keep(&mut self, mut prefix: Prefix) {
        self.rows.shrink(&prefix.rows, prefix.tokens);
        if prefix.tokens > 0 {
            prefix.last_used = self.uses;
            self.kept.push(prefix);
        }
    }

    /// Runs a piece of the prompts that are not complete. → the texts whose prompts now are, and the logits behind these.
    fn prefill(&mut self) -> Result<Option<(Vec<usize>, Tensor)>> {
        self.admit();
        let mut runs = Vec::new();
        let (mut of_stream, mut products) = (Vec::new(), None);
        let mut left = if self.streams.iter().any(|stream| stream.next.is_some()) { PIECE } else { LARGE_PIECE };
        for at in 0..self.streams.len() {
            if self.streams[at].prefix.is_complete() || left == 0 {
                continue;
            }
            let of_prompt = self.model.products_of_prompt(self.streams[at].prefix.len());
            if products.is_some_and(|products| products != of_prompt) || !self.begin(at)? {
                continue;
            }
            products = Some(of_prompt);
            for run in self.streams[at].next_runs(self.model, left)? {
                left = left.saturating_sub(run.factors.len());
                of_stream.push(at);
                runs.push(run);
            }
        }
        let Some(products) = products.filter(|_| !runs.is_empty()) else { return Ok(None) };
        let Passed { residual, rows, at_split } = pass(self.model, &mut self.cache, &runs, products)?;
        let (mut completed, mut last) = (Vec::new(), Vec::new());
        for ((stream, rows), at_split) in of_stream.into_iter().zip(rows).zip(at_split) {
            let prefix = &mut self.streams[stream].prefix;
            prefix.extend(at_split)?;
            if prefix.is_complete() {
                completed.push(stream);
                last.push(residual.narrow(0, rows.end - 1, 1)?);
                self.streams[stream].from_below = None;
            }
        }
        if completed.is_empty() {
            return Ok(None);
        }
        let logits = self.model.logits(&Tensor::cat(&last, 0)?, Products::BatchInvariant)?;
        // One transfer a step: samplers look at a row several times.
        Ok(Some((completed, logits.to_device(&Device::Cpu)?)))
    }

    /// Lets a prompt take over what is known of others. → whether it can go on now: not while a prompt before it computes what
    /// it could take over.
    fn begin(&mut self, at: usize) -> Result<bool> {
        if self.streams[at].has_begun {
            return Ok(true);
        }
        let prefix = &self.streams[at].prefix;
        let known = || self.streams.iter().map(|stream| &stream.prefix).chain(&self.kept).enumerate();
        let most = |same: fn(&Prefix, &Prefix, usize, &Model) -> usize| {
            let others = known().filter(|(from, _)| *from != at);
            let shared = others.map(|(from, other)| Shared { from, tokens: same(prefix, other, other.tokens, self.model) });
            shared.max_by_key(|shared| shared.tokens).unwrap_or_default()
        };
        let (mut whole, mut below) = (most(Prefix::same_in_all_blocks), most(Prefix::same_below));
        let will_offer_more = |other: &Prefix| {
            prefix.same_in_all_blocks(other, other.len(), self.model) > whole.tokens
                || prefix.same_below(other, other.len(), self.model) > below.tokens.max(whole.tokens)
        };
        if self.streams[..at].iter().any(|stream| !stream.prefix.is_complete() && will_offer_more(&stream.prefix)) {
            return Ok(false);
        }
        // What enters at the vectors of another prompt is a run of its own, which must not be too short.
        let shortest = prefix.shortest_run();
        if below.tokens > whole.tokens && below.tokens >= shortest {
            whole.tokens = whole.tokens.min(below.tokens - shortest);
        } else {
            below.tokens = 0;
        }
        let (start, blocks) = (prefix.rows.start, self.model.num_blocks());
        let (mut from_below, mut entry) = (None, 0);
        if below.tokens > 0 {
            let other = self.known(below.from);
            let (theirs, residual) = (other.rows.start, other.at_split(below.tokens)?);
            entry = other.split;
            self.cache.copy_rows(0..entry, theirs..theirs + below.tokens, start)?;
            from_below = Some(FromBelow { entry, tokens: below.tokens, residual });
        }
        if whole.tokens > 0 {
            let other = self.known(whole.from);
            let (theirs, residual) = (other.rows.start, other.at_split(whole.tokens)?);
            self.cache.copy_rows(entry..blocks, theirs..theirs + whole.tokens, start)?;
            self.streams[at].prefix.extend(residual)?;
        }
        (self.streams[at].from_below, self.streams[at].has_begun) = (from_below, true);
        self.uses += 1;
        for used in [whole, below].into_iter().filter(|shared| shared.tokens > 0) {
            if let Some(kept) = used.from.checked_sub(self.streams.len()) {
                self.kept[kept].last_used = self.uses;
            }
        }
        Ok(true)
    }

    /// The prompts under way, and then those that are kept.
    fn known(&self, index: usize) -> &Prefix {
        match self.streams.get(index) {
            Some(stream) => &stream.prefix,
            None => &self.kept[index - self.streams.len()],
        }
    }

    /// One more token of each of `streams`. → the logits behind it, f32. `(streams, V)`
    fn decode(&mut self, streams: &[usize]) -> Result<Tensor> {
        let streams: Vec<&RunningText> = streams.iter().map(|at| &self.streams[*at]).collect();
        let ids: Vec<u32> = streams.iter().filter_map(|stream| stream.next).collect();
        let embedded = self.model.embed(&ids)?;
        let run = |(row, stream): (usize, &&RunningText)| -> Result<Run> {
            let past = stream.prefix.len() + stream.generated - 1;
            Ok(Run {
                entry: 0,
                x: embedded.narrow(0, row, 1)?,
                place: Continuation { start: stream.prefix.rows.start, past, new: 1, length: past + 1 },
                steering: Arc::clone(&stream.prefix.request.steering),
                factors: vec![stream.prefix.request.generated_factor()],
                split: stream.prefix.split,
            })
        };
        let runs: Vec<Run> = streams.iter().enumerate().map(run).collect::<Result<_>>()?;
        let products = self.model.decoding.products();
        let passed = pass(self.model, &mut self.cache, &runs, products)?;
        Ok(self.model.logits(&passed.residual, products)?.to_device(&Device::Cpu)?)
    }

    /// Chooses a token for each of `streams` from its row of `logits`, and ends those that are done.
    fn choose(&mut self, streams: &[usize], logits: &Tensor, events: &mut Vec<Event>) -> Result<()> {
        let mut row_of = vec![None; self.streams.len()];
        streams.iter().enumerate().for_each(|(row, stream)| row_of[*stream] = Some(row));
        let choose = |(stream, row): (&mut RunningText, &Option<usize>)| -> Option<Result<Option<Sampled>>> {
            let row = (*row)?;
            (stream.prefix.request.options.max_new_tokens > 0).then(|| stream.sampler.sample(&logits.get(row)?))
        };
        let chosen: Vec<_> = self.streams.par_iter_mut().zip(&row_of).map(choose).collect();
        for (at, chosen) in chosen.into_iter().enumerate().filter(|(at, _)| row_of[*at].is_some()) {
            let limit = self.limit(&self.streams[at].prefix.request);
            let stream = &mut self.streams[at];
            let mut tell = |kind| events.push(Event { stream: stream.id, kind });
            let reason = match chosen.transpose()? {
                None => Some(FinishReason::Length),
                Some(None) => Some(FinishReason::NotFinite),
                Some(Some(Sampled { token, log_probs })) => {
                    tell(EventKind::Token { id: token, log_probs });
                    (stream.generated, stream.next) = (stream.generated + 1, Some(token));
                    let stops = stream.prefix.request.options.eos.contains(&token);
                    if stops { Some(FinishReason::Stop) } else { (stream.generated >= limit).then_some(FinishReason::Length) }
                }
            };
            if let Some(reason) = reason {
                tell(EventKind::Finished { reason, dose: stream.prefix.dose()? });
                (stream.next, stream.has_ended) = (None, true);
            }
        }
        Ok(())
    }
}

impl RunningText {
    /// The next rows of its prompt, about `most` of them: those that enter at another prompt's vectors, and those behind them,
    /// which see the keys and values of the former in the same pass.
    fn next_runs(&self, model: &Model, most: usize) -> Result<Vec<Run>> {
        let mut runs = vec![self.run(model, self.prefix.tokens, most)?];
        let rows = runs[0].factors.len();
        let past = self.prefix.tokens + rows;
        if self.from_below.as_ref().is_some_and(|below| below.tokens == past) && past < self.prefix.len() && rows < most {
            runs.push(self.run(model, past, most - rows)?);
        }
        Ok(runs)
    }

    /// The rows of its prompt behind the first `past`, about `most` of them.
    fn run(&self, model: &Model, past: usize, most: usize) -> Result<Run> {
        let Prefix { request, rows, split, .. } = &self.prefix;
        let below = self.from_below.as_ref().filter(|below| past < below.tokens);
        let end = below.map_or(request.ids.len(), |below| below.tokens);
        let new = piece(end - past, most);
        let (entry, x) = match below {
            Some(below) => (below.entry, below.residual.narrow(0, past, new)?),
            None => (0, model.embed(&request.ids[past..past + new])?),
        };
        Ok(Run {
            entry,
            x,
            place: Continuation { start: rows.start, past, new, length: request.ids.len() },
            steering: Arc::clone(&request.steering),
            factors: (past..past + new).map(|token| request.factor(token)).collect(),
            split: *split,
        })
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
