//! Prompts at every magnitude: generated in one running batch, then shown as text, on a page, or as results of `--json`.
//!
//! It opens no model and reads no vector. Begin with [`SweepSettings`], whose `each` generates, and [`PromptTexts`], what comes
//! out.

mod columns;

pub use columns::dose as shown_dose;

use std::collections::BTreeMap;

use bipo::generate::{FinishReason, GenerateOptions, Generation, Prompt, SweepEvent, check_finite, generate, generate_each};
use bipo::model::Model;
use bipo::report::{Generations, ShownAnswer};
use bipo::steering::Operation;
use bipo::steering::condition::{Verdict, When};
use bipo::steering::magnitudes::short;
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPrompt, TextEncoder};
use bipo::{Error, Result};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::provenance::Provenance;
use crate::terminal::{self, Log};
use bipo::session::Session;

/// Greedy decoding of up to `max_new_tokens`.
pub fn greedy(max_new_tokens: usize, opened: &Session, positions: Positions) -> GenerateOptions {
    GenerateOptions { eos: opened.tokens.eos.clone(), positions, ..GenerateOptions::greedy(max_new_tokens) }
}

/// One entry of `--json`, and a line of `--output`.
#[derive(Debug, Serialize)]
pub struct TextResult {
    prompt: String,
    magnitude: f32,
    #[serde(skip_serializing_if = "Operation::is_addition")]
    operation: Operation,
    /// What `--when` said of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<Verdict>,
    text: String,
    token_ids: Vec<u32>,
    finish_reason: FinishReason,
    dose: f64,
}

/// What `--json` gives. A magnitude has the digits of an f32, which it would not have as a `Value`.
#[derive(Serialize)]
pub struct SweepDocument<'a> {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a Provenance>,
    results: &'a [TextResult],
}

/// The document of these results, and of what they were generated from, where that is said.
pub fn document<'a>(run: Option<&'a Provenance>, results: &'a [TextResult]) -> SweepDocument<'a> {
    SweepDocument { schema_version: 1, run, results }
}

/// What `--output` gives: a line that says what the texts were generated from, then a line a text.
pub fn lines(run: Option<&Provenance>, results: &[TextResult]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Header<'a> {
        schema_version: u32,
        run: &'a Provenance,
    }
    let mut bytes = Vec::new();
    if let Some(run) = run {
        serde_json::to_writer(&mut bytes, &Header { schema_version: 1, run })?;
        bytes.push(b'\n');
    }
    for result in results {
        serde_json::to_writer(&mut bytes, result)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// What every prompt of a command is answered with.
pub struct SweepSettings<'a> {
    pub model: &'a Model,
    pub encoder: &'a TextEncoder,
    pub vectors: &'a BTreeMap<usize, Vec<f32>>,
    pub magnitudes: &'a [f32],
    pub options: &'a GenerateOptions,
    /// Condition that says which prompts are steered; all are where it is none.
    pub when: Option<&'a When>,
    /// Texts that are generated at once.
    pub streams: usize,
    /// Looked at before each token.
    pub interrupt: &'a Interrupt,
}

impl SweepSettings<'_> {
    /// Generates the texts of a prompt at all magnitudes.
    pub fn generate(&self, prompt: &str, encoded: &EncodedPrompt) -> Result<PromptTexts> {
        let verdict = self.verdict(encoded)?;
        self.one(prompt, encoded, verdict, &mut |_| Ok(()))
    }

    /// Generates the texts of several prompts at all magnitudes, all at once; they are told in the order of the prompts.
    pub fn each(
        &self,
        prompts: &[String],
        encoded: &[EncodedPrompt],
        on_texts: &mut dyn FnMut(PromptTexts) -> Result<()>,
    ) -> Result<()> {
        let verdicts = encoded.iter().map(|prompt| self.verdict(prompt)).collect::<Result<Vec<Option<Verdict>>>>()?;
        let encoded: Vec<Prompt> =
            encoded.iter().zip(&verdicts).map(|(prompt, verdict)| Prompt::from(prompt).under(*verdict)).collect();
        let Self { model, vectors, magnitudes, options, streams, .. } = *self;
        generate_each(model, &encoded, vectors, magnitudes, options, streams, &mut |progress| match progress {
            SweepEvent::Token { .. } => self.interrupt.check(),
            SweepEvent::Answer { prompt, texts } => {
                check_finite(&texts)?;
                on_texts(self.texts(&prompts[prompt], verdicts[prompt], texts)?)
            }
        })
    }

    /// Generates like [`SweepSettings::generate`], for one magnitude, and shows each token as it comes.
    pub fn stream(&self, prompt: &str, encoded: &EncodedPrompt) -> Result<PromptTexts> {
        let show = |text: &str| terminal::result(text).map_err(|source| Error::write("standard output", source));
        show(&format!("{}\n", console::style(prompt).bold()))?;
        let verdict = self.verdict(encoded)?;
        verdict.map_or(Ok(()), |verdict| show(&format!("{}\n", in_words(verdict))))?;
        let mut stream = self.encoder.stream();
        let texts = self.one(prompt, encoded, verdict, &mut |token| stream.push(token)?.map_or(Ok(()), |text| show(&text)));
        show(&format!("{}\n\n", stream.finish()?))?;
        texts
    }

    /// What the condition says of a prompt, if there is one.
    fn verdict(&self, encoded: &EncodedPrompt) -> Result<Option<Verdict>> {
        self.interrupt.check()?;
        self.when.map(|when| when.ask(self.model, &encoded.ids)).transpose()
    }

    fn one(
        &self,
        prompt: &str,
        encoded: &EncodedPrompt,
        verdict: Option<Verdict>,
        on_token: &mut dyn FnMut(u32) -> Result<()>,
    ) -> Result<PromptTexts> {
        let mut each = |_, token| {
            self.interrupt.check()?;
            on_token(token)
        };
        let encoded = Prompt::from(encoded).under(verdict);
        let texts = generate(self.model, encoded, self.vectors, self.magnitudes, self.options, &mut each)?;
        self.texts(prompt, verdict, texts)
    }

    fn texts(&self, prompt: &str, when: Option<Verdict>, generations: Vec<Generation>) -> Result<PromptTexts> {
        Ok(PromptTexts { when, ..PromptTexts::new(prompt, self.options.operation, generations, self.encoder)? })
    }
}

