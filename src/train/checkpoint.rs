//! The state of a run on disk, so that it survives whatever ends the process: a safetensors file with a SHA-256 of its
//! content, and the one before it, in case the newest is broken. Reading trusts nothing: a file is measured before it is
//! read, its content hashed before it is interpreted, and every length is checked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::optim::AdamW;
use super::records::{EpochRecord, Heldout, Timings};
use super::state::{LearnedFactor, TrainState};
use crate::machine::error::one_line;
use crate::machine::files;
use crate::{Error, Result};

/// The newest checkpoint of a directory.
pub const NEWEST: &str = "checkpoint.safetensors";

/// The checkpoint before the newest one.
pub(crate) const PREVIOUS: &str = "checkpoint-previous.safetensors";

/// The most that a checkpoint may take: 200 layers of hidden size 16384, ten million pairs, and room to spare.
const LARGEST_FILE: u64 = 256 << 20;

/// The most that its JSON may take: parsed, it takes many times that.
const LARGEST_JSON: usize = 4 << 20;

/// Tensors in the order in which they are hashed.
const TENSORS: [&str; 8] = ["v", "best_v", "first_moment", "second_moment", "order", "last", "epochs", "factor"];

/// Numbers of an epoch's record: step, whether there are held-out margins, whether it is the best, then the margins.
const EPOCH_NUMBERS: usize = 8;

/// A run between two steps, and the settings that it was begun with.
#[derive(Debug, Clone)]
pub struct TrainingCheckpoint {
    /// Settings by name.
    pub settings: Value,
    /// Everything that a step changes.
    pub state: TrainState,
}

/// What is no tensor.
#[derive(Serialize, Deserialize)]
struct CheckpointHeader {
    format_version: u32,
    steps: usize,
    epoch: usize,
    done: usize,
    /// Seed of the generator, and the words that were drawn from it.
    seed: [u8; 32],
    words: u64,
    timings: Timings,
    settings: Value,
}

/// Whether a directory holds a checkpoint, whole or not.
pub fn exists(dir: &Path) -> bool {
    [NEWEST, PREVIOUS].iter().any(|name| dir.join(name).exists())
}

/// Takes the checkpoints of a directory away.
///
/// # Errors
/// One is there, but cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    for path in [dir.join(NEWEST), dir.join(PREVIOUS)] {
        files::remove(&path)?;
    }
    Ok(())
}

