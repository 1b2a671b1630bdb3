//! Pairs from a description of a behaviour, such as "answers like a pirate": a language model behind a chat endpoint writes
//! questions, and two answers to each, one that shows the behaviour and one that does not. The model that will be steered can give
//! the second answer itself. What is of no use is dropped and counted, by the rules of `checks`.
//!
//! Begin with [`PairsPlan::read`] and [`PairsPlan::run`]. What the model is asked is written in `requests`, and `asking` asks it.
//! Each pair is a line of a file at once, and an interrupted run goes on behind the last line: `records`.

mod asking;
mod checks;
mod config;
mod records;
mod requests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::endpoint::{RequestFailure, ask_all};
use super::message::Message;
use crate::{Error, Result};
use asking::Asking;
use checks::{is_near_copy, words};
use config::PlacedQuestion;
use records::{PairRecord, PairsFile, read_lines};

pub use checks::Reason;
pub use config::{Asked, PairsConfig, Recipe};
pub use requests::Cost;

/// How many lists of questions in a row may give no pair before the run ends.
const MOST_BARREN: usize = 3;

/// Number of words of a question: shorter lines are headings, and longer ones no question.
const QUESTION_WORDS: std::ops::RangeInclusive<usize> = 3..=60;

/// An answer of the model that will be steered.
#[derive(Debug, Clone)]
pub struct OwnAnswer {
    /// Text of the answer.
    pub text: String,
    /// Whether it ends because it has as many tokens as it may have.
    pub is_cut: bool,
}

/// Answers questions by the model that will be steered: gets the questions, and hands over an answer to each in their order.
pub type OwnAnswers<'a> = dyn FnMut(&[String], &mut dyn FnMut(OwnAnswer) -> Result<()>) -> Result<()> + 'a;

/// What a run gave. What was dropped includes what the runs dropped that it goes on from.
#[derive(Debug, Serialize)]
pub struct PairsReport {
    /// Number of pairs in the file.
    pub pairs: usize,
    /// Number of them that were there before.
    pub resumed: usize,
    /// Number of questions that gave no pair, by reason.
    pub dropped: BTreeMap<Reason, usize>,
    /// Number of replies that the endpoint gave in this run.
    pub replies: u64,
    /// Number of tokens that the endpoint read for them, as far as it counts them.
    pub prompt_tokens: u64,
    /// Number of tokens that the endpoint wrote.
    pub completion_tokens: u64,
    /// Why it ended before all pairs were there, if it was not interrupted.
    #[serde(skip)]
    pub failure: Option<Error>,
}

/// What is to be made, and what of it is there already.
#[derive(Debug)]
pub struct PairsPlan<'a> {
    config: &'a PairsConfig,
    there: Vec<PairRecord>,
}

impl<'a> PairsPlan<'a> {
    /// Reads what the file already has. An incomplete last line is left out.
    ///
    /// # Errors
    /// A description has no words, or the file has something else than pairs of this recipe.
    pub fn read(config: &'a PairsConfig) -> Result<Self> {
        let Recipe { description, opposite, .. } = &config.recipe;
        let texts = [("the description has no words", Some(description)), ("the opposite has no words", opposite.as_ref())];
        for (problem, text) in texts {
            if text.is_some_and(|text| words(text).is_empty()) {
                let problem = format!("{problem}: say what the model does, as in \"answers like a pirate\"");
                return Err(Error::Argument(problem));
            }
        }
        Ok(Self { config, there: read_lines(&config.output, &config.recipe)? })
    }

    /// Number of pairs that the file already has.
    pub fn there(&self) -> usize {
        self.there.len()
    }

    /// What the missing pairs take, if none of them is dropped.
    pub fn cost(&self) -> Cost {
        requests::cost(self.config, self.config.pairs.saturating_sub(self.there.len()))
    }

    /// Returns an example of each kind of request, with a heading.
    pub fn examples(&self) -> Vec<(&'static str, Vec<Message>)> {
        requests::examples(self.config)
    }