/// Texts of one prompt at all magnitudes.
pub struct PromptTexts {
    prompt: String,
    operation: Operation,
    /// What `--when` said of the prompt.
    pub when: Option<Verdict>,
    generations: Vec<(Generation, String)>,
}

impl PromptTexts {
    /// What was generated for a prompt.
    pub fn new(prompt: &str, operation: Operation, generations: Vec<Generation>, encoder: &TextEncoder) -> Result<Self> {
        let decode = |generation: Generation| {
            let text = encoder.text_of(&generation.token_ids)?;
            Ok((generation, text))
        };
        let generations = generations.into_iter().map(decode).collect::<Result<_>>()?;
        Ok(Self { prompt: prompt.to_owned(), operation, when: None, generations })
    }

    /// Returns the texts as a page shows them.
    pub fn for_page(&self) -> Generations {
        let answer = |(generation, text): &(Generation, String)| {
            let (tokens, end) = (generation.token_ids.len(), end_of(generation));
            let left = if self.when.is_some_and(|verdict| !verdict.fired) { " · not steered" } else { "" };
            let note = format!("{tokens} tokens{end} · dose {}{left}", columns::dose(generation.dose));
            ShownAnswer { magnitude: Some(generation.magnitude.into()), text: text.clone(), note }
        };
        Generations {
            prompt: self.prompt.clone(),
            subject: String::new(),
            answers: self.generations.iter().map(answer).collect(),
        }
    }

    pub fn results(self) -> Vec<TextResult> {
        let result = |(generation, text): (Generation, String)| TextResult {
            prompt: self.prompt.clone(),
            magnitude: generation.magnitude,
            operation: self.operation,
            when: self.when,
            text,
            token_ids: generation.token_ids,
            finish_reason: generation.finish_reason,
            dose: generation.dose,
        };
        self.generations.into_iter().map(result).collect()
    }

    /// Magnitude and dose of each.
    pub fn doses(&self) -> Vec<(f32, f64)> {
        self.generations.iter().map(|(generation, _)| (generation.magnitude, generation.dose)).collect()
    }

    /// Warns of the magnitudes at which the model had no next token.
    pub fn warn(&self, is_f32: bool, log: Log) {
        let not_finite: Vec<String> = self
            .generations
            .iter()
            .filter(|(generation, _)| is_not_finite(generation.finish_reason))
            .map(|(generation, _)| short(generation.magnitude))
            .collect();
        if !not_finite.is_empty() {
            let magnitudes = not_finite.join(", ");
            let dtype = if is_f32 { "" } else { " or --dtype f32" };
            log.warn(format!(
                "at magnitude {magnitudes} the model's logits are not finite, which ends the text: use smaller magnitudes{dtype}"
            ));
        }
    }
}

/// What a condition says of a prompt, in a line.
pub fn in_words(Verdict { score, fired }: Verdict) -> String {
    format!("condition: score {score:.4}, {}", if fired { "steered" } else { "not steered" })
}

/// Whether a text ended because no token could be chosen.
fn is_not_finite(reason: FinishReason) -> bool {
    reason == FinishReason::NotFinite
}

/// How a text ended, where that is not its own end.
fn end_of(generation: &Generation) -> &'static str {
    match generation.finish_reason {
        FinishReason::Stop => "",
        FinishReason::Length => ", cut",
        FinishReason::NotFinite => ", ended: logits not finite",
    }
}