/// Makes `state` the newest checkpoint of a directory, and what was the newest the one before it. A process or machine that
/// dies on the way leaves at least one of them whole.
///
/// # Errors
/// The file cannot be written; the checkpoints that are there stay as they are.
pub fn write(dir: &Path, settings: &Value, state: &TrainState) -> Result<()> {
    let path = dir.join(NEWEST);
    let bytes = to_bytes(settings, state)?;
    let write = || -> std::io::Result<()> {
        let draft = files::draft(dir, &bytes)?;
        match std::fs::rename(&path, dir.join(PREVIOUS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        draft.persist(&path)?;
        files::sync_dir(dir)
    };
    write().map_err(|error| match exists(dir) {
        true => {
            let problem = format!("{error}; mend that, then continue from the checkpoint before it");
            Error::write(&path, std::io::Error::new(error.kind(), problem))
        }
        false => files::not_written(&path, error),
    })
}

/// What the checkpoints of a directory hold.
#[derive(Debug, Default)]
pub struct FoundCheckpoints {
    /// The newest checkpoint that is whole.
    pub checkpoint: Option<TrainingCheckpoint>,
    /// What is wrong with a newer one.
    pub broken: Option<Error>,
}

/// The newest checkpoint of a directory, or the one before it where that is broken.
///
/// # Errors
/// There are checkpoints, but none is whole.
pub fn read(dir: &Path) -> Result<FoundCheckpoints> {
    let mut found = FoundCheckpoints::default();
    for path in [dir.join(NEWEST), dir.join(PREVIOUS)] {
        match read_file(&path) {
            Ok(checkpoint) => return Ok(FoundCheckpoints { checkpoint, ..found }),
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => found.broken = found.broken.or(Some(error)),
        }
    }
    found.broken.map_or_else(|| Ok(FoundCheckpoints::default()), Err)
}

fn read_file(path: &Path) -> Result<Option<TrainingCheckpoint>> {
    let failed = |source| Error::read(path, source);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    if file.metadata().map_err(failed)?.len() <= LARGEST_FILE {
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.is_empty() || bytes.len() as u64 > LARGEST_FILE {
        return Err(broken(path, format!("expected 1 byte to {} MiB", LARGEST_FILE >> 20)));
    }
    from_bytes(path, &bytes).map(Some)
}

fn broken(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::malformed(path, format!("not a whole checkpoint: {problem}"))
}

struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Array {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of a checkpoint.
///
/// # Errors
/// The state cannot be encoded.
pub fn to_bytes(settings: &Value, state: &TrainState) -> Result<Vec<u8>> {
    let header = CheckpointHeader {
        format_version: 1,
        steps: state.steps,
        epoch: state.epoch,
        done: state.done,
        seed: state.rng.get_seed(),
        // 2^64 words are never drawn.
        words: state.rng.get_word_pos() as u64,
        timings: state.timings,
        settings: settings.clone(),
    };
    let failed = |error: &dyn std::fmt::Display| Error::Argument(format!("the run's state cannot be encoded: {error}"));
    let json = serde_json::to_string(&header).map_err(|error| failed(&error))?;
    let f32s = |x: &[f32]| array(Dtype::F32, vec![x.len()], x.iter().flat_map(|x| x.to_le_bytes()));
    let f64s = |x: &[f64], shape| array(Dtype::F64, shape, x.iter().flat_map(|x| x.to_le_bytes()));
    let [first, second] = state.optimiser.moments();
    let epochs: Vec<f64> = state.epochs.iter().flat_map(epoch_numbers).collect();
    let mut arrays = vec![
        ("v", f32s(&state.v)),
        ("first_moment", f32s(first)),
        ("second_moment", f32s(second)),
        ("order", array(Dtype::U64, vec![state.order.len()], state.order.iter().flat_map(|i| (*i as u64).to_le_bytes()))),
        ("last", f64s(&[state.last_loss, state.last_margin], vec![2])),
        ("epochs", f64s(&epochs, vec![state.epochs.len(), EPOCH_NUMBERS])),
    ];
    arrays.extend(state.best_v.as_ref().map(|v| ("best_v", f32s(v))));
    // Its value and its moments.
    arrays.extend(state.factor.as_ref().map(|factor| {
        let [first, second] = factor.optimiser.moments();
        ("factor", f32s(&[&[factor.value], first, second].concat()))
    }));
    let data = |name: &str| arrays.iter().find(|(own, _)| *own == name).map(|(_, array)| array.bytes.as_slice());
    let strings = HashMap::from([("sha256".to_owned(), digest(&json, data)), ("state".to_owned(), json)]);
    let views = arrays.iter().map(|(name, array)| (*name, array));
    safetensors::serialize(views, Some(strings)).map_err(|error| failed(&error))
}

fn array(dtype: Dtype, shape: Vec<usize>, bytes: impl Iterator<Item = u8>) -> Array {
    Array { dtype, shape, bytes: bytes.collect() }
}

/// SHA-256 of all that a checkpoint holds.
fn digest<'a>(json: &str, data: impl Fn(&str) -> Option<&'a [u8]>) -> String {
    let mut hash = Sha256::new();
    hash.update(json);
    for (name, bytes) in TENSORS.iter().filter_map(|name| Some((name, data(name)?))) {
        hash.update(format!("\n{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    format!("{:x}", hash.finalize())
}

/// Reads the bytes of a checkpoint. `path` is for the messages alone.
///
/// # Errors
/// The bytes are not what bipo wrote.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<TrainingCheckpoint> {
    parse(path, bytes, true)
}

/// Reads a checkpoint like [`from_bytes`], whatever the content's hash: for the fuzzer, which cannot guess one.
#[doc(hidden)]
pub fn from_bytes_of_any_hash(path: &Path, bytes: &[u8]) -> Result<TrainingCheckpoint> {
    parse(path, bytes, false)
}

fn parse(path: &Path, bytes: &[u8], check_hash: bool) -> Result<TrainingCheckpoint> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(path, error))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(path, error))?;
    let strings = metadata.metadata().clone().unwrap_or_default();
    let string = |key: &str| strings.get(key).ok_or_else(|| broken(path, format!("metadata key {key:?} is missing")));
    let json = string("state")?;
    let hash = digest(json, |name| Some(tensors.tensor(name).ok()?.data()));
    if (check_hash && hash != *string("sha256")?) || json.len() > LARGEST_JSON {
        return Err(broken(path, "its content is not what was written (SHA-256)"));
    }
    let version = |value: &Value| value.get("format_version").and_then(Value::as_u64);
    let value: Value = serde_json::from_str(json).map_err(|error| broken(path, error))?;
    if version(&value) != Some(1) {
        return Err(broken(path, "its format is not that of this bipo: continue with the one that wrote it"));
    }
    let header: CheckpointHeader = serde_json::from_value(value).map_err(|error| broken(path, error))?;
    let state = Reader { path, tensors }.state(&header)?;
    Ok(TrainingCheckpoint { settings: header.settings, state })
}

struct Reader<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    fn state(&self, header: &CheckpointHeader) -> Result<TrainState> {
        let fail = |problem: &str| Err(broken(self.path, problem));
        let v = self.f32s("v")?;
        let best_v = self.tensors.tensor("best_v").is_ok().then(|| self.f32s("best_v")).transpose()?;
        let (first, second) = (self.f32s("first_moment")?, self.f32s("second_moment")?);
        let is_as_long = |other: &Vec<f32>| other.len() == v.len();
        if v.is_empty() || ![&first, &second].into_iter().chain(&best_v).all(is_as_long) {
            return fail("its vectors are not of one length");
        }
        let order: Vec<usize> = self.words("order", Dtype::U64)?.into_iter().map(|x| u64::from_le_bytes(x) as usize).collect();
        if !is_permutation(&order) || header.done > order.len() {
            return fail("its order of the pairs is none");
        }
        let epochs: Vec<EpochRecord> = self.f64s("epochs")?.chunks_exact(EPOCH_NUMBERS).enumerate().map(epoch_record).collect();
        if epochs.len() + 1 != header.epoch || epochs.iter().any(|epoch| epoch.best) != best_v.is_some() {
            return fail("its epochs do not fit together");
        }
        let [last_loss, last_margin] = self.f64s("last")?[..] else { return fail("its last step has not two numbers") };
        let Ok(steps) = i32::try_from(header.steps) else { return fail("its number of steps is out of range") };
        let factor = match self.tensors.tensor("factor").is_ok().then(|| self.f32s("factor")).transpose()?.as_deref() {
            None => None,
            Some(&[value, first, second]) => {
                Some(LearnedFactor { value, optimiser: AdamW::with_moments(vec![first], vec![second], steps, 0.0) })
            }
            Some(_) => return fail("its factor has not three numbers"),
        };
        let mut rng = ChaCha8Rng::from_seed(header.seed);
        rng.set_word_pos(header.words.into());
        Ok(TrainState {
            v,
            // The trainer sets the decay, which is a setting.
            optimiser: AdamW::with_moments(first, second, steps, 0.0),
            factor,
            steps: header.steps,
            epoch: header.epoch,
            order,
            done: header.done,
            rng,
            last_loss,
            last_margin,
            epochs,
            best_v,
            timings: header.timings,
        })
    }

    fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.words(name, Dtype::F32)?.into_iter().map(f32::from_le_bytes).collect())
    }

    fn f64s(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.words(name, Dtype::F64)?.into_iter().map(f64::from_le_bytes).collect())
    }

    fn words<const N: usize>(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; N]>> {
        let tensor = self.tensors.tensor(name).map_err(|error| broken(self.path, error))?;
        match tensor.dtype() == dtype {
            true => Ok(tensor.data().as_chunks::<N>().0.to_vec()),
            false => Err(broken(self.path, format!("tensor {name:?} is {:?}, expected {dtype:?}", tensor.dtype()))),
        }
    }
}

