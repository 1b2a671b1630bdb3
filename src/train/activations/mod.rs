//! What never changes in a run, computed once a pair: the residual after block L, the lowest that is steered (or after each of
//! several candidates for it, all from one pass), and the reference log-probabilities. The reference pass is the policy's pass
//! with nothing added. Of the rows before every steered one, as a prompt's where only responses are steered, nothing above L
//! changes either: their keys and values take the residual's place, and the predictions made from them are constants.
//!
//! Begin with [`CachePlan`], which decides what is kept where, and [`Activations`], what its `compute` makes.

mod plan;
mod store;

use candle_core::{Device, Tensor};

use crate::model::Model;
use crate::model::plan::{FrozenKeys, PassPlan};
use crate::ops::head::Gradient;
use crate::session::CachePlace;
use crate::session::demand::ROWS_A_READING;
use crate::steering::layers::Layers;
use crate::steering::positions::Positions;
use crate::steering::{Steering, dose};
use crate::text::tokens::EncodedPair;
use crate::train::batch::{Batch, PairRows, Reference, Sharing};
use crate::train::collective::{Collective, RankRecord, Share};
use crate::train::objective::{PairLogProbs, PairReference};
use crate::{Error, Result};

pub use plan::{CacheOptions, CacheSize, Reuse};
use store::{CachedTensor, StoreWriter, TensorStore};

/// Rows of one pass while the cache is made: enough to keep the matrix products busy.
const ROWS_A_PASS: usize = 768;

/// What is kept of one pair.
#[derive(Debug, Clone)]
pub struct CachedPair {
    /// Rows of the pair.
    pub rows: PairRows,
    /// Log-probabilities of its responses under the unsteered model.
    pub reference: PairLogProbs,
    /// What the frozen rows contribute to any policy's log-probabilities.
    constant: PairLogProbs,
    /// Residual of the live rows after block L, model dtype. `(live, H)`
    residual: CachedTensor,
    /// Keys and values of the frozen rows in the blocks from `Activations::keys_from` on, model dtype; a tensor for each run of
    /// blocks on one device. `(blocks, 2, frozen, K·D)` each
    keys: Vec<CachedTensor>,
}

impl CachedPair {
    /// What an objective compares the steered pair with.
    pub fn pair_reference(&self) -> PairReference {
        PairReference { log_probs: self.reference, tokens: self.rows.response_tokens() }
    }
}

/// The pairs of a data set at one layer, or those of them that this process computes.
#[derive(Debug, Clone)]
pub struct Activations {
    /// The lowest steered layer L.
    pub layer: usize,
    /// The cached pairs, in their order.
    pub entries: Vec<CachedPair>,
    /// 0-based row in the data set of every pair, also of those that other processes compute.
    pub(crate) data_rows: Vec<usize>,
    /// The processes that have the pairs between them.
    collective: Collective,
    /// The block that the entries' keys begin with: candidates for L share those of the lowest.
    keys_from: usize,
    store: TensorStore,
}

/// Pairs laid out, and what caching them takes.
#[derive(Debug)]
pub struct CachePlan<'m> {
    model: &'m Model,
    layers: Layers,
    sets: Vec<Vec<PairRows>>,
    options: CacheOptions,
    size: CacheSize,
}

impl<'m> CachePlan<'m> {
    /// Vectors will be added from `layer` on, at `positions`; the responses of a pair share the rows of `sharing`.
    ///
    /// # Errors
    /// No row of a set is steered, or what does not fit in memory does not fit in the file system either.
    pub fn new(
        model: &'m Model,
        sets: &[&[EncodedPair]],
        layer: usize,
        (positions, sharing): (Positions, Sharing),
        options: &CacheOptions,
    ) -> Result<Self> {
        Self::at_each(model, sets, layer.into(), (positions, sharing), options)
    }

    /// Plans like [`CachePlan::new`], with each of `layers` as the first that is steered: [`CachePlan::compute_each`] makes
    /// their activations in one pass.
    ///
    /// # Errors
    /// As [`CachePlan::new`].
    pub fn at_each(
        model: &'m Model,
        sets: &[&[EncodedPair]],
        layers: Layers,
        (positions, sharing): (Positions, Sharing),
        options: &CacheOptions,
    ) -> Result<Self> {
        layers.check(model.num_blocks())?;
        let (sets, size) = plan::plan(model, sets, &layers, (positions, sharing), options)?;
        Ok(Self { model, layers, sets, options: options.clone(), size })
    }

    /// Layers whose residuals are kept, ascending.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// What the cache takes.
    pub fn size(&self) -> &CacheSize {
        &self.size
    }

