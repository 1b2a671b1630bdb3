//! The settings of a run as its files have them: what `config.json` and the vector's metadata say, and what a checkpoint is
//! compared by. Names, never paths of this machine.

use std::path::Path;

use bipo::Result;
use bipo::data::{Dataset, Ranking};
use bipo::hub::presets;
use bipo::steering::layers::Layers;
use bipo::steering::vector::{Metadata, SteeringVector};
use bipo::text::spans::Spans;
use bipo::text::tokens::{EncodedPair, fingerprint};
use bipo::train::TrainConfig;
use serde_json::{Value, json};

use crate::args::{RunArgs, TrainArgs};
use crate::commands::session;
use bipo::session::Session;

/// The layers that are named, else the model's preset.
pub fn named_layers(args: &TrainArgs, opened: &Session) -> Result<Layers> {
    match &args.layers {
        Some(list) => list.of(opened.config.num_hidden_layers),
        None => Ok(args.layer.unwrap_or_else(|| default_layer(opened)).into()),
    }
}

/// The layer that is steered where none is named.
pub fn default_layer(opened: &Session) -> usize {
    opened.preset.map_or_else(|| presets::default_layer(opened.config.num_hidden_layers), |preset| preset.layer)
}

/// Every setting that the result depends on: names, not paths.
pub fn settings(args: &RunArgs, opened: &Session, config: &TrainConfig, dataset: &Dataset, heldout: Option<&Dataset>) -> Value {
    let mut settings = json!(config);
    settings["dataset"] = describe(dataset);
    settings["eval_dataset"] = heldout.map_or(Value::Null, describe);
    settings["limit"] = json!(args.rows.limit);
    // Only where they say something: the metadata of other runs stays as it was.
    if args.rows.rank != Ranking::default() {
        settings["rank"] = json!(args.rows.rank.to_string());
    }
    if let Some(columns) = &args.rows.columns {
        settings["columns"] = json!(columns.to_string());
    }
    settings["max_length"] = json!(args.encoding.max_length);
    settings["model"] = json!(opened.files.name);
    settings["dtype"] = json!(opened.placement.dtype_name());
    settings["device"] = json!(opened.placement.device_kind());
    settings["system"] = json!(args.model.chat.system);
    settings["template"] = json!(without_folders(&args.model.chat.template));
    session::add_template_settings(&mut settings, &args.model);
    settings["response_prefix"] = json!(args.encoding.response_prefix);
    settings["spans"] = json!(args.spans);
    settings
}

/// A template that is a file is known by its name: the folders are this machine's.
pub fn without_folders(template: &str) -> String {
    Path::new(template).file_name().map_or_else(|| template.to_owned(), |name| name.to_string_lossy().into_owned())
}

pub fn describe(set: &Dataset) -> Value {
    json!({"name": set.name, "sha256": set.sha256, "pairs": set.pairs.len(), "skipped_rows": set.skipped.len()})
}

/// The settings, and all else that the bytes of a result depend on: what a checkpoint is compared by.
pub fn identity(settings: &Value, opened: &Session, pairs: &[EncodedPair], heldout: Option<&[EncodedPair]>) -> Value {
    let mut identity = settings.clone();
    identity["weights"] = json!(opened.placement.weights_name());
    identity["model_type"] = json!(opened.config.model_type);
    identity["hidden_size"] = json!(opened.config.hidden_size);
    identity["num_hidden_layers"] = json!(opened.config.num_hidden_layers);
    identity["pairs_as_tokens"] = json!(fingerprint(pairs));
    identity["eval_pairs_as_tokens"] = json!(heldout.map(fingerprint));
    identity["bipo_version"] = json!(env!("CARGO_PKG_VERSION"));
    identity
}

pub fn vector(
    opened: &Session,
    config: &TrainConfig,
    spans: Option<Spans>,
    v: &[f32],
    settings: &Value,
    results: Value,
) -> SteeringVector {
    let mut training = settings.clone();
    if let (Value::Object(training), Value::Object(results)) = (&mut training, results) {
        training.extend(results);
    }
    SteeringVector {
        layers: config.layers.split(v),
        metadata: Metadata {
            base_model: Some(opened.files.name.clone()),
            model_type: Some(opened.config.model_type.clone()),
            num_hidden_layers: Some(opened.config.num_hidden_layers),
            positions: config.positions,
            spans,
            training: Some(training),
            ..Metadata::default()
        },
    }
}
