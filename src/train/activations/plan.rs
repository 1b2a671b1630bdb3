//! What the cache will take, counted from shapes before anything is computed, and the decisions that follow: whether it lies on
//! the model's device or in main memory, what goes to a file, and whether the rows before every steered one are kept as keys
//! and values.

use std::fmt;
use std::path::PathBuf;

use super::store::free_space;
use crate::machine::bytes::{Bytes, total_memory};
use crate::machine::device::{self, DeviceMemory};
use crate::model::Model;
use crate::session::CachePlace;
use crate::session::demand;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::text::tokens::EncodedPair;
use crate::train::batch::{PairRows, Sharing};
use crate::train::collective::{Collective, Share};
use crate::{Error, Result};

/// Limits of the cache.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Place of the cache.
    pub place: CachePlace,
    /// What may stay in main memory; the rest goes to a file.
    pub memory: Bytes,
    /// Directory in which the file is made.
    pub spill_dir: PathBuf,
    /// What the run takes of the device's memory beside model and cache.
    pub beside: Bytes,
    /// The processes that cache the pairs together, each its share of them.
    pub collective: Collective,
}

impl CacheOptions {
    /// The default of a process that caches its share of the pairs: the ranks of a machine share a quarter of its memory.
    pub fn shared(collective: &Collective) -> Self {
        let options = Self::default();
        let memory = Bytes(options.memory.0 / collective.on_this_machine().1 as u64);
        Self { memory, collective: collective.clone(), ..options }
    }
}

impl Default for CacheOptions {
    /// A quarter of the machine's memory (1 GiB where it is not known), and the system's directory for temporary files.
    fn default() -> Self {
        let memory = total_memory().map_or(1 << 30, |total| total.0 / 4);
        let (place, spill_dir) = (CachePlace::Auto, std::env::temp_dir());
        Self { place, memory: Bytes(memory), spill_dir, beside: demand::WORKSPACE, collective: Collective::SingleProcess }
    }
}

/// Rows that no vector can change, before every steered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// There are none, or so few that computing them costs little.
    Few,
    /// Their keys and values in the blocks above are cached, and they are computed once.
    Cached,
    /// Their keys and values would take this much, for which there is no room: they are computed at each step.
    NoRoom(Bytes),
}

/// What a cache takes.
#[derive(Debug, Clone)]
pub struct CacheSize {
    /// Number of pairs.
    pub pairs: usize,
    /// Rows of them, and those of the rows that are computed at each step.
    pub rows: usize,
    /// Rows that go through the upper blocks at each step.
    pub live_rows: usize,
    /// Layers whose residuals are kept.
    pub layers: usize,
    /// Size of the residuals after each of these layers.
    pub residuals: Bytes,
    /// Keys and values of the other rows.
    pub keys: Bytes,
    /// What becomes of the rows that never change.
    pub reuse: Reuse,
    /// Place of the cache: never [`CachePlace::Auto`].
    pub place: CachePlace,
    /// Whether that is the memory of a device of its own.
    pub on_gpu: bool,
    /// What of it all goes to a file.
    pub spilled: Bytes,
    /// Directory of that file.
    pub spill_dir: PathBuf,
}

impl CacheSize {
    /// Size of the whole cache.
    pub fn total(&self) -> Bytes {
        Bytes(self.residuals.0 + self.keys.0)
    }
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let of_layers = if self.layers > 1 { format!(" of {} layers", self.layers) } else { String::new() };
        write!(f, "activation cache: {} pairs, residuals{of_layers} {}", self.pairs, self.residuals)?;
        match self.reuse {
            Reuse::Few => {}
            Reuse::Cached => {
                let once = self.rows - self.live_rows;
                write!(f, ", keys and values {} ({once} of {} tokens are computed once)", self.keys, self.rows)?;
            }
            Reuse::NoRoom(keys) => write!(f, " (no room for {keys} of keys and values: prompts are computed at each step)")?,
        }
        match (self.spilled, self.on_gpu) {
            (Bytes(0), true) if self.place == CachePlace::Device => write!(f, ", on the device"),
            (Bytes(0), true) => write!(f, ", in main memory"),
            (Bytes(0), false) => write!(f, ", in memory"),
            (spilled, _) => write!(f, ", {spilled} of it in a temporary file in {}", self.spill_dir.display()),
        }
    }
}

/// The share of rows from which on it is worth keeping their keys and values.
const WORTHWHILE: f64 = 0.1;

