//! Vectors that the user names with a factor each: read, added up, and put where the user or their files say.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use bipo::machine::files::check_writable;
use bipo::steering::condition::When;
use bipo::steering::magnitudes::{MagnitudeChoice, signed};
use bipo::steering::vector::{CombineOptions, Format, SteeringVector, Summand, VectorFile, combine};
use bipo::{Error, Result};

use super::sweep::shown_dose;
use crate::args::{Use, VectorArgs, condition_and_threshold, vector_and_scale};
use crate::hints::with_hint;
use crate::terminal::Log;
use bipo::session::Session;

/// Name of the vector that a run ends with.
pub const VECTOR_FILE: &str = "steering_vector.safetensors";

/// The sum of the vectors, used as is given, else as the files say.
pub fn read_vector(vectors: &[String], layer: Option<usize>, said: Use, log: Log) -> Result<SteeringVector> {
    settle(read_inputs(vectors, layer, log)?, said)
}

/// The sum of what was read, used as the user says, else as the files say.
pub fn settle(mut inputs: Vec<Summand>, Use { operation, positions, spans }: Use) -> Result<SteeringVector> {
    for known in inputs.iter_mut().map(|input| &mut input.vector.metadata) {
        let spans = spans.or(known.spans.filter(|_| positions.is_none()));
        let used = (operation.unwrap_or(known.operation), positions.unwrap_or(known.positions), spans);
        if used != (known.operation, known.positions, known.spans) {
            known.calibration = None;
        }
        (known.operation, known.positions, known.spans) = used;
    }
    combine(inputs, &CombineOptions::default())
}

/// Path at which a run without `--output-dir` leaves its vector.
pub fn last_run() -> PathBuf {
    Path::new("bipo_output").join(VECTOR_FILE)
}

/// Reads `FILE[:SCALE]` each, or the last run's vector where none is given. `layer` overrides the files'.
pub fn read_inputs(vectors: &[String], layer: Option<usize>, log: Log) -> Result<Vec<Summand>> {
    let named: Vec<(PathBuf, f32)> = vectors.iter().map(|text| vector_and_scale(text)).collect::<Result<_>>()?;
    let last_run = last_run();
    if named.is_empty() && !last_run.exists() {
        let problem = format!("no vector at {}: run `bipo train` first, or give --vector FILE", last_run.display());
        return Err(Error::Argument(problem));
    }
    let named = if named.is_empty() { vec![(last_run, 1.0)] } else { named };
    let read = |(path, scale): (PathBuf, f32)| -> Result<Summand> {
        let file = VectorFile::read(&path)?;
        file.moved_note(layer).iter().for_each(|note| log.warn(with_hint(format!("{}: {note}", path.display()))));
        let mut input = Summand::new(file, scale, |file| file.at(layer))?;
        input.vector.check_steers().map_err(|error| Error::Argument(format!("{}: {error}", path.display())))?;
        warn_of_unknown_keys(&input.vector, path.display(), log);
        if layer.is_some() {
            // The user says where it belongs in this model, whatever the depth of its own.
            input.vector.metadata.num_hidden_layers = None;
        }
        Ok(input)
    };
    named.into_iter().map(read).collect()
}

/// Reads the condition of `FILE[:>θ]`, where one is named.
pub fn read_when(when: Option<&String>) -> Result<Option<When>> {
    let Some(text) = when else { return Ok(None) };
    let (path, threshold) = condition_and_threshold(text)?;
    let when = When::new(SteeringVector::read(&path, None)?, threshold);
    when.map(Some).map_err(|error| Error::Argument(format!("--when {}: {error}", path.display())))
}

/// Refuses a condition that does not fit the model, and warns of one that was found on another.
pub fn check_when(when: Option<&When>, opened: &Session, log: Log) -> Result<()> {
    let Some(when) = when else { return Ok(()) };
    when.check_model(opened.config.hidden_size, opened.config.num_hidden_layers)?;
    warn_of_origin(when.vector(), opened, log);
    Ok(())
}

/// Says that a vector's file has keys that bipo does not know; `name` is that of the file, or of the vector.
pub fn warn_of_unknown_keys(vector: &SteeringVector, name: impl Display, log: Log) {
    if let Some(note) = vector.unknown_keys_note() {
        log.warn(format!("{name}: {note}"));
    }
}

/// Says so where the magnitudes of a vector are taken from its calibration, and that was measured on another model.
pub fn warn_of_calibration(choice: Option<&MagnitudeChoice>, vector: &SteeringVector, opened: &Session, log: Log) {
    let note = vector.calibration_note(&opened.files.name).filter(|_| choice == Some(&MagnitudeChoice::Calibrated));
    note.iter().for_each(|note| log.warn(with_hint(note)));
}

