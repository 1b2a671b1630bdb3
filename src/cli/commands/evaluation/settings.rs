//! Every setting that the numbers of an evaluation depend on, for its JSON.

use std::path::Path;

use bipo::data::QuestionSet;
use bipo::eval::{Settings, Subject, Treatment};
use bipo::steering::Operation;
use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};

use super::inputs::Inputs;
use crate::args::EvalArgs;
use crate::commands::provenance;
use crate::commands::session;
use crate::commands::training::settings::{describe, without_folders};
use bipo::session::Session;

/// β where neither the user nor the vector says it.
const DEFAULT_BETA: f64 = 0.1;

/// What is given, else what the vector was trained with.
pub fn vector_beta(given: Option<f64>, vector: &SteeringVector) -> f64 {
    let trained = || vector.metadata.training.as_ref()?.get("beta")?.as_f64().filter(|beta| *beta > 0.0);
    given.or_else(trained).unwrap_or(DEFAULT_BETA)
}

/// Every setting that the numbers depend on.
pub fn described(args: &EvalArgs, opened: &Session, inputs: &Inputs, subjects: &[Subject], settings: &Settings) -> Value {
    let subject = |subject: &Subject| match &subject.treatment {
        Treatment::Vector(vector, magnitudes) => {
            let mut described = json!({
                "name": subject.name, "norm": vector.norm(), "layers": vector.layers.keys().collect::<Vec<_>>(),
                "positions": vector.metadata.positions, "spans": vector.metadata.spans, "magnitudes": magnitudes,
            });
            if !vector.metadata.operation.is_addition() {
                described["operation"] = json!(vector.metadata.operation);
            }
            described
        }
        Treatment::System(_) => json!({"name": subject.name, "system": args.baseline_system}),
    };
    let questions = |set: &QuestionSet| json!({"name": set.name, "sha256": set.sha256, "prompts": set.questions.len()});
    let text = match (inputs.text.is_empty(), &args.text) {
        (true, _) => Value::Null,
        (false, None) => json!("bundled"),
        (false, Some(path)) => json!(file_name(path)),
    };
    let mut described = json!({
        "model": opened.files.name,
        "vector": args.steering.source.vector,
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
        "magnitudes": magnitudes(subjects),
        "dataset": inputs.dataset.as_ref().map(describe),
        "questions": inputs.questions.iter().map(questions).collect::<Vec<_>>(),
        "text": text,
        "prompts": inputs.prompts,
        "max_new_tokens": args.max_new_tokens,
        "limit": args.rows.limit,
        "beta": settings.beta,
        "bootstrap": settings.bootstrap,
        "dtype": opened.placement.dtype_name(),
        "device": opened.placement.device_kind(),
        "system": args.model.chat.system,
        "template": without_folders(&args.model.chat.template),
        "response_prefix": args.encoding.response_prefix,
        "max_length": args.encoding.max_length,
    });
    session::add_template_settings(&mut described, &args.model);
    if let Some(budget) = args.at {
        described["at"] = json!(budget.to_string());
    }
    if let (Some(file), Some(when)) = (&args.steering.when, &settings.when) {
        described["when"] = provenance::described(file, when);
    }
    if let Some(set) = &inputs.rest {
        described["against"] = json!({"name": set.name, "sha256": set.sha256, "prompts": set.prompts.len()});
    }
    if let Some(operation) = operation(subjects) {
        described["operation"] = json!(operation);
    }
    described
}

/// How the vector, the first subject, is used where it is not added.
pub fn operation(subjects: &[Subject]) -> Option<Operation> {
    let of = |subject: &Subject| match &subject.treatment {
        Treatment::Vector(vector, _) => Some(vector.metadata.operation),
        Treatment::System(_) => None,
    };
    subjects.first().and_then(of).filter(|operation| !operation.is_addition())
}

/// The magnitudes of the vector, which is the first subject.
pub fn magnitudes(subjects: &[Subject]) -> &[f32] {
    match subjects.first().map(|subject| &subject.treatment) {
        Some(Treatment::Vector(_, magnitudes)) => magnitudes,
        _ => &[],
    }
}

/// The name of a file: its folders are this machine's.
pub fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}
