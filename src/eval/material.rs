//! What is measured, and what it is measured on: vectors and instructions, each with the pairs, questions, text and prompts as the
//! model sees them under it. Nothing here needs a model.

use sha2::{Digest, Sha256};

use super::choice;
use crate::data::{Pair, QuestionSet};
use crate::steering::positions::Positions;
use crate::steering::reach::Reach;
use crate::steering::vector::SteeringVector;
use crate::text::tokens::{EncodedPair, EncodedPrompt, TextEncoder, fingerprint};
use crate::{Error, Result};

/// What is measured on, as text. Whatever is empty is not measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct EvalMaterial<'a> {
    /// Held-out pairs.
    pub pairs: &'a [Pair],
    /// Multiple-choice questions.
    pub questions: &'a [QuestionSet],
    /// A neutral text.
    pub text: &'a str,
    /// What the tokenizer puts in front of a text by itself.
    pub bos: Option<u32>,
    /// What is answered, to see whether answers repeat themselves.
    pub prompts: &'a [String],
    /// The number that answers each of `prompts`, where that is known; may be empty where none is.
    pub answers: &'a [Option<f64>],
    /// Longest pair in tokens.
    pub max_length: usize,
    /// Longest question with its answer in tokens: the model's context.
    pub context: usize,
}

/// The material as token ids, for one subject.
#[derive(Debug, Clone)]
pub struct EncodedMaterial {
    pub(super) pairs: Vec<EncodedPair>,
    /// Pairs that were truncated.
    pub truncated: usize,
    pub(super) answers: Vec<Vec<EncodedPair>>,
    pub(super) text: Vec<u32>,
    pub(super) prompts: Vec<EncodedPrompt>,
    /// Prompts that need no steering, on which it is measured how often a condition fires and what that costs; none at first.
    pub rest: Vec<EncodedPrompt>,
}

impl EvalMaterial<'_> {
    /// Encodes everything with the spans and the system prompt that the encoder has; the prompts are encoded by it already.
    ///
    /// # Errors
    /// A prompt cannot be rendered or does not fit, or the text is too short.
    pub fn encode(&self, encoder: &TextEncoder, prompts: Vec<EncodedPrompt>) -> Result<EncodedMaterial> {
        let mut truncated = 0;
        let mut encode = |pair| -> Result<EncodedPair> {
            let (pair, is_truncated) = encoder.encode_pair(pair, self.max_length)?;
            truncated += usize::from(is_truncated);
            Ok(pair)
        };
        let pairs = self.pairs.iter().map(&mut encode).collect::<Result<_>>()?;
        let text = if self.text.is_empty() { Vec::new() } else { neutral_ids(encoder, self.text)? };
        let answers = self.questions.iter().map(|set| choice::encode(encoder, set, self.context)).collect::<Result<_>>()?;
        Ok(EncodedMaterial { pairs, truncated, answers, text, prompts, rest: Vec::new() })
    }
}

/// Ids of a neutral text.
///
/// # Errors
/// The text has so few tokens that none is predicted.
pub fn neutral_ids(encoder: &TextEncoder, text: &str) -> Result<Vec<u32>> {
    let ids = encoder.encode_text(text)?;
    match ids.len() {
        0 | 1 => Err(Error::Argument("the neutral text has less than two tokens: nothing in it is predicted".into())),
        _ => Ok(ids),
    }
}

impl EncodedMaterial {
    /// Held-out pairs, encoded.
    pub fn pairs(&self) -> &[EncodedPair] {
        &self.pairs
    }

    /// Tokens of the longest prompt.
    pub fn longest_prompt(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0)
    }

    /// What a vector at `positions` reaches of the pairs, if there are any, and of each of the question files that were encoded.
    pub fn reach(&self, positions: Positions, questions: &[QuestionSet]) -> (Option<Reach>, Vec<Reach>) {
        let of_pairs = (!self.pairs.is_empty()).then(|| Reach::of(positions, &self.pairs));
        let of_set = |(set, answers): (&QuestionSet, &Vec<EncodedPair>)| {
            let mut reach = Reach::default();
            choice::by_question(set, answers).for_each(|question| reach.count(positions, question));
            reach
        };
        (of_pairs, questions.iter().zip(&self.answers).map(of_set).collect())
    }
}

/// What is done to the model.
#[derive(Debug, Clone)]
pub enum Treatment {
    /// A vector is added, at these magnitudes.
    Vector(Box<SteeringVector>, Vec<f32>),
    /// The model is told what to do: the material was encoded with a system prompt, whose ids as plain text are given.
    System(Vec<u32>),
}

/// One thing that is measured: a vector, or an alternative to it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Name of the subject in the report.
    pub name: String,
    /// What is done to the model.
    pub treatment: Treatment,
    /// The material, encoded for this treatment.
    pub encoded: EncodedMaterial,
}

impl Subject {
    /// Whether the neutral text, every token of which is steered, says what the subject costs: not that of a vector that is added at
    /// some tokens alone.
    pub fn is_everywhere(&self) -> bool {
        match &self.treatment {
            Treatment::Vector(vector, _) => (vector.metadata.positions, vector.metadata.spans) == (Positions::All, None),
            Treatment::System(_) => true,
        }
    }

    /// SHA-256 of all that is measured on as token ids, and of the vector.
    pub fn fingerprint(&self) -> String {
        let EncodedMaterial { pairs, answers, text, prompts, rest, .. } = &self.encoded;
        let mut hash = Sha256::new();
        std::iter::once(pairs).chain(answers).for_each(|pairs| hash.update(fingerprint(pairs)));
        for ids in prompts.iter().chain(rest).map(|prompt| &prompt.ids).chain([text]) {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        if let Treatment::Vector(vector, _) = &self.treatment {
            vector.layers.values().flatten().for_each(|number| hash.update(number.to_le_bytes()));
        }
        format!("{:x}", hash.finalize())
    }
}

/// Number of texts that an evaluation generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextCount {
    /// Number of texts of one prompt, which are generated together, for the subject that has most.
    pub a_prompt: usize,
    /// Number of texts of all prompts for that subject.
    pub all: usize,
}

/// Counts the texts that an evaluation of these subjects generates.
pub fn texts(subjects: &[Subject]) -> TextCount {
    let branches = |subject: &Subject| match &subject.treatment {
        Treatment::Vector(_, magnitudes) => magnitudes.len(),
        Treatment::System(_) => 1,
    };
    let a_prompt = subjects.iter().map(branches).max().unwrap_or(0);
    let prompts = |subject: &Subject| subject.encoded.prompts.len().max(subject.encoded.rest.len());
    TextCount { a_prompt, all: a_prompt * subjects.first().map_or(0, prompts) }
}