    /// Runs every pair once through the whole model. `on_progress` gets the number of pairs done and of all. → by set, at
    /// the lowest layer.
    ///
    /// # Errors
    /// A log-probability is not finite (names the row), the file cannot be written, or `on_progress` fails.
    pub fn compute(self, on_progress: impl FnMut(usize, usize) -> Result<()>) -> Result<Vec<Activations>> {
        Ok(self.compute_each(on_progress)?.swap_remove(0))
    }

    /// Computes like [`CachePlan::compute`], for every layer. → by layer, ascending, then by set.
    ///
    /// # Errors
    /// As [`CachePlan::compute`].
    pub fn compute_each(self, mut on_progress: impl FnMut(usize, usize) -> Result<()>) -> Result<Vec<Vec<Activations>>> {
        let (memory, device) = match self.size.place {
            CachePlace::Host => (self.options.memory.0, Some(Device::Cpu)),
            _ => (u64::MAX, None),
        };
        let mut writer = StoreWriter::new(memory, device, &self.options.spill_dir);
        let mut done = 0;
        on_progress(0, self.size.pairs)?;
        let mut computed: Vec<Vec<Vec<CachedPair>>> = vec![Vec::new(); self.layers.as_slice().len()];
        let collective = self.options.collective;
        let share = collective.share();
        // Blocks that are in their file are read once for many passes.
        let reads = self.model.reads_any(0..self.layers.lowest() + 1);
        let at_once = if reads { ROWS_A_READING } else { 0 };
        let own: Vec<Vec<PairRows>> = self.sets.iter().map(|set| share.of(set)).collect();
        for mut rows in own.iter().map(Vec::as_slice) {
            computed.iter_mut().for_each(|sets| sets.push(Vec::with_capacity(rows.len())));
            while !rows.is_empty() {
                let (mut groups, mut held) = (Vec::new(), 0);
                while !rows.is_empty() {
                    let (group, later) = rows.split_at(group_len(share, rows.iter().map(|pair| pair.branches.rows())));
                    held += group.iter().map(|pair| pair.branches.rows()).sum::<usize>();
                    if !groups.is_empty() && held > at_once {
                        break;
                    }
                    groups.push(Group::new(self.model, group)?);
                    rows = later;
                }
                let on_block = &mut || if reads { on_progress(done, self.size.pairs) } else { Ok(()) };
                for (group, residual) in lower(self.model, groups, self.layers.lowest(), on_block)? {
                    done += group.pairs.len();
                    let by_layer = compute_group(self.model, group, residual, &self.layers, &mut writer)?;
                    for (sets, entries) in computed.iter_mut().zip(by_layer) {
                        if let Some(set) = sets.last_mut() {
                            set.extend(entries);
                        }
                    }
                    on_progress(done, self.size.pairs)?;
                }
            }
        }
        let store = writer.finish()?;
        let keys_from = self.layers.lowest() + 1;
        let at = |(layer, sets): (&usize, Vec<Vec<CachedPair>>)| {
            let activations = |(entries, set): (Vec<CachedPair>, &Vec<PairRows>)| {
                let data_rows = set.iter().map(|pair| pair.row).collect();
                let collective = collective.clone();
                Activations { layer: *layer, entries, data_rows, collective, keys_from, store: store.clone() }
            };
            sets.into_iter().zip(&self.sets).map(activations).collect()
        };
        Ok(self.layers.as_slice().iter().zip(computed).map(at).collect())
    }
}

impl Activations {
    /// One set of pairs, all in memory.
    ///
    /// # Errors
    /// As [`CachePlan::new`] and [`CachePlan::compute`].
    pub fn compute(model: &Model, pairs: &[EncodedPair], layer: usize, positions: Positions) -> Result<Self> {
        let options = CacheOptions { memory: crate::machine::bytes::Bytes(u64::MAX), ..CacheOptions::default() };
        let mut sets = CachePlan::new(model, &[pairs], layer, (positions, Sharing::All), &options)?.compute(|_, _| Ok(()))?;
        Ok(sets.remove(0))
    }

    /// Number of pairs, also of those that other processes compute.
    pub fn pairs(&self) -> usize {
        self.data_rows.len()
    }

    /// The processes that have the pairs between them.
    pub(crate) fn collective(&self) -> &Collective {
        &self.collective
    }

    /// Share of the pairs that this process has.
    pub(crate) fn share(&self) -> Share {
        self.collective.share()
    }