fn is_permutation(order: &[usize]) -> bool {
    let mut seen = vec![false; order.len()];
    order.iter().for_each(|index| seen.get_mut(*index).into_iter().for_each(|seen| *seen = true));
    !order.is_empty() && seen.into_iter().all(|seen| seen)
}

fn epoch_numbers(record: &EpochRecord) -> [f64; EPOCH_NUMBERS] {
    let heldout = record.heldout.map_or([0.0; 5], |heldout| {
        let Heldout { positive_margin, negative_margin, positive_right, negative_right, loss } = heldout;
        [positive_margin, negative_margin, positive_right, negative_right, loss]
    });
    let [a, b, c, d, e] = heldout;
    [record.step as f64, f64::from(record.heldout.is_some()), f64::from(record.best), a, b, c, d, e]
}

/// `index` is from 0, the epoch from 1.
fn epoch_record((index, numbers): (usize, &[f64])) -> EpochRecord {
    let heldout = Heldout {
        positive_margin: numbers[3],
        negative_margin: numbers[4],
        positive_right: numbers[5],
        negative_right: numbers[6],
        loss: numbers[7],
    };
    let (has_heldout, best) = (numbers[1] != 0.0, numbers[2] != 0.0);
    EpochRecord {
        epoch: index + 1,
        step: numbers[0] as usize,
        heldout: has_heldout.then_some(heldout),
        best: best && has_heldout,
    }
}

/// A setting that is not the one that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Key of the setting, such as `lr` or `dataset.sha256`.
    pub key: String,
    /// What the run was begun with; null where it had none.
    pub old: Value,
    /// Value of the setting now.
    pub new: Value,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} was {}, is {}", self.key, short(&self.old), short(&self.new))
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        value => one_line(&value.to_string()),
    };
    if text.chars().count() > 40 { text.chars().take(16).chain(['…']).collect() } else { text }
}

/// Settings of `new` that are not as in `old`, in its order. What only `old` has is no setting of this run.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(key: &str, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, new) in new {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, old.get(name).unwrap_or(&Value::Null), new, found);
            }
        }
        (old, new) if old != new => {
            found.push(Difference { key: key.to_owned(), old: old.clone(), new: new.clone() });
        }
        _ => {}
    }
}

/// Removes the newest checkpoint, where it is broken: the next one would replace an older one that is whole.
///
/// # Errors
/// The file cannot be removed.
pub fn remove_newest(dir: &Path) -> Result<()> {
    files::remove(&dir.join(NEWEST))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
