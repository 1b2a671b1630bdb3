//! The output directory of a run: one run at a time, and nothing that an earlier one left is replaced unasked.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bipo::machine::files;
use bipo::steering::vector::SteeringVector;
use bipo::train::checkpoint::{self, Difference, TrainingCheckpoint};
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::run_files::remove_curve;
use crate::args::TrainArgs;
use crate::commands::vectors::VECTOR_FILE;
use crate::terminal::Log;

/// Settings that a run cannot change on the way: its state would mean something else.
const FIXED: [&str; 7] = ["layers", "seed", "limit", "dataset.", "hidden_size", "num_hidden_layers", "model_type"];

/// A directory that this run has to itself.
pub struct OutputDir<'a> {
    path: &'a Path,
    args: &'a TrainArgs,
    log: Log,
    /// Locked, until the process ends, however it does.
    lock: Option<File>,
}

/// How a run begins.
pub enum Start {
    /// The run begins at the first step, with nothing done.
    New,
    /// The run goes on from the state in a checkpoint.
    Resumed(Box<TrainingCheckpoint>),
    /// The run does not begin at all: it is done.
    Finished(Box<SteeringVector>),
}

impl<'a> OutputDir<'a> {
    /// Refuses what is cheap to refuse, and makes nothing.
    pub fn claim(args: &'a TrainArgs, log: Log) -> Result<Self> {
        let mut dir = Self { path: &args.output_dir, args, log, lock: None };
        if dir.path.is_dir() {
            dir.lock()?;
            dir.check()?;
        }
        Ok(dir)
    }

