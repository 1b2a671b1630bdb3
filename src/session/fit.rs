//! Whether a demand fits the memory that is free, the machine's or a device's own, and what would help where it does not. An
//! estimate of the large parts alone. Pure arithmetic: what is free comes from `machine`.

use std::fmt;

use candle_core::DType;

use super::cache_place::CachePlace;
use super::demand::{Demand, Need};
use crate::Error;
use crate::machine::bytes::Bytes;
use crate::machine::device::DeviceMemory;
use crate::model::config::Config;
use crate::model::weights::WeightStorage;

/// Largest number of choices that are named where main memory is short.
const MOST_FITS: usize = 4;

/// A demand that a device has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Place where the activation cache has room.
    pub cache: CachePlace,
    /// Memory that the demand takes.
    pub need: Need,
    /// Memory of the device.
    pub memory: DeviceMemory,
    /// Owner of that memory.
    pub of: MemoryOf,
    has_cache: bool,
}

/// A demand that memory has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Owner of the memory that is short.
    pub of: MemoryOf,
    /// Memory that the demand would take.
    pub need: Need,
    /// Memory that is free.
    pub free: Bytes,
    /// What makes the need smaller, each by itself, where it is not known by how much.
    pub helps: Vec<Remedy>,
    /// Changes that fit, each set of them with what is taken then; those nearest to what was wanted come first.
    pub fits: Vec<(Vec<Remedy>, Bytes)>,
}

/// Whose memory is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryOf {
    /// The machine's main memory.
    Machine,
    /// The own memory of the one device.
    Device,
    /// The own memory of that one of several devices which holds the blocks from the first to the second number.
    Blocks(u32, u32),
}

impl MemoryOf {
    /// Returns the device whose memory a demand is about.
    fn device(demand: &Demand) -> Self {
        match &demand.stage {
            Some(blocks) => Self::Blocks(blocks.start as u32, blocks.end.saturating_sub(1) as u32),
            None => Self::Device,
        }
    }
}

/// A change of what is wanted that takes less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Weights and activations have this dtype.
    DType(DType),
    /// A step of this many pairs.
    BatchSize(usize),
    /// The activation cache lies in main memory.
    CacheOnHost,
    /// The activation cache lies in a file.
    CacheInFile,
    /// Matrices stay in their file, as it has them.
    StoredWeights,
    /// Shorter pairs, or fewer a step.
    SmallerStep,
    /// Generate this many texts at once.
    Branches(usize),
    /// Texts of at most this many tokens are generated.
    NewTokens(usize),
    /// A smaller model.
    SmallerModel,
    /// Another device, or a smaller model.
    OtherDevice,
}

/// Whether a demand fits a device of this memory. The cache goes where it is wanted, or with [`CachePlace::Auto`] to main
/// memory where the device has no room.
///
/// # Errors
/// More is needed than is free.
pub(crate) fn on_device(demand: &Demand, config: &Config, dtype: DType, memory: DeviceMemory) -> Result<Fit, Shortage> {
    let free = memory.free;
    let has_cache = demand.on_device(config, dtype).cache.0 > 0;
    let need_of = |wanted: &Demand, dtype| Some(wanted.on_device(config, dtype)).filter(|need| need.total() <= free);
    let places = match demand.cache {
        CachePlace::Auto if has_cache => [CachePlace::Device, CachePlace::Host],
        CachePlace::Auto => [CachePlace::Device; 2],
        place => [place; 2],
    };
    let at = |cache| Demand { cache, ..demand.clone() };
    if let Some((cache, need)) = places.into_iter().find_map(|cache| Some((cache, need_of(&at(cache), dtype)?))) {
        return Ok(Fit { cache, need, memory, of: MemoryOf::device(demand), has_cache });
    }
    let on_host = if has_cache { at(CachePlace::Host) } else { demand.clone() };
    let smaller = |dtype| {
        let sizes = (1..demand.batch_size.min(demand.rows.len().max(1))).rev();
        sizes.map(|batch_size| Demand { batch_size, ..on_host.clone() }).find_map(|wanted| fitting(&wanted, dtype, &need_of))
    };
    let half = (DType::BF16.size_in_bytes() < dtype.size_in_bytes()).then_some(DType::BF16);
    let found = [
        fitting(&on_host, dtype, &need_of),
        smaller(dtype),
        half.and_then(|dtype| fitting(demand, dtype, &need_of).or_else(|| fitting(&on_host, dtype, &need_of))),
        half.and_then(smaller),
    ];
    let mut fits: Vec<(DType, Vec<Remedy>, Bytes)> = Vec::new();
    for (wanted, of, need) in found.into_iter().flatten() {
        // What needs a smaller batch beside another dtype says nothing new where the dtype alone does.
        if !fits.iter().any(|(other, ..)| *other == of) {
            fits.push((of, changes(demand, dtype, &wanted, of), need.total()));
        }
    }
    let mut fits: Vec<(Vec<Remedy>, Bytes)> = fits.into_iter().map(|(_, remedies, total)| (remedies, total)).collect();
    let need = at(places[1]).on_device(config, dtype);
    fits.extend(shorter_sweeps(demand, config, &need, dtype, free));
    let helps = if fits.is_empty() { vec![Remedy::OtherDevice] } else { Vec::new() };
    Err(Shortage { of: MemoryOf::device(demand), need, free, helps, fits })
}

