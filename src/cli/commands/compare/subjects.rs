//! What a comparison measures: the vectors, a random direction and the instruction, each with the material encoded for it and what it
//! took.

use bipo::Result;
use bipo::eval::{Candidate, EncodedMaterial, EvalMaterial, Subject, Treatment, baseline};
use bipo::session::Session;

use super::vectors::{Made, Plan};
use crate::commands::evaluation::subjects::{encode, places, prompted};
use crate::commands::prompts::UserPrompt;
use crate::terminal::Log;

/// Each with its candidate, in the same order; the vectors come first, with magnitudes yet to be found. `everywhere` is the material
/// for a vector at all tokens. There is at least one vector.
pub fn subjects(
    plan: &Plan,
    mut made: Vec<Made>,
    (material, asked, everywhere): (&EvalMaterial, &[UserPrompt], &EncodedMaterial),
    (opened, seed): (&mut Session, u64),
    log: Log,
) -> Result<Vec<(Subject, Candidate)>> {
    if let Some(first) = made.first().filter(|_| plan.random) {
        made.push(Made::of_random(baseline::random(&first.vector, seed)));
    }
    let mut subjects = Vec::new();
    for made in made {
        let candidate = made.candidate();
        let encoded = match made.vector.metadata.positions.ends() {
            None => everywhere.clone(),
            Some(_) => encode(material, asked, places(&made.vector), opened)?,
        };
        let treatment = Treatment::Vector(Box::new(made.vector), Vec::new());
        subjects.push((Subject { name: made.name, treatment, encoded }, candidate));
    }
    if let Some(text) = &plan.system {
        let (encoded, treatment) = prompted(text, (material, asked), opened, log)?;
        let candidate = Candidate { name: "prompt".into(), positions: None, norm: None, learned: None };
        subjects.push((Subject { name: "prompt".into(), treatment, encoded }, candidate));
    }
    Ok(subjects)
}
