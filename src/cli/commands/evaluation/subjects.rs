//! What an evaluation measures: the vector and its baselines, each with the material encoded for it.

use bipo::data::Message;
use bipo::eval::{EncodedMaterial, EvalMaterial, Subject, Treatment, baseline};
use bipo::steering::magnitudes::UsualMagnitudes;
use bipo::steering::positions::Positions;
use bipo::steering::vector::SteeringVector;
use bipo::text::spans::Spans;
use bipo::text::tokens::EncodedPrompt;
use bipo::{Error, Result};

use super::inputs::Inputs;
use crate::args::EvalArgs;
use crate::commands::prompts::{UserPrompt, check_questions};
use crate::commands::run::longer;
use crate::commands::session::{check_reach, warn_of_dropped_system, warn_of_undecided};
use crate::commands::vectors::{check_vector, read_vector};
use crate::terminal::Log;
use bipo::session::Session;

/// Name of the vector among the subjects.
pub const VECTOR: &str = "vector";

/// An alternative to the vector, before it is encoded.
pub enum Baseline {
    Vector(Box<SteeringVector>),
    System(String),
}

pub fn baselines(args: &EvalArgs, vector: &SteeringVector, log: Log) -> Result<Vec<(String, Baseline)>> {
    if args.baseline_system.is_some() && !args.baseline.iter().any(|name| name == "prompt") {
        return Err(Error::Argument("--baseline-system is for --baseline prompt: give both".into()));
    }
    let read = |name: &String| {
        let baseline = match name.as_str() {
            "random" => Baseline::Vector(Box::new(baseline::random(vector, args.seed))),
            "prompt" => {
                Baseline::System(args.baseline_system.clone().filter(|text| !text.trim().is_empty()).ok_or_else(|| {
                    Error::Argument("--baseline prompt needs what the model is told: give --baseline-system TEXT".into())
                })?)
            }
            file => {
                let other = read_vector(&[file.to_owned()], args.steering.source.layer, args.steering.source.said(), log);
                let other = other.map_err(|error| match error {
                    Error::Read { .. } => {
                        Error::Argument(format!("{error}; expected --baseline random, prompt or a vector file"))
                    }
                    error => error,
                })?;
                Baseline::Vector(Box::new(baseline::at_norm(other, vector.norm())?))
            }
        };
        Ok((name.clone(), baseline))
    };
    args.baseline.iter().map(read).collect()
}

/// The vector and its baselines, each with the material encoded for it.
pub fn subjects(
    args: &EvalArgs,
    vector: &SteeringVector,
    baselines: &[(String, Baseline)],
    (material, inputs): (&EvalMaterial, &Inputs),
    opened: &mut Session,
    log: Log,
) -> Result<Vec<Subject>> {
    let asked = inputs.asked.as_slice();
    let magnitudes = match args.at {
        // Each vector's own are found with the model; so many.
        Some(_) => vec![-1.0, 0.0, 1.0],
        None => args.steering.magnitudes_of(&vector.metadata, UsualMagnitudes::Measured)?,
    };
    // At magnitude 0 every vector is the same model.
    let nonzero: Vec<f32> = magnitudes.iter().copied().filter(|m| *m != 0.0).collect();
    let mut encoded = encode(material, asked, places(vector), opened)?;
    encoded.rest = encode_rest(inputs, vector.metadata.positions, opened)?;
    if encoded.truncated > 0 {
        let (length, remedy) = (material.max_length, longer(material.max_length, material.context));
        log.warn(format!("{} pairs truncated to {length} tokens: {remedy}", encoded.truncated));
    }
    let mut subjects =
        vec![Subject { name: VECTOR.into(), treatment: Treatment::Vector(Box::new(vector.clone()), magnitudes), encoded }];
    for (name, baseline) in baselines {
        let (encoded, treatment) = match baseline {
            Baseline::Vector(other) => {
                let fits = check_vector(other, opened, log);
                fits.map_err(|error| Error::Argument(format!("--baseline {name}: {error}")))?;
                let mut encoded = encode(material, asked, places(other), opened)?;
                encoded.rest = encode_rest(inputs, other.metadata.positions, opened)?;
                (encoded, Treatment::Vector(other.clone(), nonzero.clone()))
            }
            Baseline::System(text) => prompted(text, (material, asked), opened, log)?,
        };
        subjects.push(Subject { name: name.clone(), treatment, encoded });
    }
    Ok(subjects)
}

