//! Runs an evaluation: everything is encoded first, without a model; then each subject's pairs and answers are cached once and
//! scored at every magnitude. What was measured is shown to an observer as it comes, and kept whatever ends the evaluation early.
//! Writes no file and prints nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use super::bootstrap::{Bootstrap, Estimate, mean};
use super::damage::{Reading, TextIds};
use super::divergence::answer_divergences;
use super::firing::{self, Firing};
use super::material::{EncodedMaterial, EvalMaterial, Subject, Treatment};
use super::preference::Scores;
use super::{EvalRow, EvalTimings, GeneratedText, Measure, MeasureUnit, PairLine, choice, damage, preference};
use crate::data::{QuestionSet, last_number};
use crate::generate::{FinishReason, GenerateOptions, Prompt, SweepEvent, generate_each};
use crate::model::Model;
use crate::session::Demand;
use crate::steering::condition::When;
use crate::steering::positions::Positions;
use crate::steering::vector::SteeringVector;
use crate::steering::{Operation, Steering};
use crate::text::spans::Spans;
use crate::text::tokens::{EncodedPair, EncodedPrompt, TextEncoder};
use crate::train::activations::{Activations, CacheOptions, CachePlan};
use crate::train::batch::Sharing;
use crate::train::collective::{Collective, Json};
use crate::train::objective::PairLogProbs;
use crate::{Error, Result};

/// How an evaluation measures.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Factor of the margin.
    pub beta: f64,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// Condition that says which prompts vectors steer; all where it is none.
    pub when: Option<When>,
    /// How texts are generated; the positions and the operation are each vector's own.
    pub generate: GenerateOptions,
    /// Texts that are generated at once; at least as many as there are magnitudes.
    pub streams: usize,
    /// The processes that share pairs, questions and prompts between them.
    pub collective: Collective,
}

/// What an evaluation has measured.
#[derive(Debug, Default)]
pub struct EvalOutcome {
    /// Rows of the report.
    pub rows: Vec<EvalRow>,
    /// Row by row, in the order of the pairs.
    pub pairs: Vec<PairLine>,
    /// Generated texts of the report.
    pub generations: Vec<GeneratedText>,
    /// Times of the report.
    pub timings: EvalTimings,
    /// What ended the evaluation early, where something did; rows then lack measures, or are not there.
    pub stopped: Option<Error>,
}

/// Sees an evaluation as it goes. Each of its errors ends the evaluation.
pub trait EvalObserver {
    /// So much of one part of the work is done; its name is `cache`, `pairs`, `questions`, `text` or `texts`.
    fn progress(&mut self, part: &'static str, done: usize, total: usize) -> Result<()>;

    /// A pass of the model is done.
    fn pass(&mut self) -> Result<()>;

    /// A subject was measured at a magnitude, or at all of them. Rows whose turn has not come have no measures.
    fn measured(&mut self, outcome: &EvalOutcome) -> Result<()>;
}

/// Watches nothing.
impl EvalObserver for () {
    fn progress(&mut self, _: &'static str, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn pass(&mut self) -> Result<()> {
        Ok(())
    }

