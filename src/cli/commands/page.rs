//! What the pages of all commands have in common: the command that makes them again, the settings of model and vectors.

use std::collections::BTreeSet;
use std::path::Path;

use bipo::model::split::StageBlocks;
use bipo::report::card;
use bipo::report::shell;
use bipo::session::Session;
use bipo::steering::vector::Summand;
use candle_core::DeviceLocation;

use crate::args::ModelArgs;

/// How this program was called, as a shell reads it.
pub fn command_line() -> String {
    shell::command_line("bipo", std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
}

/// The vectors, for a title: each by what it was trained on, else by its file, and their layers.
pub fn subject(inputs: &[Summand]) -> String {
    let trained_on =
        |input: &Summand| Some(input.vector.metadata.training.as_ref()?.get("dataset")?.get("name")?.as_str()?.to_owned());
    let stem = |path: &str| Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = |input: &Summand| stem(&trained_on(input).unwrap_or_else(|| input.file.clone()));
    let names: Vec<String> = inputs.iter().map(name).collect();
    let layers: BTreeSet<usize> = inputs.iter().flat_map(|input| input.vector.layers.keys().copied()).collect();
    let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
    let plural = if layers.len() == 1 { "" } else { "s" };
    format!("{} at layer{plural} {}", names.join(" + "), layers.join(", "))
}

/// Settings of a page that say which model computes, and how.
pub fn model_settings(args: &ModelArgs, opened: &Session) -> Vec<(String, String)> {
    let dtype = opened.placement.dtype_name();
    let name = |stage: &StageBlocks| match stage.device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    let device = opened.placement.split.stages().iter().map(name).collect::<Vec<_>>().join(", ");
    let mut settings =
        vec![("model".to_owned(), opened.files.name.clone()), ("device, dtype".to_owned(), format!("{device}, {dtype}"))];
    settings.extend(args.chat.system.as_ref().map(|system| ("system prompt".to_owned(), system.clone())));
    if args.chat.template != "auto" {
        settings.push(("template".to_owned(), args.chat.template.clone()));
    }
    if args.chat.system_in_user {
        settings.push(("system prompt goes".to_owned(), "into the first user turn".to_owned()));
    }
    settings
        .extend(args.chat.template_var.iter().map(|(name, value)| (format!("template variable {name}"), value.to_string())));
    settings
}

/// Each vector: its file, where it is added, how it was trained.
pub fn vector_settings(inputs: &[Summand]) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for input in inputs {
        let scale = if input.weight == 1.0 { String::new() } else { format!(" times {}", input.weight) };
        let layers: Vec<String> = input.vector.layers.keys().map(usize::to_string).collect();
        let (layers, norm) = (layers.join(", "), input.vector.norm());
        settings.push(("vector".to_owned(), format!("{}{scale}: layer {layers}, norm {norm:.3}", input.file)));
        // Its beginning tells files apart; the whole is in the results.
        settings.push(("its SHA-256".to_owned(), format!("{}…", input.sha256.chars().take(12).collect::<String>())));
        if let Some(training) = &input.vector.metadata.training {
            let data = training.get("dataset").map(card::dataset).unwrap_or_default();
            let parts = [data, card::outcome_line(training)];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            settings.push(("trained on".to_owned(), parts.join("; ")));
        }
    }
    settings
}
