//! The vector that steers from now on, or none: read, found to fit the model, and ready for requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bipo::Result;
use bipo::session::Session;
use bipo::steering::magnitudes::signed;
use bipo::steering::positions::Positions;
use bipo::steering::vector::SteeringVector;
use bipo::steering::{Operation, Steering};

use crate::args::VectorArgs;
use crate::commands::prompts::{UserPrompt, check_questions};
use crate::commands::vectors::{check_vector, last_run, read_vector};
use crate::terminal::Log;

/// The vectors that steer a conversation.
pub struct Chosen {
    /// The vectors as the user names them, FILE[:SCALE] each; none of the untouched model.
    pub names: Vec<String>,
    /// Sum of the vectors; none of the untouched model.
    pub vector: Option<SteeringVector>,
    pub steering: Arc<Steering>,
}

/// Vectors with their sum, before the model is at hand.
pub type NamedVectors = (Vec<String>, Option<SteeringVector>);

/// What the command line names, else the last run's vector, else none.
pub fn first(args: &VectorArgs, log: Log) -> Result<NamedVectors> {
    match args.vector.as_slice() {
        [] if last_run().exists() => read(vec![last_run().display().to_string()], args, log),
        [] => Ok((Vec::new(), None)),
        named => read(named.to_vec(), args, log),
    }
}

/// The sum of vectors, used as the command line says, else as the files say.
pub fn read(names: Vec<String>, args: &VectorArgs, log: Log) -> Result<NamedVectors> {
    let vector = read_vector(&names, args.layer, args.said(), log)?;
    Ok((names, Some(vector)))
}

impl Chosen {
    /// # Errors
    /// The vector does not fit the model.
    pub fn new((names, vector): NamedVectors, session: &Session, log: Log) -> Result<Self> {
        vector.iter().try_for_each(|vector| check_vector(vector, session, log))?;
        let none = BTreeMap::new();
        let layers = vector.as_ref().map_or(&none, |vector| &vector.layers);
        let operation = vector.as_ref().map_or(Operation::Add, |vector| vector.metadata.operation);
        let steering = Arc::new(Steering::by(operation, layers, session.placement.device())?);
        Ok(Self { names, vector, steering })
    }

    /// Has prompts encoded with the tokens marked that it is added at.
    ///
    /// # Errors
    /// There is no token that it would be added at.
    pub fn use_in(&self, session: &mut Session) -> Result<()> {
        let metadata = self.vector.as_ref().map(|vector| &vector.metadata);
        let spans = metadata.and_then(|metadata| metadata.spans);
        session.encoder.tell_places(spans, self.positions().ends());
        check_questions(session, &[UserPrompt::new("Hi")], self.positions()).map(drop)
    }

    pub fn positions(&self) -> Positions {
        self.vector.as_ref().map_or(Positions::All, |vector| vector.metadata.positions)
    }

    pub fn layers(&self) -> Vec<usize> {
        self.steering.vectors().map(|(layer, _)| layer).collect()
    }

    /// Describes what steers in words, with the magnitude that it is used at.
    pub fn describe(&self, magnitude: f32) -> String {
        let Some(SteeringVector { metadata, .. }) = &self.vector else {
            return "no vector: this is the untouched model (/vector FILE steers it)".to_owned();
        };
        let layers: Vec<String> = self.layers().iter().map(usize::to_string).collect();
        let spans = metadata.spans.map_or(String::new(), |spans| format!(", spans {spans}"));
        let (names, layers, positions) = (self.names.join(" + "), layers.join(", "), metadata.positions);
        let magnitude = signed(magnitude);
        let operation = match metadata.operation {
            operation if operation.is_addition() => String::new(),
            operation => format!(", operation {operation}"),
        };
        format!("{names} at magnitude {magnitude}: layer {layers}, positions {positions}{spans}{operation}")
    }
}