    /// What is known of every pair in their order, given what this process made of its entries.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub(crate) fn gather<T: RankRecord>(&self, own: Vec<T>) -> Result<Vec<T>> {
        self.collective.gather(self.pairs(), own)
    }

    /// Hands over what `make` gives for each pair, a record of about so many `bytes`, in their order, with its 0-based row in the
    /// data set.
    ///
    /// # Errors
    /// `make` fails, or another rank has ended the job.
    pub(crate) fn each<T: RankRecord>(
        &self,
        bytes: usize,
        make: impl Fn(&CachedPair) -> Result<T>,
        mut take: impl FnMut(usize, T),
    ) -> Result<()> {
        let entry = |pair| &self.entries[self.share().place(pair)];
        let take = |pair: usize, made| take(self.data_rows[pair], made);
        self.collective.each(self.pairs(), bytes, |pair| make(entry(pair)), take)
    }

    /// The own ones of these pairs. → `(place among `pairs`, entry)`
    pub(crate) fn own(&self, pairs: &[usize]) -> Vec<(usize, &CachedPair)> {
        let own = pairs.iter().enumerate().filter(|(_, pair)| self.share().owns(**pair));
        own.map(|(at, pair)| (at, &self.entries[self.share().place(*pair)])).collect()
    }

    /// Some entries as one pass through the upper blocks, and the residual that it begins with. `(live, H)`
    pub fn batch<'m>(&self, model: &'m Model, entries: &[&CachedPair]) -> Result<(Batch<'m>, Tensor)> {
        let rows: Vec<&PairRows> = entries.iter().map(|entry| &entry.rows).collect();
        let first = self.layer + 1;
        let mut frozen = FrozenKeys::from(first);
        for (index, run) in model.runs_from(self.keys_from).filter(|run| !run.is_empty()).enumerate() {
            let below = first.saturating_sub(run.start).min(run.len());
            let keys =
                |stored: &CachedTensor| -> Result<Tensor> { Ok(self.store.get(stored)?.narrow(0, below, run.len() - below)?) };
            let stored = entries.iter().filter_map(|entry| entry.keys.get(index)).filter(|_| below < run.len());
            frozen.push(&stored.map(keys).collect::<Result<Vec<_>>>()?, model.device_at(run.start))?;
        }
        let residuals: Vec<Tensor> = entries.iter().map(|entry| self.store.get(&entry.residual)).collect::<Result<_>>()?;
        let constants: Vec<PairLogProbs> = entries.iter().map(|entry| entry.constant).collect();
        let batch = Batch::live(model, &rows, &constants, &frozen)?;
        let residual = batch.join(&residuals)?.to_device(model.device_at(first))?;
        Ok((batch, residual))
    }

    /// Median of what each pair's dose divides by, over its steered rows; none where no row is.
    pub(crate) fn dose_divisors(&self, steering: &Steering, device: &Device) -> Result<Vec<Option<f64>>> {
        let divisor = |entry: &CachedPair| -> Result<Option<f64>> {
            let divisors = steering.dose_divisors(&self.residual(entry, device)?)?;
            Ok(dose::median_of_steered(divisors, entry.rows.steered_live()))
        };
        self.entries.iter().map(divisor).collect()
    }

    /// The residual of an entry's live rows after block L, in the model's dtype. → `(live, H)`
    pub(crate) fn residual(&self, entry: &CachedPair, device: &Device) -> Result<Tensor> {
        Ok(self.store.get(&entry.residual)?.to_device(device)?)
    }

    /// Log-probabilities of the responses of all entries under the steered model, a few pairs a pass.
    pub fn score(&self, model: &Model, steering: &Steering) -> Result<Vec<PairLogProbs>> {
        self.score_each(model, steering, None, &mut || Ok(()))
    }

    /// Scores like [`Activations::score`], but with the untouched model's log-probabilities of the entries that are not
    /// `steered`, where that is said. `on_pass` is called after each pass, and its error ends the work.
    ///
    /// # Errors
    /// As [`Activations::score`], or `on_pass` fails.
    pub(crate) fn score_each(
        &self,
        model: &Model,
        steering: &Steering,
        steered: Option<&[bool]>,
        on_pass: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<PairLogProbs>> {
        let is_steered = |at: usize| steered.is_none_or(|steered| steered[at]);
        let mut scores: Vec<PairLogProbs> = self.entries.iter().map(|entry| entry.reference).collect();
        let wanted: Vec<usize> = (0..scores.len()).filter(|at| is_steered(*at)).collect();
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let live_rows = rest.iter().map(|at| self.entries[*at].rows.live_rows().count());
            let (group, later) = rest.split_at(group_len(self.share(), live_rows));
            let (batch, residual) = self.batch(model, &group.iter().map(|at| &self.entries[*at]).collect::<Vec<_>>())?;
            let found = batch.log_probs(&batch.upper(&residual, self.layer, steering, Gradient::NotWanted)?)?;
            group.iter().zip(found).for_each(|(at, found)| scores[*at] = found);
            on_pass()?;
            rest = later;
        }
        Ok(scores)
    }
}

/// How many of the first pairs go through in one pass; at least one.
fn group_len(share: Share, rows: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fitting = rows.take_while(|rows| {
        sum += rows;
        sum <= ROWS_A_PASS
    });
    share.items_a_pass(fitting.count().max(1))
}