/// Lays out each set of pairs; what is frozen in the rows then is what will be cached.
pub(super) fn plan(
    model: &Model,
    sets: &[&[EncodedPair]],
    layers: &Layers,
    (positions, sharing): (Positions, Sharing),
    options: &CacheOptions,
) -> Result<(Vec<Vec<PairRows>>, CacheSize)> {
    if !sets.iter().all(|pairs| pairs.iter().any(|pair| positions.reaches(pair))) {
        let problem = "no token that predicts a response would be steered: choose other positions or spans";
        return Err(Error::Argument(problem.into()));
    }
    let lay_out =
        |pairs: &&[EncodedPair]| pairs.iter().map(|pair| PairRows::sharing(pair, model, positions, sharing)).collect();
    let mut sets: Vec<Vec<PairRows>> = sets.iter().map(lay_out).collect();
    let on_gpu = !model.device().is_cpu();
    let memory = match (on_gpu, options.place) {
        (false, CachePlace::Device) => u64::MAX,
        (false, _) => options.memory.0,
        // The keys of a batch would take longer to come than to be computed.
        (true, CachePlace::Host) => 0,
        (true, _) => {
            let room = |memory: DeviceMemory| memory.free.0.saturating_sub(options.beside.0);
            // Where it fits on each device, it fits on those that hold its parts.
            model.devices().filter_map(device::memory).map(room).min().unwrap_or(u64::MAX)
        }
    };
    // Reading keys back beats computing them on a processor; a faster device would wait for them.
    let room = Room { memory, keys_on_disk: !on_gpu, disk: free_space(&options.spill_dir).unwrap_or(u64::MAX) };
    let row_bytes = RowBytes::of(model, layers);
    let is_own = |(pair, _): &(usize, &PairRows)| options.collective.share().owns(*pair);
    let all = RowCount::of(sets.iter().flatten());
    let own = RowCount::of(sets.iter().flat_map(|set| set.iter().enumerate().filter(is_own).map(|(_, rows)| rows)));
    let reuse = room.reuse(&all, &own, &row_bytes);
    // A device never keeps keys in main memory, so that all ranks agree there.
    let is_agreed = on_gpu && options.place == CachePlace::Host;
    if let (Reuse::NoRoom(keys), Share::OneOfEvery { .. }, false) = (reuse, options.collective.share(), is_agreed) {
        let remedy = match on_gpu {
            true => "take more ranks, or keep activations in main memory",
            false => "take more ranks, give the cache more memory, or set TMPDIR to a folder with more room",
        };
        return Err(Error::Memory(format!(
            "a rank has no room for {keys} of keys and values that are computed once: with other memory the result would have \
             other bytes; {remedy}"
        )));
    }
    if reuse != Reuse::Cached {
        sets.iter_mut().flatten().for_each(PairRows::recompute_all_rows);
    }
    let live_rows = if reuse == Reuse::Cached { own.live } else { own.rows };
    let mut size = CacheSize {
        pairs: own.pairs,
        rows: own.rows,
        live_rows,
        layers: layers.as_slice().len(),
        residuals: Bytes(live_rows as u64 * row_bytes.residual),
        keys: Bytes((own.rows - live_rows) as u64 * row_bytes.keys),
        reuse,
        place: options.place,
        on_gpu,
        spilled: Bytes(0),
        spill_dir: options.spill_dir.clone(),
    };
    size.place = match options.place {
        CachePlace::Auto if on_gpu && size.total().0 <= room.memory => CachePlace::Device,
        CachePlace::Auto => CachePlace::Host,
        place => place,
    };
    if size.place == CachePlace::Host {
        size.spilled = Bytes(size.total().0.saturating_sub(options.memory.0));
    }
    if size.spilled.0 > room.disk {
        let (needed, free) = (size.spilled, Bytes(room.disk));
        let problem = format!(
            "the activation cache takes {needed} beyond the {} that it may take of memory, but {free} are free there: free some \
             space or let it take more memory",
            options.memory
        );
        return Err(Error::write(&options.spill_dir, std::io::Error::new(std::io::ErrorKind::StorageFull, problem)));
    }
    Ok((sets, size))
}

/// What one row takes.
struct RowBytes {
    /// Bytes of the residual at all layers.
    residual: u64,
    /// Bytes of the keys and values; those of the lowest layer serve all.
    keys: u64,
}

impl RowBytes {
    fn of(model: &Model, layers: &Layers) -> Self {
        let (config, width) = (&model.config, model.dtype().size_in_bytes());
        let blocks = model.num_blocks() - layers.lowest() - 1;
        let keys = config.sizes().keys_a_row;
        let residual = layers.as_slice().len() * config.hidden_size * width;
        Self { residual: residual as u64, keys: (blocks * keys * width) as u64 }
    }
}

/// How many there are of some pairs and their rows.
#[derive(Default)]
struct RowCount {
    pairs: usize,
    rows: usize,
    live: usize,
}

impl RowCount {
    fn of<'a>(pairs: impl Iterator<Item = &'a PairRows>) -> Self {
        pairs.fold(Self::default(), |count, pair| Self {
            pairs: count.pairs + 1,
            rows: count.rows + pair.branches.rows(),
            live: count.live + pair.live_rows().count(),
        })
    }

    fn frozen(&self) -> usize {
        self.rows - self.live
    }
}

struct Room {
    memory: u64,
    keys_on_disk: bool,
    disk: u64,
}

impl Room {
    /// What becomes of a process's own frozen rows. Whether they are worth keeping depends on the rows of all processes, so that
    /// these decide alike.
    fn reuse(&self, all: &RowCount, own: &RowCount, row_bytes: &RowBytes) -> Reuse {
        if (all.frozen() as f64) < WORTHWHILE * all.rows as f64 {
            return Reuse::Few;
        }
        let keys = own.frozen() as u64 * row_bytes.keys;
        let spilled = (keys + own.live as u64 * row_bytes.residual).saturating_sub(self.memory);
        match spilled == 0 || (self.keys_on_disk && spilled <= self.disk) {
            true => Reuse::Cached,
            false => Reuse::NoRoom(Bytes(keys)),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