/// A demand with what it takes in a dtype, where that fits.
fn fitting(wanted: &Demand, dtype: DType, need_of: &impl Fn(&Demand, DType) -> Option<Need>) -> Option<(Demand, DType, Need)> {
    need_of(wanted, dtype).map(|need| (wanted.clone(), dtype, need))
}

/// What leads from one demand to another.
fn changes(from: &Demand, from_dtype: DType, to: &Demand, dtype: DType) -> Vec<Remedy> {
    let all = [
        (dtype != from_dtype).then_some(Remedy::DType(dtype)),
        (to.batch_size != from.batch_size).then_some(Remedy::BatchSize(to.batch_size)),
        // Left to itself it goes there without being told.
        (to.cache == CachePlace::Host && from.cache == CachePlace::Device).then_some(Remedy::CacheOnHost),
    ];
    all.into_iter().flatten().collect()
}

/// Fewer texts at once, or shorter ones, or one shorter one, that fit beside the rest of a need.
fn shorter_sweeps(demand: &Demand, config: &Config, need: &Need, dtype: DType, free: Bytes) -> Vec<(Vec<Remedy>, Bytes)> {
    let others = need.total().0 - need.keys.0 - need.logits.0;
    let room = free.0.saturating_sub(others);
    let sweep = demand.sweep;
    let (a_token, logits) = (demand.keys_a_token(config) * dtype.size_in_bytes() as u64, demand.logits_a_branch(config));
    let (count, tokens) = (sweep.branches as u64, sweep.tokens(config));
    let mut fits = Vec::new();
    let a_branch = tokens.saturating_mul(a_token).saturating_add(logits);
    let branches = room / a_branch.max(1);
    if (1..count).contains(&branches) {
        fits.push((vec![Remedy::Branches(branches as usize)], Bytes(others + branches * a_branch)));
    }
    let most = (room / count.max(1)).saturating_sub(logits) / a_token.max(1);
    let new_tokens = most.saturating_sub(sweep.prompt_tokens as u64);
    if count > 0 && (1..sweep.new_tokens as u64).contains(&new_tokens) {
        let tokens = sweep.prompt_tokens as u64 + new_tokens;
        fits.push((vec![Remedy::NewTokens(new_tokens as usize)], Bytes(others + count * (tokens * a_token + logits))));
    }
    let of_one = (room.saturating_sub(logits) / a_token.max(1)).saturating_sub(sweep.prompt_tokens as u64);
    if fits.is_empty() && count > 1 && (1..sweep.new_tokens as u64).contains(&of_one) {
        let tokens = sweep.prompt_tokens as u64 + of_one;
        let remedies = vec![Remedy::Branches(1), Remedy::NewTokens(of_one as usize)];
        fits.push((remedies, Bytes(others + tokens * a_token + logits)));
    }
    fits
}

/// Whether a demand fits the main memory of which `free` bytes can be taken, with weights of `weights` bytes that are stored
/// as `storage` says, and activations of `dtype`.
///
/// # Errors
/// More is needed than is free.
pub(crate) fn on_host(
    demand: &Demand,
    config: &Config,
    (weights, storage): (Bytes, WeightStorage),
    dtype: DType,
    free: Bytes,
) -> Result<(), Shortage> {
    let need = demand.on_host(config, weights, dtype);
    if need.total() <= free {
        return Ok(());
    }
    let stored = (storage == WeightStorage::Dense && need.weights.0 > 0).then_some(Remedy::StoredWeights);
    let in_file = (need.cache.0 > 0 && demand.cache != CachePlace::Device).then_some(Remedy::CacheInFile);
    let all: Vec<Remedy> = stored.into_iter().chain(in_file).collect();
    let mut ways: Vec<&[Remedy]> = vec![&[]];
    ways.extend(all.chunks(1));
    ways.extend((all.len() > 1).then_some(all.as_slice()));
    let mut fits: Vec<(Vec<Remedy>, Bytes)> = Vec::new();
    for (remedies, total) in ways.into_iter().flat_map(|way| with_remedies(demand, config, (weights, dtype), way, free)) {
        // What needs one more remedy says nothing new.
        if !fits.iter().any(|(others, _)| others.iter().all(|other| remedies.contains(other))) {
            fits.push((remedies, total));
        }
    }
    fits.truncate(MOST_FITS);
    // By how much pairs must be shorter is not known.
    let is_step_large = need.activations.0 > free.0 / 2;
    let helps = match fits.is_empty() {
        false => Vec::new(),
        true if is_step_large => [all, vec![Remedy::SmallerStep]].concat(),
        true => vec![Remedy::SmallerModel],
    };
    Err(Shortage { of: MemoryOf::Machine, need, free, helps, fits })
}