/// Refuses a vector that is not added, in `what` is for one that is.
pub fn check_added(what: &str, vector: &SteeringVector) -> Result<()> {
    match vector.metadata.operation {
        operation if operation.is_addition() => Ok(()),
        operation => Err(Error::Argument(format!(
            "{what} is for a vector that is added, but the operation here is {operation}: magnitude 1 takes out all along the vector"
        ))),
    }
}

/// The dose above which texts often break, where no calibration says it better.
const HIGH_DOSE: f64 = 0.5;

/// A note for the user where one of some texts, each with its magnitude and dose, is steered by more than the vector's calibration
/// says, or, where it has none, by more than half of the residual's length. The furthest one is named.
pub fn strength_note(vector: &SteeringVector, texts: &[(f32, f64)]) -> Option<String> {
    if !vector.metadata.operation.is_addition() {
        return None;
    }
    let known = vector.metadata.calibration.as_ref();
    // A text that was left alone has no dose.
    let is_much = |(magnitude, dose): &(f32, f64)| match known {
        Some(known) => *dose > 0.0 && known.exceeded(*magnitude).is_some(),
        None => *dose > HIGH_DOSE,
    };
    let (magnitude, dose) = texts.iter().copied().filter(is_much).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    match known {
        Some(_) => calibration_exceeded_note(vector, magnitude),
        None => {
            let shown = signed(magnitude);
            Some(format!(
                "at magnitude {shown} what is added is {} times as long as what it is added to: above {HIGH_DOSE} texts often \
                 break; bipo calibrate finds how far to go",
                shown_dose(dose)
            ))
        }
    }
}

/// A note for the user where a magnitude is beyond what the vector's calibration says.
pub fn calibration_exceeded_note(vector: &SteeringVector, magnitude: f32) -> Option<String> {
    let known = vector.metadata.calibration.as_ref()?;
    let (shown, limit) = (signed(magnitude), signed(known.exceeded(magnitude)?));
    Some(format!(
        "magnitude {shown} is beyond {limit}, the largest within {} (bipo calibrate): texts may break; stay within it, or calibrate with \
         a larger --budget",
        known.budget
    ))
}

/// A note for the user where some magnitudes are beyond what the vector's calibration says. The furthest one is named.
pub fn furthest_note(vector: &SteeringVector, magnitudes: &[f32]) -> Option<String> {
    let furthest = magnitudes.iter().copied().max_by(|a, b| {
        let beyond =
            |m: f32| vector.metadata.calibration.as_ref().and_then(|known| known.exceeded(m)).map_or(0.0, |limit| m / limit);
        beyond(*a).total_cmp(&beyond(*b))
    })?;
    calibration_exceeded_note(vector, furthest).filter(|_| vector.metadata.operation.is_addition())
}

/// Refuses a vector that does not fit the model, and warns of one that was trained elsewhere.
pub fn check_vector(vector: &SteeringVector, opened: &Session, log: Log) -> Result<()> {
    vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers)?;
    warn_of_origin(vector, opened, log);
    Ok(())
}

fn warn_of_origin(vector: &SteeringVector, opened: &Session, log: Log) {
    vector.origin_note(&opened.files.name, &opened.config.model_type).iter().for_each(|note| log.warn(with_hint(note)));
}

/// The file that keeps what `calibrate --save` finds.
///
/// # Errors
/// What was named is not a whole file that can keep it.
pub fn file_to_save(named: &VectorArgs) -> Result<VectorFile> {
    let problem = |what: &str| Err(Error::Argument(format!("--save keeps the magnitudes of a whole vector file: {what}")));
    let vectors = named.vector.iter().map(|text| vector_and_scale(text)).collect::<Result<Vec<_>>>()?;
    let (path, scale) = match vectors.as_slice() {
        [] => (last_run(), 1.0),
        [vector] => vector.clone(),
        _ => return problem("add the vectors up with `bipo convert` first"),
    };
    if scale != 1.0 {
        return problem("leave the scale out");
    }
    if named.layer.is_some() || named.said() != Use::default() {
        return problem("leave --operation, --layer, --positions and --spans out, which the file does not have");
    }
    check_writable(&path)?;
    let file = VectorFile::read(&path)?;
    match file.format {
        _ if file.has_unknown_keys() => problem("this one has keys that bipo does not know and would lose"),
        Format::Safetensors | Format::Gguf | Format::Json => Ok(file),
        Format::Pt | Format::Svec | Format::Npy => {
            let name = file.format.name();
            problem(&format!("a .{name} file has no place for them: write .safetensors with `bipo convert` first"))
        }
    }
}