    /// Makes the missing pairs. With `own`, rejected answers are the model's that will be steered. `on_progress` gets the number of
    /// pairs in the file, at least ten times a second while the endpoint is waited for. If it breaks, no further request is made.
    ///
    /// # Errors
    /// The file cannot be written, or `own` fails. What the endpoint does wrong is told in the report. The pairs until then are in
    /// the file.
    pub fn run(
        self,
        asked: &Asked,
        own: Option<&mut OwnAnswers>,
        on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<PairsReport> {
        let resumed = self.there.len();
        let asking = Asking::new(self.config, asked);
        let mut run = PairsRun {
            asking: &asking,
            concurrency: asked.concurrency,
            record: PairsFile::begin(self.config, self.there)?,
            on_progress,
        };
        let failure = match run.all(own) {
            Ok(()) | Err(End::Stopped | End::Error(Error::Interrupted)) => None,
            Err(End::Endpoint(problem)) => Some(Error::Endpoint(problem)),
            Err(End::Error(error)) => return Err(error),
        };
        let PairsFile { lines, dropped, .. } = run.record;
        let [replies, prompt_tokens, completion_tokens] = asking.counts();
        Ok(PairsReport { pairs: lines.len(), resumed, dropped, replies, prompt_tokens, completion_tokens, failure })
    }
}

/// Why a run ends before all pairs are there.
enum End {
    /// The user asked for it.
    Stopped,
    /// The endpoint gives no more.
    Endpoint(String),
    /// The file cannot be written, or the own model fails.
    Error(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A run under way.
struct PairsRun<'a> {
    asking: &'a Asking<'a>,
    concurrency: usize,
    record: PairsFile<'a>,
    on_progress: &'a mut dyn FnMut(usize) -> ControlFlow<()>,
}

impl PairsRun<'_> {
    /// Asks for lists of questions, and for answers to them, until all pairs are there.
    fn all(&mut self, mut own: Option<&mut OwnAnswers>) -> Result<(), End> {
        // The list that the last pair is from is asked for again, and the run goes on behind that pair.
        let (mut batch, mut first) = self.record.lines.last().map_or((0, 0), |line| (line.made.batch, line.made.index + 1));
        let mut barren = 0;
        while self.record.missing() > 0 {
            let before = self.record.missing();
            let questions = self.questions(batch, first)?;
            let mut questions = questions.as_slice();
            while self.record.missing() > 0 && !questions.is_empty() {
                let (wave, rest) = questions.split_at(self.record.missing().min(questions.len()));
                match &mut own {
                    Some(own) => self.answer_on_policy(wave, own)?,
                    None => self.answer(wave)?,
                }
                questions = rest;
            }
            match self.record.missing() < before {
                true => barren = 0,
                // The rest of a list is no whole list.
                false => barren += usize::from(first == 0),
            }
            if barren == MOST_BARREN {
                return Err(End::Endpoint(self.barren()));
            }
            (batch, first) = (batch + 1, 0);
        }
        Ok(())
    }

    fn barren(&self) -> String {
        let dropped: Vec<String> = self.record.dropped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!(
            "{} gave {MOST_BARREN} lists of questions of which no pair is left ({}): ask a model that follows instructions better, or \
             describe the behaviour in other words{}",
            self.asking.endpoint(),
            dropped.join(", "),
            self.asking.refusal().map(|said| format!("; it said: {said}")).unwrap_or_default()
        )
    }

    /// Returns the questions of a list from the index `first` on, also those of no use, so that they are counted in their order.
    fn questions(&mut self, batch: usize, first: usize) -> Result<Vec<PlacedQuestion>, End> {
        // Those of the same list are not among them, so that the list is asked for by the same words when a run goes on.
        let known = self.record.lines.iter().filter(|line| line.made.batch < batch).map(|line| line.question.clone());
        let known: Vec<String> = known.collect();
        let mut seen: Vec<Vec<String>> = known.iter().map(|question| words(question)).collect();
        // An endpoint that gives another list for the same request may repeat what is kept of the first one.
        let kept = self.record.lines.iter().filter(|line| line.made.batch == batch).map(|line| words(&line.question));
        let kept: Vec<Vec<String>> = kept.collect();
        let mut listed = Vec::new();
        let asking = self.asking;
        self.each(
            1,
            |_, stop| asking.questions(batch, &known, stop),
            |_, _, questions| {
                listed = questions;
                Ok(())
            },
        )?;
        if listed.is_empty() {
            self.record.drop(Reason::Form);
        }
        let question = |(index, text): (usize, String)| {
            let of_question = words(&text);
            let problem = match () {
                () if !QUESTION_WORDS.contains(&of_question.len()) => Some(Reason::Form),
                () if seen.iter().any(|other| is_near_copy(&of_question, other)) => Some(Reason::NearCopy),
                () if index >= first && kept.iter().any(|other| is_near_copy(&of_question, other)) => Some(Reason::NearCopy),
                () if asking.names_behaviour(&text) => Some(Reason::Named),
                () => None,
            };
            if problem.is_none() {
                seen.push(of_question);
            }
            PlacedQuestion { batch, index, text, problem }
        };
        Ok(listed.into_iter().enumerate().map(question).skip(first).collect())
    }