    /// Makes the directory and tries it, before anything costly.
    pub fn make(&mut self) -> Result<()> {
        let made = std::fs::create_dir_all(self.path).and_then(|()| files::check_folder(self.path));
        made.map_err(|source| match source.kind() {
            // The name is wrong, and not the disk.
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                Error::Argument(format!("cannot write to --output-dir {}: {source}", self.path.display()))
            }
            _ => Error::write(self.path, source),
        })?;
        if self.lock.is_none() {
            self.lock()?;
            self.check()?;
        }
        files::remove_abandoned(self.path);
        Ok(())
    }

    /// The directory itself is locked: there is no file of a dead process that could stand in the way.
    fn lock(&mut self) -> Result<()> {
        let path = self.path.display();
        let locked = File::open(self.path).map_err(TryLockError::Error).and_then(|dir| dir.try_lock().map(|()| dir));
        match locked {
            Ok(dir) => self.lock = Some(dir),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Argument(format!(
                    "--output-dir {path} is in use by another run: wait for its end, or choose another directory"
                )));
            }
            Err(TryLockError::Error(error)) => {
                self.log.warn(format!("--output-dir {path} cannot be locked ({error}): let no other run write to it"));
            }
        }
        Ok(())
    }

    /// Refuses to replace what an earlier run left.
    fn check(&self) -> Result<()> {
        if self.args.overwrite || self.args.is_resumed() {
            return Ok(());
        }
        let (path, has_vector) = (self.path.display(), self.path.join(VECTOR_FILE).exists());
        if checkpoint::exists(self.path) {
            let steps = checkpoint::read(self.path).ok().and_then(|found| found.checkpoint).map(|found| found.state.steps);
            return match steps {
                Some(0) if !has_vector => Ok(()),
                steps => {
                    let steps = steps.map_or(String::new(), |steps| format!(" after {steps} steps"));
                    Err(Error::Argument(format!(
                        "--output-dir {path} holds a run that ended early{steps}: continue it with --resume, or begin anew \
                         with --overwrite"
                    )))
                }
            };
        }
        match has_vector {
            true => Err(Error::Argument(format!(
                "--output-dir {path} holds a finished vector: choose another directory, or replace it with --overwrite"
            ))),
            false => Ok(()),
        }
    }

    /// Returns how the run of these settings begins. With `--force-resume` those that changed are noted in them.
    pub fn start(&self, settings: &mut Value, public: &mut Value) -> Result<Start> {
        if !self.args.is_resumed() {
            return Ok(Start::New);
        }
        let path = self.path.display();
        let found = checkpoint::read(self.path)?;
        if let Some(broken) = found.broken {
            self.log
                .warn(format!("{broken}; continues from the checkpoint before it: begin anew with --overwrite if you prefer"));
            checkpoint::remove_newest(self.path)?;
        }
        let Some(checkpoint) = found.checkpoint else {
            let file = self.path.join(VECTOR_FILE);
            if file.exists() {
                return self.finished(&file, public);
            }
            self.log.warn(format!(
                "--output-dir {path} holds no run to resume: begins at the first step; check the folder's name if there is one"
            ));
            return Ok(Start::New);
        };
        let steps = checkpoint.state.steps;
        let changed = checkpoint::differences(&checkpoint.settings, settings);
        self.check_changed(&changed, steps)?;
        let mut history = checkpoint.settings.get("resumed").and_then(Value::as_array).cloned().unwrap_or_default();
        if !changed.is_empty() {
            let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
            self.log.warn(format!(
                "from step {steps} on other settings hold: {}; give the former ones to go on as before",
                changed.join(", ")
            ));
            history.push(json!({"step": steps, "changed": changed}));
        }
        if !history.is_empty() {
            settings["resumed"] = history.clone().into();
            public["resumed"] = history.into();
        }
        self.log.info(format!("continues after step {steps}, in epoch {}", checkpoint.state.epoch));
        Ok(Start::Resumed(Box::new(checkpoint)))
    }

    fn check_changed(&self, changed: &[Difference], steps: usize) -> Result<()> {
        let path = self.path.display();
        let is_fixed = |key: &str| FIXED.iter().any(|fixed| key == *fixed || (fixed.ends_with('.') && key.starts_with(fixed)));
        let fixed: Vec<&Difference> =
            changed.iter().filter(|difference| is_fixed(&difference.key) && difference.key != "dataset.name").collect();
        let forced = self.args.force_resume;
        let (shown, advice) = match (fixed.is_empty(), forced) {
            (true, true) => return Ok(()),
            (false, true) => (fixed, "these cannot change in a run: begin anew with --overwrite"),
            (true, false) => (changed.iter().collect(), "give the same, or take the new with --force-resume"),
            (false, false) => (changed.iter().collect(), "give the same, or begin anew with --overwrite"),
        };
        if shown.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        Err(Error::Argument(format!(
            "--resume: the run in {path} has other settings (after {steps} steps): {}; {advice}",
            shown.join(", ")
        )))
    }

    fn finished(&self, file: &Path, settings: &Value) -> Result<Start> {
        let vector = SteeringVector::read(file, None)?;
        let nothing = Value::Null;
        let changed = checkpoint::differences(vector.metadata.training.as_ref().unwrap_or(&nothing), settings);
        if changed.is_empty() {
            return Ok(Start::Finished(Box::new(vector)));
        }
        let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        Err(Error::Argument(format!(
            "--resume: the run in {} is finished, and had other settings: {}; choose another directory, continue from its \
             vector with --init, or begin anew with --overwrite",
            self.path.display(),
            changed.join(", ")
        )))
    }

    /// Takes away what an earlier run left and this one does not replace. Its vector stays until then.
    pub fn clear(&self) -> Result<()> {
        checkpoint::remove(self.path)?;
        for path in epoch_vectors(self.path) {
            files::remove(&path)?;
        }
        remove_curve(self.path);
        Ok(())
    }
}

fn epoch_vectors(dir: &Path) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let epoch = name.strip_prefix("steering_vector-epoch-").and_then(|rest| rest.strip_suffix(".safetensors"));
        epoch.is_some_and(|epoch| epoch.parse::<usize>().is_ok())
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_one).collect()
}