/// The prompts that need no steering, as a vector sees them whose places the encoder was told last.
fn encode_rest(inputs: &Inputs, positions: Positions, opened: &Session) -> Result<Vec<EncodedPrompt>> {
    let Some(set) = &inputs.rest else { return Ok(Vec::new()) };
    let question = |messages: &Vec<Message>| UserPrompt { text: String::new(), messages: messages.clone(), answer: None };
    let questions: Vec<UserPrompt> = set.prompts.iter().map(question).collect();
    let encoded = check_questions(opened, &questions, positions);
    encoded.map_err(|error| Error::Argument(format!("--against {}: {error}", set.name)))
}

/// Says of which vectors the neutral text tells nothing, where it is read.
pub fn note_of_text(subjects: &[Subject], material: &EvalMaterial, has_condition: bool, log: Log) {
    let limited: Vec<&str> =
        subjects.iter().filter(|subject| !subject.is_everywhere()).map(|subject| subject.name.as_str()).collect();
    if !limited.is_empty() && !material.text.is_empty() {
        log.info(format!(
            "note: perplexity and KL of the neutral text are not measured for {}{}: every token of that text is steered, and these vectors \
             are added at some tokens alone",
            limited.join(", "),
            if has_condition { ", unless the condition leaves the text alone" } else { "" }
        ));
    }
}

/// Says which answers the vector, the first subject, cannot change the order of. Refuses it and its baselines where they have no
/// effect on a set.
pub fn check_reaches(subjects: &[Subject], inputs: &Inputs, log: Log) -> Result<()> {
    for (index, subject) in subjects.iter().enumerate() {
        let Treatment::Vector(vector, _) = &subject.treatment else { continue };
        let (pairs, questions) = subject.encoded.reach(vector.metadata.positions, &inputs.questions);
        let pairs = inputs.dataset.iter().map(|set| (&set.name, "pairs")).zip(pairs);
        let questions = inputs.questions.iter().map(|set| (&set.name, "questions")).zip(questions);
        for ((name, cases), reach) in pairs.chain(questions) {
            let checked = check_reach(name, reach, vector.metadata.spans);
            if index == 0 {
                checked?;
                warn_of_undecided(name, cases, reach, log);
            } else {
                checked.map_err(|error| Error::Argument(format!("--baseline {}: {error}", subject.name)))?;
            }
        }
    }
    Ok(())
}

/// The model that is told `text` in place of its own system prompt, with the material encoded for it.
pub fn prompted(
    text: &str,
    (material, asked): (&EvalMaterial, &[UserPrompt]),
    opened: &mut Session,
    log: Log,
) -> Result<(EncodedMaterial, Treatment)> {
    let own = opened.encoder.set_system(Some(text.to_owned()));
    warn_of_dropped_system(opened, log)?;
    let encoded = encode(material, asked, (Positions::All, None), opened)?;
    opened.encoder.set_system(own);
    Ok((encoded, Treatment::System(opened.encoder.encode_text(&format!("{text}\n\n"))?)))
}

/// Returns the positions and spans at which a vector is added.
pub fn places(vector: &SteeringVector) -> (Positions, Option<Spans>) {
    (vector.metadata.positions, vector.metadata.spans)
}

/// The material as a vector at these places sees it.
pub fn encode(
    material: &EvalMaterial,
    asked: &[UserPrompt],
    (positions, spans): (Positions, Option<Spans>),
    opened: &mut Session,
) -> Result<EncodedMaterial> {
    opened.encoder.tell_places(spans, positions.ends());
    let prompts = check_questions(opened, asked, positions)?;
    material.encode(&opened.encoder, prompts)
}
