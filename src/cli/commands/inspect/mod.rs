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
use self::files::InspectedFile;
use self::measure::MeasuredModel;
use self::report::Inspection;
use super::interrupt::Interrupt;
use super::next;
use super::training::TEST_PROMPT;
use crate::args::InspectArgs;
use crate::terminal::{self, Log};

pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
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
    if let [file] = files.as_slice() {
        let flag = if file.vector.metadata.condition.is_some() { "steer --when" } else { "steer --vector" };
        let command = next::of_file(flag, &file.path.display().to_string());
        next::tell(args.model.json, "try it", &format!("{command} --prompt \"{TEST_PROMPT}\""), log);
    }
    Ok(interrupt.check()?)
}

#[cfg(test)]
mod tests;
