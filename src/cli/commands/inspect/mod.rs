//! `bipo inspect`: what a vector file holds, how it was made, how files relate, and what a vector means to a model.
//!
//! It changes no file. Begin with [`run`]; `report` has what is said, `text` how it is laid out, and `files` and `measure` find
//! it out.

mod cosines;
mod files;
mod measure;
mod report;
mod text;

use std::path::Path;

use bipo::steering::vector::SteeringVector;
use bipo::{Error, Result};

use self::cosines::cosines;
use self::files::{InspectedFile, is_same_model};
use self::measure::MeasuredModel;
use self::report::Inspection;
use super::interrupt::Interrupt;
use super::next::{self, MODEL_PATH};
use super::training::TEST_PROMPT;
use crate::args::{DEFAULT_MODEL, InspectArgs, OF_MODEL, refuse_idle};
use crate::terminal::{self, Log};

pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    if args.model.model.is_empty() {
        refuse_idle(
            &[&OF_MODEL[..], &["top"]].concat(),
            "no effect without --model, on which residuals and tokens are measured",
        )?;
    }
    let files: Vec<InspectedFile> =
        args.files.iter().map(|path| InspectedFile::read(path, args.layer)).collect::<Result<_>>()?;
    let read: Vec<(&Path, &SteeringVector)> = files.iter().map(|file| (file.path.as_path(), &file.vector)).collect();
    let interrupt = Interrupt::listen(log)?;
    let measure = (!args.model.model.is_empty()).then(|| MeasuredModel::new(args, &read, &interrupt, log));
    let measure = match measure.transpose() {
        // Then the files are told of without the model.
        Err(Error::Interrupted) => None,
        measure => measure?,
    };
    let mut vectors = Vec::with_capacity(files.len());
    for file in &files {
        vectors.push(file.report(measure.as_ref())?);
        if measure.is_some() && interrupt.is_raised() {
            break;
        }
    }
    let cosines = cosines(&files[..vectors.len()]);
    let report = Inspection { schema_version: 1, model: measure.map(|measure| measure.model), vectors, cosines };
    match args.model.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    let (command, unknown) = steer(args, together(&files));
    let what = if files.len() == 1 { "try it" } else { "try them" };
    let what = match unknown {
        Some(name) => format!("{what}, with the path of the model {name} in place of {MODEL_PATH}"),
        None => what.to_owned(),
    };
    next::tell(args.model.json, &what, &format!("{command} --prompt \"{TEST_PROMPT}\""), log);
    Ok(interrupt.check()?)
}

/// The files, if one run can steer by all of them: vectors of one model whose layers are known, and one condition at most. Else the
/// first.
fn together(files: &[InspectedFile]) -> &[InspectedFile] {
    let of = |file: &InspectedFile| (file.vector.hidden_size(), file.vector.metadata.base_model.clone());
    let conditions = files.iter().filter(|file| file.vector.metadata.condition.is_some()).count();
    let fit =
        files.iter().all(|file| of(file) == of(&files[0]) && file.says_layer) && conditions <= 1 && conditions < files.len();
    if fit { files } else { &files[..1] }
}

/// The command that steers by these files the model that they are inspected with, else the one that they were learned on; with the name
/// of that one where its path is not known.
fn steer<'a>(args: &InspectArgs, files: &'a [InspectedFile]) -> (String, Option<&'a str>) {
    let mut command = next::of_model("steer");
    let own = files[0].vector.metadata.base_model.as_deref().filter(|own| !is_same_model(own, DEFAULT_MODEL));
    let own = own.filter(|_| args.model.model.is_empty());
    let argument = own.and_then(next::model_argument);
    if own.is_some() {
        command = next::with(&command, "--model", argument.unwrap_or(MODEL_PATH));
    }
    for file in files {
        let flag = if file.vector.metadata.condition.is_some() { "--when" } else { "--vector" };
        command = next::with(&command, flag, &file.path.display().to_string());
    }
    if !files[0].says_layer {
        let layer = args.layer.map_or_else(|| "LAYER".to_owned(), |layer| layer.to_string());
        command = next::with(&command, "--layer", &layer);
    }
    (command, own.filter(|_| argument.is_none()))
}

#[cfg(test)]
mod tests;