    fn measured(&mut self, _: &EvalOutcome) -> Result<()> {
        Ok(())
    }
}

/// What [`evaluate`] takes of a process's memory at most, where `streams` texts of up to `max_new_tokens` tokens are generated at once.
pub fn demand(subjects: &[Subject], streams: usize, max_new_tokens: usize, collective: &Collective) -> Demand {
    let CacheOptions { place, memory, .. } = CacheOptions::shared(collective);
    // One subject's pairs and answers are cached at a time, at one layer. All have the same; what the others' instructions
    // add to prompts is little.
    let demand = subjects.first().map(|Subject { encoded, .. }| {
        let own: Vec<Vec<EncodedPair>> =
            std::iter::once(&encoded.pairs).chain(&encoded.answers).map(|set| collective.share().of(set)).collect();
        Demand::activations(&own.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[0])
    });
    let prompts = subjects.iter().flat_map(|subject| subject.encoded.prompts.iter().chain(&subject.encoded.rest));
    let longest = prompts.map(|prompt| prompt.ids.len()).max();
    let demand = demand.unwrap_or_default().cached(place, memory);
    match longest {
        Some(longest) => demand.and_generation(streams, longest, max_new_tokens),
        None => demand,
    }
}

/// Measures each subject; the first must be a vector, whose reference margins are relative to. Where a number is not finite, the
/// row ends there, with that as its `failure`, and the others go on.
///
/// # Errors
/// Nothing was measured: a number is not finite in any row, a vector reaches no token, or the observer fails. Once something was, the
/// error is the outcome's `stopped`.
pub fn evaluate(
    model: &Model,
    encoder: &TextEncoder,
    material: &EvalMaterial,
    subjects: &[Subject],
    settings: &Settings,
    observer: &mut dyn EvalObserver,
) -> Result<EvalOutcome> {
    let outcome = EvalOutcome::default();
    let mut run = Evaluation {
        model,
        encoder,
        material,
        settings,
        observer,
        cached: None,
        reference: Vec::new(),
        firing: Firing::new(model, settings.when.as_ref(), &settings.collective),
        first: 0,
        outcome,
    };
    let ended = subjects.iter().try_for_each(|subject| match &subject.treatment {
        Treatment::Vector(vector, magnitudes) => run.vector(subject, vector, magnitudes),
        Treatment::System(system) => run.prompted(subject, system),
    });
    let mut outcome = run.outcome;
    let timings = &mut outcome.timings;
    timings.pairs_per_s = (timings.scored_pairs > 0).then(|| timings.scored_pairs as f64 / timings.score_s);
    if let Err(error) = ended.and_then(|()| check_finite(&outcome.rows)) {
        let has_text = |row: &EvalRow| {
            outcome.generations.iter().any(|text| text.subject == row.subject && text.magnitude == row.magnitude)
        };
        let has_result = |row: &EvalRow| !row.measures.is_empty() || has_text(row);
        if !outcome.rows.iter().any(has_result) {
            return Err(error);
        }
        outcome.rows.retain(|row| has_result(row) || row.failure.is_some());
        outcome.stopped = Some(error);
    }
    Ok(outcome)
}

/// Refuses rows of which none was measured to its end.
fn check_finite(rows: &[EvalRow]) -> Result<()> {
    match rows.first().and_then(|row| row.failure.clone()) {
        Some(problem) if rows.iter().all(|row| row.failure.is_some()) => Err(Error::NotFinite(problem)),
        _ => Ok(()),
    }
}

/// What a cache depends on, beside the material.
type CacheKey = (usize, Positions, Option<Spans>);

struct Evaluation<'a> {
    model: &'a Model,
    encoder: &'a TextEncoder,
    material: &'a EvalMaterial<'a>,
    settings: &'a Settings,
    observer: &'a mut dyn EvalObserver,
    /// Pairs, if any, then each question file: kept for the next vector at the same place.
    cached: Option<(CacheKey, Vec<Activations>)>,
    /// Log-probabilities of the pairs without vector or instruction.
    reference: Vec<PairLogProbs>,
    /// Tells which prompts are steered.
    firing: Firing<'a>,
    /// Index of the subject's first row.
    first: usize,
    outcome: EvalOutcome,
}