    /// Asks the endpoint for both answers to each question.
    fn answer(&mut self, questions: &[PlacedQuestion]) -> Result<(), End> {
        let asking = self.asking;
        let both = |index: usize, stop: &AtomicBool| match asking.chosen(&questions[index], stop)? {
            Ok(chosen) => Ok(asking.rejected(&questions[index], stop)?.map(|rejected| (chosen, rejected))),
            Err(reason) => Ok(Err(reason)),
        };
        self.each(questions.len(), both, |record, index, answers| record.settle(&questions[index], answers))
    }

    /// Asks the endpoint for the answers that show the behaviour, and the model that will be steered for the others.
    fn answer_on_policy(&mut self, questions: &[PlacedQuestion], own: &mut OwnAnswers) -> Result<(), End> {
        let asking = self.asking;
        let mut chosen = Vec::new();
        self.each(
            questions.len(),
            |index, stop| asking.chosen(&questions[index], stop),
            |_, _, answer| {
                chosen.push(answer);
                Ok(())
            },
        )?;
        let answered = questions.iter().zip(&chosen).filter(|(_, chosen)| chosen.is_ok());
        let answered: Vec<String> = answered.map(|(question, _)| question.text.clone()).collect();
        let mut pending = questions.iter().zip(chosen);
        let (record, on_progress) = (&mut self.record, &mut self.on_progress);
        if !answered.is_empty() {
            own(&answered, &mut |answer| {
                for (question, chosen) in pending.by_ref() {
                    let has_answer = chosen.is_ok();
                    let rejected = || asking.check_rejected(&answer.text, answer.is_cut);
                    let answers = chosen.and_then(|chosen| Ok((chosen, rejected()?)));
                    record.settle(question, answers)?;
                    if has_answer {
                        break;
                    }
                }
                let _ = on_progress(record.lines.len());
                Ok(())
            })?;
        }
        for (_, chosen) in pending {
            chosen.err().into_iter().for_each(|reason| record.drop(reason));
        }
        Ok(())
    }

    /// Does `work` for each index below `total`, several at a time, and hands over what it gives in the order of the indices.
    fn each<T: Send>(
        &mut self,
        total: usize,
        work: impl Fn(usize, &AtomicBool) -> Result<T, RequestFailure> + Sync,
        mut take: impl FnMut(&mut PairsFile, usize, T) -> Result<()>,
    ) -> Result<(), End> {
        let mut early: BTreeMap<usize, T> = BTreeMap::new();
        let (mut next, mut end) = (0, None);
        ask_all(self.concurrency, total, work, |_, answer, stop| {
            let taken = match answer {
                None => Ok(()),
                Some((index, Ok(given))) => {
                    early.insert(index, given);
                    std::iter::from_fn(|| early.remove(&next).inspect(|_| next += 1).map(|given| (next - 1, given)))
                        .try_for_each(|(index, given)| take(&mut self.record, index, given).map_err(End::Error))
                }
                // Why it was stopped is told by another answer, or by the user.
                Some((_, Err(RequestFailure::Stopped))) => Ok(()),
                Some((_, Err(failure))) => Err(End::Endpoint(failure.problem())),
            };
            let asked_to_stop = (self.on_progress)(self.record.lines.len()).is_break();
            if let Err(problem) = taken {
                end.get_or_insert(problem);
            } else if asked_to_stop {
                end.get_or_insert(End::Stopped);
            }
            if end.is_some() {
                stop.store(true, Ordering::SeqCst);
            }
        });
        match end {
            Some(end) => Err(end),
            None if next < total => Err(End::Stopped),
            None => Ok(()),
        }
    }
}
