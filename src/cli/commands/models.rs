//! `bipo models`: the models that bipo knows by a short name and the families that it refuses, as a table or as JSON. Nothing is
//! loaded or downloaded.

use bipo::hub::presets::{self, PRESETS, Preset, Status};
use serde::Serialize;

use super::next;
use crate::args::{DEFAULT_MODEL, ReportArgs};
use crate::terminal::{self, Log};

pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let report = ModelsReport::new();
    match args.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text(args.verbose))?,
    }
    let command = next::with("bipo train", "--model", DEFAULT_MODEL);
    next::tell(args.json, "learn a vector for one", &command, Log::new(args.verbose, args.quiet));
    Ok(())
}

#[derive(Debug, Serialize)]
struct ModelsReport {
    schema_version: u32,
    models: Vec<ModelRow>,
    refused: Vec<RefusedFamilies>,
}

/// A model with a short name.
#[derive(Debug, Serialize)]
struct ModelRow {
    alias: &'static str,
    repo: &'static str,
    model_type: &'static str,
    /// Number of parameters in millions.
    parameters_m: u32,
    num_hidden_layers: usize,
    layer: usize,
    layer_from: &'static str,
    lr: f64,
    lr_from: &'static str,
    gate: Option<&'static str>,
    /// `run`, `wired` or `refused`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'static str>,
}

/// Families that are refused for the same reason.
#[derive(Debug, Serialize)]
struct RefusedFamilies {
    model_types: &'static [&'static str],
    reason: &'static str,
}

impl ModelsReport {
    fn new() -> Self {
        let refused = presets::refused_families().map(|(model_types, reason)| RefusedFamilies { model_types, reason });
        Self { schema_version: 1, models: PRESETS.iter().map(ModelRow::new).collect(), refused: refused.collect() }
    }

    fn to_text(&self, with_origins: bool) -> String {
        let names = ["alias", "repository", "size", "layer", "gate", "status"].map(str::to_owned);
        let lines: Vec<[String; 6]> = std::iter::once(names).chain(self.models.iter().map(ModelRow::cells)).collect();
        let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4].map(width);
        let mut text = String::new();
        for [alias, repo, size, layer, gate, status] in &lines {
            let [a, r, s, l, g] = widths;
            text += &format!("{alias:a$}  {repo:r$}  {size:>s$}  {layer:>l$}  {gate:g$}  {status}\n");
        }
        text +=
            "\nrun: the project's tests run it with its real weights; wired: its family runs with random weights in them.\n";
        text += "gate: what the hub wants accepted, with an account, before it gives the files.\n";
        if with_origins {
            text += "\nwhere layer and learning rate come from\n";
            for ModelRow { alias, layer, layer_from, lr, lr_from, .. } in &self.models {
                text += &format!("{alias:0$}  layer {layer}: {layer_from}; lr {lr}: {lr_from}\n", widths[0]);
            }
        }
        text += "\nrefused\n";
        for RefusedFamilies { model_types, reason } in &self.refused {
            text += &format!("{}: {reason}\n", model_types.join(", "));
        }
        text
    }
}

impl ModelRow {
    fn new(preset: &'static Preset) -> Self {
        let (status, reason) = match preset.status() {
            Status::Run => ("run", None),
            Status::Wired => ("wired", None),
            Status::Refused(reason) => ("refused", Some(reason)),
        };
        Self {
            alias: preset.alias,
            repo: preset.repo,
            model_type: preset.model_type,
            parameters_m: preset.parameters_m,
            num_hidden_layers: preset.num_hidden_layers,
            layer: preset.layer,
            layer_from: preset.layer_from,
            lr: preset.lr,
            lr_from: preset.lr_from,
            gate: preset.gate,
            status,
            reason,
            script: preset.fetched.map(|(_, script)| script),
        }
    }

    fn cells(&self) -> [String; 6] {
        let size = match self.parameters_m {
            millions @ ..1000 => format!("{millions}M"),
            millions => format!("{:.1}B", f64::from(millions) / 1000.0),
        };
        let status = match self.reason {
            Some(reason) => format!("{}: {reason}", self.status),
            None => self.status.to_owned(),
        };
        let layer = format!("{} of {}", self.layer, self.num_hidden_layers);
        [self.alias.to_owned(), self.repo.to_owned(), size, layer, self.gate.unwrap_or("none").to_owned(), status]
    }
}