impl Evaluation<'_> {
    /// Begins a subject: a row at each magnitude, without measures.
    fn begin(&mut self, subject: &Subject, magnitudes: impl IntoIterator<Item = Option<f32>>) {
        self.first = self.outcome.rows.len();
        let row = |magnitude| EvalRow { subject: subject.name.clone(), magnitude, measures: Vec::new(), failure: None };
        self.outcome.rows.extend(magnitudes.into_iter().map(row));
    }

    /// The subject's rows whose numbers were all finite so far.
    fn open(&self) -> Vec<usize> {
        let rows = &self.outcome.rows[self.first..];
        rows.iter().enumerate().filter_map(|(at, row)| row.failure.is_none().then_some(at)).collect()
    }

    /// What was found for a row of the subject; none where a number is not finite, which ends the row.
    fn finite<T>(&mut self, at: usize, found: Result<T>) -> Result<Option<T>> {
        match found {
            Err(Error::NotFinite(problem)) => {
                self.outcome.rows[self.first + at].failure = Some(problem);
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// Adds measures to a row of the subject.
    fn add(&mut self, at: usize, measures: impl IntoIterator<Item = Measure>) {
        self.outcome.rows[self.first + at].measures.extend(measures);
    }

    fn vector(&mut self, subject: &Subject, vector: &SteeringVector, magnitudes: &[f32]) -> Result<()> {
        let lowest = vector.layers.keys().next().copied().unwrap_or_default();
        let place = (lowest, vector.metadata.positions, vector.metadata.spans);
        let caches = self.caches(&subject.encoded, place)?;
        self.begin(subject, magnitudes.iter().copied().map(Some));
        let steering = Steering::by(vector.metadata.operation, &vector.layers, self.model.device())?;
        let (pairs, answers) = caches.split_at(usize::from(!subject.encoded.pairs.is_empty()));
        if let Some(pairs) = pairs.first() {
            self.preference(&subject.encoded.pairs, pairs, &steering, magnitudes)?;
        }
        for (index, answers) in answers.iter().enumerate() {
            let name = format!("{}.fired", self.material.questions[index].name);
            let fired = self.fired(&name, firing::prompts(&subject.encoded.answers[index]))?;
            for at in self.open() {
                let started = Instant::now();
                let scores = self.score(answers, &steering, magnitudes[at], fired.as_deref());
                let set = &self.material.questions[index];
                if let Some(scores) = self.finite(at, scores.map_err(|error| of_set(set, error)))? {
                    self.add(at, choice::measures(set, &scores, &self.settings.bootstrap));
                }
                self.outcome.timings.choice_s += started.elapsed().as_secs_f64();
                self.observer.measured(&self.outcome)?;
                self.observer.progress("questions", at + 1, magnitudes.len())?;
            }
        }
        self.cached = Some((place, caches));
        let text: Vec<u32> = self.material.bos.into_iter().chain(subject.encoded.text.iter().copied()).collect();
        let text = &text[..text.len().min(self.model.config.max_position_embeddings)];
        let asked = Some(text).filter(|_| !subject.encoded.text.is_empty());
        let is_left_alone = self.fired("text_fired", asked)?.is_some_and(|fired| fired.contains(&false));
        let factor = |at: usize| if is_left_alone { 0.0 } else { magnitudes[at] };
        // Every token of the text is steered, which is not what a vector at some tokens alone does.
        let is_measured = |at: &usize| subject.is_everywhere() || factor(*at) == 0.0;
        let rows: Vec<usize> = self.open().into_iter().filter(is_measured).collect();
        let steerings: Vec<Steering> = rows.iter().map(|at| steering.with_factor(factor(*at))).collect();
        let readings: Vec<(usize, Reading)> = rows.into_iter().zip(steerings.iter().map(Reading::Steered)).collect();
        self.text(subject, &readings)?;
        self.fired("prompts_fired", subject.encoded.prompts.iter().map(|prompt| prompt.ids.as_slice()))?;
        self.rest(subject, vector, &steering)?;
        self.generate(subject, &vector.layers, (vector.metadata.positions, vector.metadata.operation))
    }

    /// How often the condition fires on prompts that need no steering, and what it costs there: the mean over these prompts of
    /// KL(steered ‖ untouched) of a token of the answer, 0 where it does not fire.
    fn rest(&mut self, subject: &Subject, vector: &SteeringVector, steering: &Steering) -> Result<()> {
        let prompts = &subject.encoded.rest;
        let fired = self.fired("rest_fired", prompts.iter().map(|prompt| prompt.ids.as_slice()))?;
        let rows = self.open();
        let Some(fired) = fired.filter(|fired| !fired.is_empty() && !rows.is_empty()) else { return Ok(()) };
        let steered = prompts.iter().zip(fired).filter(|(_, fired)| *fired).map(|(prompt, _)| prompt.clone());
        let steered: Vec<EncodedPrompt> = steered.collect();
        let magnitude = |at: &usize| self.outcome.rows[self.first + at].magnitude.unwrap_or_default();
        let magnitudes: Vec<f32> = rows.iter().map(magnitude).collect();
        let (positions, operation) = (vector.metadata.positions, vector.metadata.operation);
        let options = GenerateOptions { positions, operation, ..self.settings.generate.clone() };
        let costs = match steered.is_empty() {
            true => vec![Vec::new(); rows.len()],
            false => {
                let used = (&vector.layers, steering, magnitudes.as_slice());
                let Settings { streams, collective, .. } = self.settings;
                answer_divergences(self.model, &steered, used, (&options, *streams), collective, &mut || self.observer.pass())?
            }
        };
        for (at, of_prompts) in rows.into_iter().zip(costs) {
            let mut of_prompts: Vec<f64> = of_prompts.iter().map(|of_tokens| mean(of_tokens)).collect();
            let is_finite = of_prompts.iter().all(|kl| kl.is_finite());
            let problem = "the logits of an answer to a prompt that needs no steering are not finite";
            let checked = if is_finite { Ok(()) } else { Err(Error::NotFinite(problem.into())) };
            if self.finite(at, checked)?.is_some() {
                of_prompts.resize(prompts.len(), 0.0);
                let estimate = self.settings.bootstrap.mean(&of_prompts);
                let measure = |estimate| Measure { name: "rest_kl".to_owned(), unit: MeasureUnit::Number, estimate };
                self.add(at, estimate.map(measure));
            }
        }
        self.observer.measured(&self.outcome)
    }

    /// Log-probabilities of pairs; of those whose prompt did not fire, where a condition was asked, those of the untouched model.
    fn score(
        &mut self,
        pairs: &Activations,
        steering: &Steering,
        magnitude: f32,
        fired: Option<&[bool]>,
    ) -> Result<Vec<PairLogProbs>> {
        preference::score(self.model, pairs, steering, (magnitude, fired), &mut || self.observer.pass())
    }

    /// Whether the condition, if there is one, fires on each prompt; the share is added to each row of the subject.
    fn fired<'p>(&mut self, name: &str, prompts: impl IntoIterator<Item = &'p [u32]>) -> Result<Option<Vec<bool>>> {
        let fired = self.firing.ask(prompts, &mut || self.observer.pass())?;
        let measure = fired.as_ref().and_then(|fired| firing::share(name, fired));
        self.open().into_iter().for_each(|at| self.add(at, measure.clone()));
        Ok(fired)
    }

    /// The pairs and answers at one place: those of the last vector if that was added at the same.
    fn caches(&mut self, encoded: &EncodedMaterial, place: CacheKey) -> Result<Vec<Activations>> {
        if let Some((_, caches)) = self.cached.take().filter(|(cached, _)| *cached == place) {
            return Ok(caches);
        }
        let started = Instant::now();
        let pairs = (!encoded.pairs.is_empty()).then_some(&encoded.pairs);
        let sets: Vec<&[EncodedPair]> = pairs.into_iter().chain(&encoded.answers).map(Vec::as_slice).collect();
        let (layer, positions, _) = place;
        let options = CacheOptions::shared(&self.settings.collective);
        let plan = CachePlan::new(self.model, &sets, layer, (positions, Sharing::All), &options)?;
        let caches = plan.compute(|done, total| self.observer.progress("cache", done, total))?;
        self.outcome.timings.cache_s += started.elapsed().as_secs_f64();
        Ok(caches)
    }

    fn preference(
        &mut self,
        encoded: &[EncodedPair],
        pairs: &Activations,
        steering: &Steering,
        magnitudes: &[f32],
    ) -> Result<()> {
        let fired = self.fired("fired", firing::prompts(encoded))?;
        let reference = self.score(pairs, steering, 0.0, None)?;
        if self.reference.is_empty() {
            self.reference = reference;
        }
        let adds = steering.operation() == Operation::Add;
        let own = pairs.dose_divisors(steering, self.model.device())?;
        let records = pairs.gather(own.into_iter().map(Vec::from_iter).collect())?;
        let mut divisors: Vec<Option<f64>> = records.iter().map(|record| record.first().copied()).collect();
        for (divisor, _) in divisors.iter_mut().zip(fired.iter().flatten()).filter(|(_, fired)| !**fired) {
            // What is not steered has dose 0.
            *divisor = divisor.map(|_| f64::INFINITY);
        }
        let steered = fired.as_ref().map_or(encoded.len(), |fired| fired.iter().filter(|fired| **fired).count());
        for at in self.open() {
            let (started, magnitude) = (Instant::now(), magnitudes[at]);
            let scores = self.score(pairs, steering, magnitude, fired.as_deref());
            if let Some(scores) = self.finite(at, scores)? {
                self.add(at, preference::mean_dose(&divisors, steering.lowest_norm(), magnitude, &self.settings.bootstrap));
                let direction = if magnitude == 0.0 { 0.0 } else { f64::from(magnitude.signum()) };
                // What is taken out is what the vector would have added.
                let direction = if adds { direction } else { -direction };
                self.compare(encoded, &scores, direction, at);
            }
            self.outcome.timings.scored_pairs += if magnitude == 0.0 { 0 } else { steered };
            self.outcome.timings.score_s += started.elapsed().as_secs_f64();
            self.observer.measured(&self.outcome)?;
            self.observer.progress("pairs", at + 1, magnitudes.len())?;
        }
        Ok(())
    }

    /// Adds the measures of some scores to a row of the subject, and their lines to the outcome.
    fn compare(&mut self, pairs: &[EncodedPair], policy: &[PairLogProbs], direction: f64, at: usize) {
        let tokens: Vec<[usize; 2]> = pairs.iter().map(EncodedPair::response_tokens).collect();
        let scores = Scores { policy, reference: &self.reference, tokens: &tokens, direction };
        let measures = preference::measures(&scores, self.settings.beta, &self.settings.bootstrap);
        self.add(at, measures);
        let row = &self.outcome.rows[self.first + at];
        let baseline = (self.first > 0).then(|| row.subject.clone());
        let lines = pairs.iter().zip(policy).zip(&tokens).map(|((pair, log_probs), tokens)| PairLine {
            baseline: baseline.clone(),
            row: pair.row,
            magnitude: row.magnitude,
            chosen_logprob: log_probs[0],
            rejected_logprob: log_probs[1],
            chosen_tokens: tokens[0],
            rejected_tokens: tokens[1],
        });
        self.outcome.pairs.extend(lines);
    }

    /// The model without vector, told what to do: the reference pass is all it takes.
    fn prompted(&mut self, subject: &Subject, system: &[u32]) -> Result<()> {
        self.cached = None;
        let place = (self.model.num_blocks() - 1, Positions::All, None);
        let caches = self.caches(&subject.encoded, place)?;
        self.begin(subject, [None]);
        let (pairs, answers) = caches.split_at(usize::from(!subject.encoded.pairs.is_empty()));
        let none = BTreeMap::new();
        let unsteered = Steering::new(&none, self.model.device())?;
        if let Some(pairs) = pairs.first() {
            let scores = self.score(pairs, &unsteered, 0.0, None)?;
            self.compare(&subject.encoded.pairs, &scores, 1.0, 0);
        }
        for (set, answers) in self.material.questions.iter().zip(answers) {
            let scores = self.score(answers, &unsteered, 0.0, None)?;
            self.add(0, choice::measures(set, &scores, &self.settings.bootstrap));
        }
        self.observer.measured(&self.outcome)?;
        self.text(subject, &[(0, Reading::Prompted(system))])?;
        self.generate(subject, &none, (Positions::All, Operation::Add))
    }

    /// `readings` are those of rows of the subject.
    fn text(&mut self, subject: &Subject, readings: &[(usize, Reading)]) -> Result<()> {
        if subject.encoded.text.is_empty() || readings.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let text = TextIds { ids: &subject.encoded.text, bos: self.material.bos };
        let progress = |done, total| self.observer.progress("text", done, total);
        let of_rows: Vec<Reading> = readings.iter().map(|(_, reading)| *reading).collect();
        let scores = damage::score_text(self.model, text, &of_rows, &self.settings.collective, progress)?;
        for ((at, _), score) in readings.iter().zip(scores) {
            if self.finite(*at, score.check_finite())?.is_some() {
                self.add(*at, damage::text_measures(&score, &self.settings.bootstrap));
            }
        }
        self.outcome.timings.text_s += started.elapsed().as_secs_f64();
        self.observer.measured(&self.outcome)
    }

    fn generate(&mut self, subject: &Subject, vectors: &BTreeMap<usize, Vec<f32>>, used: (Positions, Operation)) -> Result<()> {
        let rows = self.open();
        if subject.encoded.prompts.is_empty() || rows.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let prompts = &subject.encoded.prompts;
        let collective = &self.settings.collective;
        let all: Vec<usize> = (0..prompts.len()).collect();
        let own = collective.share().of(&all);
        let mut answers = Vec::new();
        let answered = self.answer(prompts, &own, vectors, used, &mut answers);
        let gathered = answered.and_then(|()| collective.gather(prompts.len(), answers.clone()));
        let (asked, answers, ended) = match gathered {
            Ok(gathered) => (all, gathered, Ok(())),
            Err(error) => (own, answers, Err(error)),
        };
        for (branch, at) in rows.into_iter().enumerate() {
            let of_row: Vec<(usize, &AnswerTokens)> =
                asked.iter().copied().zip(&answers).map(|(prompt, Json(texts))| (prompt, &texts[branch])).collect();
            let lost = of_row.iter().find(|(_, (_, reason))| *reason == FinishReason::NotFinite);
            if let Some((prompt, _)) = lost {
                let problem = format!("prompt {prompt}: the logits of its text are not finite");
                self.outcome.rows[self.first + at].failure = Some(problem);
            }
            // A share of some of the prompts would pass for one of all.
            let is_whole = ended.is_ok() && lost.is_none();
            if is_whole {
                let ids: Vec<Vec<u32>> = of_row.iter().map(|(_, (ids, _))| self.without_end(ids)).collect();
                let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
                self.add(at, damage::repetition(&ids, &self.settings.bootstrap));
            }
            let mut cases = Vec::new();
            for (prompt, (ids, finish_reason)) in of_row {
                let text = self.encoder.text_of(ids)?;
                let answer = self.material.answers.get(prompt).copied().flatten();
                let numeric_match = answer.map(|answer| last_number(&text) == Some(answer));
                cases.extend(numeric_match);
                let EvalRow { subject, magnitude, .. } = &self.outcome.rows[self.first + at];
                self.outcome.generations.push(GeneratedText {
                    subject: subject.clone(),
                    magnitude: *magnitude,
                    prompt: self.material.prompts[prompt].clone(),
                    text,
                    finish_reason: *finish_reason,
                    numeric_match,
                    judge_score: None,
                });
            }
            if let Some(estimate) = Estimate::of_share(cases).filter(|_| is_whole) {
                let (name, unit) = ("numeric_match".to_owned(), MeasureUnit::Share);
                self.add(at, [Measure { name, unit, estimate }]);
            }
        }
        self.outcome.timings.generate_s += started.elapsed().as_secs_f64();
        ended?;
        self.observer.measured(&self.outcome)
    }

    /// The tokens of a text without those that end one.
    fn without_end(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().copied().filter(|id| !self.encoder.is_eos(*id)).collect()
    }

    /// Answers the prompts at these places in every open row of the subject.
    fn answer(
        &mut self,
        prompts: &[EncodedPrompt],
        places: &[usize],
        vectors: &BTreeMap<usize, Vec<f32>>,
        (positions, operation): (Positions, Operation),
        answers: &mut Vec<Json<Vec<AnswerTokens>>>,
    ) -> Result<()> {
        let options = GenerateOptions { positions, operation, ..self.settings.generate.clone() };
        let magnitude = |at: usize| self.outcome.rows[self.first + at].magnitude.unwrap_or_default();
        let magnitudes: Vec<f32> = self.open().into_iter().map(magnitude).collect();
        // An instruction is no vector, and has no condition.
        let verdict = |prompt: &EncodedPrompt| self.firing.verdict(&prompt.ids).filter(|_| !vectors.is_empty());
        let prompts = places.iter().map(|place| &prompts[*place]);
        let encoded: Vec<Prompt> = prompts.map(|prompt| Prompt::from(prompt).under(verdict(prompt))).collect();
        generate_each(self.model, &encoded, vectors, &magnitudes, &options, self.settings.streams, &mut |progress| {
            let texts = match progress {
                SweepEvent::Token { .. } => return self.observer.pass(),
                SweepEvent::Answer { texts, .. } => texts,
            };
            answers.push(Json(texts.into_iter().map(|text| (text.token_ids, text.finish_reason)).collect()));
            self.observer.progress("texts", answers.len(), places.len())
        })
    }
}

/// What is wrong with a row of a question file, with the name of the file.
fn of_set(set: &QuestionSet, error: Error) -> Error {
    match error {
        Error::NotFinite(problem) => Error::NotFinite(format!("{}: {problem}", set.name)),
        error => error,
    }
}

/// The tokens of a text, and why it ended.
type AnswerTokens = (Vec<u32>, FinishReason);
