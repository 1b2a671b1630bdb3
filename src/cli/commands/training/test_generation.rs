//! `--test-generation`: a short sweep with the vector that was just made, behind what the run says or in its JSON.

use bipo::Result;
use bipo::data::Message;
use bipo::model::Model;
use bipo::session::{Demand, Session};
use bipo::steering::vector::SteeringVector;
use bipo::text::tokens::EncodedPrompt;
use serde_json::json;

use super::TEST_PROMPT;
use super::outcome::RunResult;
use crate::args::TrainArgs;
use crate::commands::interrupt::Interrupt;
use crate::commands::sweep::{PromptTexts, SweepSettings, greedy};
use crate::terminal;

/// Magnitudes of the sweep.
const MAGNITUDES: [f32; 3] = [-2.0, 0.0, 2.0];

/// Number of tokens that are generated at each magnitude, at most.
const NEW_TOKENS: usize = 48;

/// Prints what a run says, and the sweep that `make` makes where it was asked for.
pub fn say(said: RunResult, args: &TrainArgs, make: impl FnOnce() -> anyhow::Result<PromptTexts>) -> anyhow::Result<()> {
    if !args.test_generation {
        return Ok(said.print()?);
    }
    match said {
        RunResult::Text(_) => {
            said.print()?;
            Ok(terminal::result(&make()?.to_text())?)
        }
        RunResult::Json(mut value) => {
            // The run is over, whatever becomes of the sweep: it is told of first.
            let (texts, ended) = match make() {
                Ok(texts) => (Some(texts.results()), Ok(())),
                Err(error) => (None, Err(error)),
            };
            value["test_generation"] = json!(texts);
            terminal::json(&value)?;
            ended
        }
    }
}

/// What a run takes of memory, with that of the sweep where it was asked for.
pub fn demanded(demand: Demand, args: &TrainArgs, opened: &Session) -> Result<Demand> {
    if !args.test_generation {
        return Ok(demand);
    }
    Ok(demand.and_generation(MAGNITUDES.len(), encoded(opened)?.ids.len(), NEW_TOKENS))
}

fn encoded(opened: &Session) -> Result<EncodedPrompt> {
    opened.encoder.encode_prompt(&[Message::new("user", TEST_PROMPT)])
}

/// The sweep of a vector.
pub fn generate(opened: &Session, model: &Model, vector: &SteeringVector, interrupt: &Interrupt) -> Result<PromptTexts> {
    let options = greedy(NEW_TOKENS, opened, vector.metadata.positions);
    let magnitudes = &MAGNITUDES;
    let (encoder, vectors, streams) = (&opened.encoder, &vector.layers, MAGNITUDES.len());
    let sweep = SweepSettings { model, encoder, vectors, magnitudes, options: &options, when: None, streams, interrupt };
    sweep.generate(TEST_PROMPT, &encoded(opened)?)
}