/// Pairs that go through in one pass, of every row.
struct Group<'a> {
    pairs: &'a [PairRows],
    batch: Batch<'a>,
    ids: Vec<u32>,
}

impl<'a> Group<'a> {
    fn new(model: &'a Model, pairs: &'a [PairRows]) -> Result<Self> {
        let rows: Vec<&PairRows> = pairs.iter().collect();
        let batch = Batch::new(model, &rows)?;
        Ok(Self { pairs, ids: batch.ids(&rows), batch })
    }
}

/// The residual of each group after block `layer`; `on_block` is called before each block. `(T, H)` each
fn lower<'a>(
    model: &Model,
    groups: Vec<Group<'a>>,
    layer: usize,
    on_block: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<(Group<'a>, Tensor)>> {
    let mut residuals = groups.iter().map(|group| model.embed(&group.ids)).collect::<Result<_>>()?;
    let plans: Vec<&PassPlan> = groups.iter().map(|group| &group.batch.plan).collect();
    for block in 0..layer + 1 {
        on_block()?;
        residuals = model.run_each(block, residuals, &plans)?;
    }
    Ok(groups.into_iter().zip(residuals).collect())
}

/// Entries of a group's pairs, by layer, given its residual after the lowest one. `(T, H)`
fn compute_group(
    model: &Model,
    Group { pairs: group, batch, .. }: Group,
    residual: Tensor,
    layers: &Layers,
    writer: &mut StoreWriter,
) -> Result<Vec<Vec<CachedPair>>> {
    let reference = batch.reference(&residual, layers)?;
    check_finite(group, &reference)?;
    let runs: Vec<usize> = model.runs_from(layers.lowest() + 1).map(|run| run.len()).collect();
    let keys = keys_of(group, &reference, &runs, writer)?;
    let last = model.num_blocks() - 1;
    let entries = |(layer, residual): (&usize, &Tensor)| -> Result<Vec<CachedPair>> {
        // A run that steers the last block scores the whole block's output: to the bit, that is another product.
        let own = (*layer == last && layers.lowest() < last).then(|| batch.reference(residual, &last.into())).transpose()?;
        let scores = own.as_ref().unwrap_or(&reference);
        let mut entries = Vec::with_capacity(group.len());
        for (index, rows) in group.iter().enumerate() {
            let live = Tensor::new(batch.places_of_live(index, rows), residual.device())?;
            entries.push(CachedPair {
                rows: rows.clone(),
                reference: scores.log_probs[index],
                constant: scores.constants[index],
                residual: writer.put(residual.index_select(&live, 0)?)?,
                keys: if *layer < last { keys[index].clone() } else { Vec::new() },
            });
        }
        Ok(entries)
    };
    layers.as_slice().iter().zip(&reference.residuals).map(entries).collect()
}

fn check_finite(group: &[PairRows], reference: &Reference) -> Result<()> {
    let is_finite = |log_probs: &PairLogProbs| log_probs.iter().all(|log_prob| log_prob.is_finite());
    match reference.log_probs.iter().position(|log_probs| !is_finite(log_probs)) {
        Some(index) => {
            let row = group[index].row;
            let problem = "the unsteered model's log-probability is not finite";
            Err(Error::NotFinite(format!("row {row}: {problem}")))
        }
        None => Ok(()),
    }
}

/// Keeps the keys and values of each pair's frozen rows. `runs` are the numbers of blocks that lie on one device.
fn keys_of(
    group: &[PairRows],
    reference: &Reference,
    runs: &[usize],
    writer: &mut StoreWriter,
) -> Result<Vec<Vec<CachedTensor>>> {
    let mut start = 0;
    let mut keep = |rows: &PairRows| -> Result<Vec<CachedTensor>> {
        let (first, count) = (start, rows.frozen_rows().count());
        start += count;
        if reference.keys.is_empty() || count == 0 {
            return Ok(Vec::new());
        }
        let mut rest = reference.keys.as_slice();
        let mut keep_run = |blocks: &usize| {
            let (run, others) = rest.split_at(*blocks);
            rest = others;
            writer.put(pack(run, first, count)?)
        };
        runs.iter().filter(|blocks| **blocks > 0).map(&mut keep_run).collect()
    };
    group.iter().map(&mut keep).collect()
}

/// Some rows of each block's keys and values. → `(blocks, 2, len, K·D)`
fn pack(keys: &[[Tensor; 2]], start: usize, len: usize) -> Result<Tensor> {
    let narrowed: Vec<Tensor> = keys.iter().flatten().map(|t| t.narrow(0, start, len)).collect::<candle_core::Result<_>>()?;
    let (_, width) = narrowed[0].dims2()?;
    Ok(Tensor::stack(&narrowed, 0)?.reshape((keys.len(), 2, len, width))?)
}
