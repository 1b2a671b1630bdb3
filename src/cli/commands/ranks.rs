//! What the ranks of one run do beside training: they see to it that they are about to compute the same, and those that are not the
//! first say and write nothing.

use std::path::PathBuf;

use bipo::machine::files::sampled_sha256;
use bipo::session::Session;
use bipo::train::checkpoint::differences;
use bipo::train::collective::Collective;
use bipo::train::{EpochRecord, Observer, StepRecord};
use bipo::{Error, Result};
use serde_json::{Map, Value, json};

use crate::commands::interrupt::Interrupt;
use crate::terminal::Log;

/// The instructions that a rank multiplies matrices with: others round otherwise.
const KERNEL: &str = "product_kernel";

/// Refuses a run whose ranks would not all compute the same: `identity` is what the bytes of its result depend on, beside the
/// model's files.
pub fn check_same(collective: &Collective, identity: &Value, opened: &Session, log: Log) -> Result<()> {
    if collective.ranks() == 1 {
        return Ok(());
    }
    let mut own = identity.clone();
    own["bipo_version"] = json!(env!("CARGO_PKG_VERSION"));
    own["model_files"] = model_files(opened)?;
    // What `auto` came to on this machine.
    own["weights"] = json!(format!("{:?}", opened.placement.storage));
    own[KERNEL] = json!(opened.placement.product_kernel());
    let all = collective.exchange(own.to_string().as_bytes())?;
    let all: Vec<Value> = all.iter().map(|json| serde_json::from_slice(json).unwrap_or_default()).collect();
    for (rank, other) in all.iter().enumerate().skip(1) {
        let keys = differing(&all[0], other);
        if !keys.is_empty() {
            return Err(Error::Argument(format!(
                "rank {rank} and rank 0 would not compute the same, they differ in {}: give all ranks the same files, flags and build",
                keys.join(", ")
            )));
        }
    }
    let kernels: Vec<&Value> = all.iter().map(|rank| &rank[KERNEL]).collect();
    if let Some(rank) = kernels.iter().position(|kernel| *kernel != kernels[0]) {
        log.warn(format!(
            "rank 0 multiplies matrices by {}, rank {rank} by {}: the bytes of the result depend on which rank computes which pair; set \
             BIPO_KERNEL on all of them to the one that all have",
            kernels[0], kernels[rank]
        ));
    }
    Ok(())
}

/// The settings in which two ranks differ, but for the instructions.
fn differing(first: &Value, other: &Value) -> Vec<String> {
    // Each looks at the keys of its second alone.
    let both = differences(first, other).into_iter().chain(differences(other, first));
    let mut keys: Vec<String> = Vec::new();
    for key in both.map(|difference| difference.key).filter(|key| key != KERNEL) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The files of a model by name, each with its length and a hash.
fn model_files(opened: &Session) -> Result<Value> {
    let described = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, json!(sampled_sha256(&path)?)))
    };
    Ok(Value::Object(opened.read_from().into_iter().map(described).collect::<Result<Map<_, _>>>()?))
}

/// What a rank that is not the first does while it trains: it asks whether the user wants to stop.
pub struct Silent(pub Interrupt);

impl Observer for Silent {
    fn cached(&mut self, _: usize, _: usize) -> Result<()> {
        self.0.check()
    }

    fn step(&mut self, _: &StepRecord, _: usize) -> Result<()> {
        Ok(())
    }

    fn epoch(&mut self, _: &EpochRecord, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.0.is_raised()
    }
}