/// What fits in main memory with `remedies` and, where they are not enough, with a smaller step or sweep.
fn with_remedies(
    demand: &Demand,
    config: &Config,
    (weights, dtype): (Bytes, DType),
    remedies: &[Remedy],
    free: Bytes,
) -> Vec<(Vec<Remedy>, Bytes)> {
    let need_of = |demand: &Demand| {
        let weights = if remedies.contains(&Remedy::StoredWeights) { Bytes(0) } else { weights };
        match remedies.contains(&Remedy::CacheInFile) {
            true => demand.clone().cached(demand.cache, Bytes(0)).on_host(config, weights, dtype),
            false => demand.on_host(config, weights, dtype),
        }
    };
    let need = need_of(demand);
    if need.total() <= free {
        return vec![(remedies.to_vec(), need.total())];
    }
    let sizes = (1..demand.batch_size.min(demand.rows.len().max(1))).rev();
    let batches = sizes.map(|batch_size| (batch_size, need_of(&Demand { batch_size, ..demand.clone() }).total()));
    let smaller = batches.into_iter().find(|(_, total)| *total <= free);
    let smaller = smaller.map(|(batch_size, total)| (vec![Remedy::BatchSize(batch_size)], total));
    let found = smaller.into_iter().chain(shorter_sweeps(demand, config, &need, dtype, free));
    found.map(|(last, total)| ([remedies, &last].concat(), total)).collect()
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { cache, need, memory: DeviceMemory { free, total }, of, has_cache } = self;
        write!(f, "{of}: about {} of {free} free ({total} in all): {need}", need.total())?;
        if *has_cache && *cache == CachePlace::Host { write!(f, ", activation cache in main memory") } else { Ok(()) }
    }
}

impl fmt::Display for MemoryOf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Machine => write!(f, "memory"),
            Self::Device => write!(f, "device memory"),
            Self::Blocks(first, last) => write!(f, "device memory of blocks {first} to {last}"),
        }
    }
}

impl Shortage {
    /// One line that says what is needed, what is free and what would help; `name` names remedies that belong together.
    pub fn message(&self, name: impl Fn(&[Remedy]) -> String) -> String {
        let Self { of, need, free, helps, fits } = self;
        let fits: Vec<String> = fits.iter().map(|(remedies, total)| format!("{} ({total})", name(remedies))).collect();
        let helps = helps.iter().map(|remedy| name(&[*remedy]));
        let fits = (!fits.is_empty()).then(|| format!("what fits: {}", fits.join(", or ")));
        let advice: Vec<String> = helps.chain(fits).collect();
        let (total, advice) = (need.total(), advice.join("; "));
        format!("not enough {of}: about {total} are needed ({need}), {free} are free; {advice}")
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words = |remedies: &[Remedy]| remedies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        f.write_str(&self.message(words))
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::DType(dtype) => write!(f, "dtype {}", format!("{dtype:?}").to_lowercase()),
            Self::BatchSize(pairs) => write!(f, "batch size {pairs}"),
            Self::CacheOnHost => write!(f, "the activation cache in main memory"),
            Self::CacheInFile => write!(f, "a cache memory of 0, with the cache in a file"),
            Self::StoredWeights => write!(f, "quantized weights that stay in their file"),
            Self::SmallerStep => write!(f, "shorter pairs or a batch size of 1 make a step smaller"),
            Self::Branches(count) => write!(f, "{count} magnitudes"),
            Self::NewTokens(count) => write!(f, "{count} new tokens"),
            Self::SmallerModel => write!(f, "a smaller model fits"),
            Self::OtherDevice => write!(f, "a smaller model or the CPU"),
        }
    }
}

impl From<Shortage> for Error {
    fn from(shortage: Shortage) -> Self {
        Self::Memory(shortage.to_string())
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
