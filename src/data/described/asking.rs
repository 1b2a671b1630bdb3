//! Asks the endpoint for questions and answers, and checks each answer. What is kept of them is decided in `mod.rs`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use super::checks::{Leak, Reason, refuses, whole_sentences, words};
use super::config::{Asked, BATCH, PairsConfig, PlacedQuestion};
use super::requests;
use crate::data::Message;
use crate::data::endpoint::{self, Client, Reply, RequestFailure};

/// How often an answer is asked for that is not of the asked form.
const TRIES: u64 = 3;

/// The endpoint with what it is asked about.
pub(super) struct Asking<'a> {
    config: &'a PairsConfig,
    client: Client<'a>,
    asked: &'a Asked,
    /// How an answer that shows the behaviour would name it.
    shown: Leak,
    /// How an answer that shows the opposite would name that.
    opposite: Option<Leak>,
    /// Replies, and the tokens of requests and replies.
    counts: [AtomicU64; 3],
    /// What the endpoint said when it first refused a request for an answer.
    refusal: OnceLock<String>,
}

impl<'a> Asking<'a> {
    pub fn new(config: &'a PairsConfig, asked: &'a Asked) -> Self {
        Self {
            config,
            client: Client::new(&asked.endpoint, asked.key.as_ref(), asked.patience),
            asked,
            shown: Leak::of(&config.recipe.description),
            opposite: config.recipe.opposite.as_deref().map(Leak::of),
            counts: Default::default(),
            refusal: OnceLock::new(),
        }
    }

    pub fn endpoint(&self) -> String {
        self.asked.endpoint.to_string()
    }

    /// Returns the number of replies, and of the tokens of requests and replies.
    pub fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|index: usize| self.counts[index].load(Ordering::SeqCst))
    }

    /// Returns the first message with which the endpoint refused a request for an answer.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// Whether a text names the behaviour.
    pub fn names_behaviour(&self, text: &str) -> bool {
        self.shown.is_in(text)
    }

    /// Returns a list of questions, or an empty one if no reply has questions.
    pub fn questions(&self, batch: usize, known: &[String], stop: &AtomicBool) -> Result<Vec<String>, RequestFailure> {
        let messages = requests::questions(self.config, batch, known);
        let most = BATCH * requests::QUESTION_TOKENS;
        for attempt in 0..TRIES {
            // Index BATCH, behind those of the questions, stands for the list itself.
            let reply = self.ask(&messages, most, self.seed(batch, BATCH, attempt), stop)?;
            let mut questions = reply.map(|reply| requests::parse_questions(&reply.text)).unwrap_or_default();
            // A model that does not count goes on and on.
            questions.truncate(BATCH);
            if !questions.is_empty() {
                return Ok(questions);
            }
        }
        Ok(Vec::new())
    }

    /// Returns an answer that shows the behaviour, or why there is none.
    pub fn chosen(&self, question: &PlacedQuestion, stop: &AtomicBool) -> Result<Result<String, Reason>, RequestFailure> {
        if let Some(problem) = question.problem {
            return Ok(Err(problem));
        }
        let messages = requests::showing(&self.config.recipe.description, self.config.max_tokens, &question.text);
        self.answer(&messages, question, |text, is_cut| self.check(text, is_cut, Some(&self.shown)), stop)
    }

    /// Returns an answer that does not show the behaviour, or why there is none.
    pub fn rejected(&self, question: &PlacedQuestion, stop: &AtomicBool) -> Result<Result<String, Reason>, RequestFailure> {
        let messages = match &self.config.recipe.opposite {
            Some(opposite) => requests::showing(opposite, self.config.max_tokens, &question.text),
            None => requests::plain(self.config.max_tokens, &question.text),
        };
        self.answer(&messages, question, |text, is_cut| self.check_rejected(text, is_cut), stop)
    }

    /// Asks until the answer is of the asked form.
    fn answer(
        &self,
        messages: &[Message],
        question: &PlacedQuestion,
        check: impl Fn(&str, bool) -> Result<String, Reason>,
        stop: &AtomicBool,
    ) -> Result<Result<String, Reason>, RequestFailure> {
        let mut checked = Err(Reason::Form);
        for attempt in 0..TRIES {
            let seed = self.seed(question.batch, question.index, attempt);
            checked = match self.ask(messages, self.config.max_tokens, seed, stop) {
                Ok(Ok(reply)) => check(&reply.text, reply.is_cut),
                Ok(Err(_)) => Err(Reason::Form),
                Err(RequestFailure::Refused(said)) => {
                    let _ = self.refusal.set(said);
                    return Ok(Err(Reason::Server));
                }
                Err(failure) => return Err(failure),
            };
            if !matches!(checked, Err(Reason::Form | Reason::Cut)) {
                break;
            }
        }
        Ok(checked)
    }

    /// Returns an answer that does not show the behaviour as it is kept, or why it is not.
    pub fn check_rejected(&self, text: &str, is_cut: bool) -> Result<String, Reason> {
        self.check(text, is_cut, self.opposite.as_ref())
    }

    /// Returns an answer as it is kept, or why it is not. It shows what `leak` is of, if anything, and names neither that nor the
    /// behaviour.
    fn check(&self, text: &str, is_cut: bool, leak: Option<&Leak>) -> Result<String, Reason> {
        let text = requests::without_thoughts(text);
        let text = if is_cut { whole_sentences(text).ok_or(Reason::Cut)? } else { text };
        match () {
            () if words(text).is_empty() => Err(Reason::Form),
            () if self.shown.is_in(text) || leak.is_some_and(|leak| leak.is_in(text)) => Err(Reason::Named),
            () if !leak.is_some_and(Leak::is_of_refusals) && refuses(text) => Err(Reason::Refused),
            () => Ok(text.to_owned()),
        }
    }

    /// Makes one request, and counts its reply.
    fn ask(
        &self,
        messages: &[Message],
        max_tokens: usize,
        seed: u64,
        stop: &AtomicBool,
    ) -> Result<Result<Reply, String>, RequestFailure> {
        let settings =
            [("temperature", json!(self.config.temperature)), ("seed", json!(seed)), ("max_tokens", json!(max_tokens))];
        let request = endpoint::request(self.config.recipe.model.as_deref(), messages, &settings);
        let reply = self.client.ask(&request, stop)?;
        let tokens = reply.as_ref().map_or([0, 0], |reply| reply.tokens);
        for (count, more) in self.counts.iter().zip([1, tokens[0], tokens[1]]) {
            count.fetch_add(more, Ordering::SeqCst);
        }
        Ok(reply)
    }

    /// Returns a seed of its own for each request about a question. Every JSON parser reads it exactly.
    fn seed(&self, batch: usize, index: usize, attempt: u64) -> u64 {
        let place = (batch * (BATCH + 1) + index) as u64 * TRIES + attempt;
        self.config.seed.wrapping_add(place) % (1 << 53)
    }
}
