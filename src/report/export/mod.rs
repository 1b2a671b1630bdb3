//! A vector as other engines take it: the files that an engine needs, and a README with the commands that run it. What is known of
//! each engine stands in the table of `engines`; the files are made in `files`, their description in `readme`. Nothing is run here,
//! and no model is read: the engine that takes a merged model gets it from [`merge`](crate::steering::merge).
//!
//! Begin with [`Export`].

mod engines;
mod files;
mod readme;
mod tokens;

use std::path::Path;

use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

use self::engines::{EngineGuide, TakesOut};
use self::tokens::Tokens;
use crate::machine::files::write_atomic;
use crate::steering::Operation;
use crate::steering::positions::in_words;
use crate::steering::vector::SteeringVector;
use crate::{Error, Result};

/// An engine that a vector can be exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display, EnumString, VariantNames)]
#[serde(into = "String")]
pub enum ExportTarget {
    /// vLLM with the plugin vllm-lens.
    #[strum(serialize = "vllm-lens")]
    VllmLens,
    /// EasySteer, a fork of vLLM.
    #[strum(serialize = "easysteer")]
    EasySteer,
    /// vLLM as it is, with the vector in the model's weights.
    #[strum(serialize = "vllm-merged")]
    VllmMerged,
    /// llama.cpp.
    #[strum(serialize = "llama.cpp")]
    LlamaCpp,
    /// lm-evaluation-harness, which measures benchmarks.
    #[strum(serialize = "lm-eval")]
    LmEval,
    /// pyvene, for interventions in PyTorch.
    #[strum(serialize = "pyvene")]
    Pyvene,
}

impl From<ExportTarget> for String {
    fn from(target: ExportTarget) -> Self {
        target.to_string()
    }
}

/// Name of the file that says how the others are used.
pub const README: &str = "README.md";

/// What an engine is asked in the examples.
pub const PROMPT: &str = "How was your day?";

/// Number of tokens that it answers with.
pub(crate) const MAX_TOKENS: usize = 64;

/// A vector at one magnitude, for one engine; nothing is written yet.
#[derive(Debug)]
pub struct Export<'a> {
    target: ExportTarget,
    vector: &'a SteeringVector,
    magnitude: f64,
    model: &'a str,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Name in the export's folder.
    pub name: &'static str,
    /// What the file is, for the README.
    pub what: &'static str,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

impl<'a> Export<'a> {
    /// Checks that the engine can steer by `magnitude` times `vector`. `model` is the model's name in the commands: a repository on
    /// the hub, a folder, or a placeholder.
    ///
    /// # Errors
    /// The engine has no place for a layer of the vector, the vector is a condition, or only a part of what lies along it is to be taken out and the
    /// engine takes out all.
    pub fn new(target: ExportTarget, vector: &'a SteeringVector, magnitude: f64, model: &'a str) -> Result<Self> {
        vector.check_steers()?;
        let export = Self { target, vector, magnitude, model };
        let engine = export.engine();
        if vector.layers.contains_key(&0) && !engine.has_layer_0 {
            return Err(Error::Argument(format!(
                "{target} cannot steer layer 0, since its directions begin at block 1: export to vllm-lens, easysteer, lm-eval or pyvene, or \
                 learn the vector at a higher layer"
            )));
        }
        if export.is_taken_out() && engine.takes_out == TakesOut::Whole && magnitude != 1.0 {
            return Err(Error::Argument(format!(
                "magnitude {magnitude}: the vector is taken out, and {target} takes out all that lies along it: name no magnitude, or \
                 export to pyvene"
            )));
        }
        Ok(export)
    }

    fn engine(&self) -> &'static EngineGuide {
        EngineGuide::of(self.target)
    }

    /// Whether the engine takes out what lies along the vector, as its file says, and does not add it.
    fn is_taken_out(&self) -> bool {
        self.vector.metadata.operation != Operation::Add && self.engine().takes_out != TakesOut::Nothing
    }

    /// What the engine does in another way than bipo, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let (target, known) = (self.target, &self.vector.metadata);
        let mut notes = Vec::new();
        if known.operation != Operation::Add && !self.is_taken_out() {
            notes.push(format!(
                "{target} adds the vector all the same, although its operation is {}: easysteer, lm-eval and pyvene take it out",
                known.operation
            ));
        }
        if self.told_tokens().is_none() {
            notes.push(format!(
                "{target} steers every token, but the vector is for {} (easysteer can say prompt, response and last)",
                in_words(known.positions, known.spans)
            ));
        }
        notes
    }

    /// The tokens that the vector's file names, if the engine can be told them.
    fn told_tokens(&self) -> Option<Tokens> {
        let known = &self.vector.metadata;
        Tokens::of(known.positions, known.spans).filter(|tokens| (self.engine().can)(*tokens))
    }

    /// The tokens that the engine steers.
    fn tokens(&self) -> Tokens {
        self.told_tokens().unwrap_or(Tokens::EVERY)
    }

    /// The files, the README last.
    ///
    /// # Errors
    /// The engine's format cannot hold the vector.
    pub fn files(&self) -> Result<Vec<ExportedFile>> {
        let mut files = (self.engine().files)(self)?;
        let bytes = readme::text(self, &files).into_bytes();
        files.push(ExportedFile { name: README, what: "how to run it", bytes });
        Ok(files)
    }

    /// The command that starts the engine, or that runs it.
    pub fn command(&self) -> String {
        let start = self.engine().steps.iter().find(|step| !step.is_installation).map_or("", |step| step.command);
        readme::filled(start, self)
    }

    /// Writes the files to a folder, which is made if it does not exist. Other files there are left alone.
    ///
    /// # Errors
    /// A file of the same name is there and `overwrite` does not allow to replace it; or the folder cannot be written to.
    pub fn write(&self, dir: &Path, overwrite: bool) -> Result<Vec<ExportedFile>> {
        let files = self.files()?;
        let is_there = |file: &&ExportedFile| dir.join(file.name).symlink_metadata().is_ok();
        if let Some(file) = files.iter().find(|file| !overwrite && is_there(file)) {
            let name = dir.join(file.name);
            let problem = format!("{} exists: choose another folder, or replace it", name.display());
            return Err(Error::Argument(problem));
        }
        // Each has a README, by which the folder of an export is told from one of other things.
        let readme = dir.join(README);
        let is_ours = || std::fs::read_to_string(&readme).is_ok_and(|text| text.contains(readme::SIGNATURE));
        if files.iter().any(|file| is_there(&file)) && !is_ours() {
            let problem =
                format!("{} is no folder of an export, and has files of the same names: choose another", dir.display());
            return Err(Error::Argument(problem));
        }
        std::fs::create_dir_all(dir).map_err(|source| Error::write(dir, source))?;
        // The README first: what is left of an export that ends early is known to be one.
        files.iter().rev().try_for_each(|file| write_atomic(&dir.join(file.name), &file.bytes))?;
        Ok(files)
    }
}
