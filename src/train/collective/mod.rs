//! Where the parts of a batch become its whole. One process computes all of them, or the ranks of an MPI job each compute some and
//! gather them here: every rank then adds up the same numbers in the same order. The file `mpi` alone knows MPI.
//!
//! All ranks must call the methods of [`Collective`] in the same order. A rank that fails calls [`Collective::end`] instead,
//! which ends the others' calls with [`Error::Ended`].
//!
//! Begin with [`Collective::join`] and `Collective::sum`; `record` says what ranks send each other.

#[cfg(feature = "mpi")]
#[path = "mpi.rs"]
mod ranks;
#[cfg(not(feature = "mpi"))]
#[path = "no_mpi.rs"]
mod ranks;
mod record;

use ranks::Ranks;
use record::{in_order, join, owner};

pub use record::{Json, RankRecord};

use crate::{Error, JobFailure, Result};

/// Loss and gradient of some pairs of a batch, as one pass through the upper blocks gives them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GradientPart {
    /// Mean loss of the pairs.
    pub loss: f64,
    /// Margin of each pair, before the direction is applied.
    pub margins: Vec<f64>,
    /// Gradient of the mean loss at v. `(layers·H)`
    pub gradient: Vec<f32>,
    /// Rows that went through the upper blocks.
    pub rows: usize,
}

/// The pairs of a set that a process computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Share {
    /// All pairs, as many in one pass as fit.
    #[default]
    All,
    /// One pair of every `ranks`, and one pair a pass: the result of a pass depends on which pairs are in it, and must not depend
    /// on the number of ranks.
    OneOfEvery {
        /// Number of processes that share the set.
        ranks: usize,
        /// Place of the first own pair, below `ranks`.
        first: usize,
    },
}

impl Share {
    /// Whether the pair at this place of the set is computed by this process.
    pub(crate) fn owns(self, pair: usize) -> bool {
        match self {
            Self::All => true,
            Self::OneOfEvery { ranks, first } => owner(pair, ranks) == first,
        }
    }

    /// The place that an own pair has among the own pairs.
    pub(crate) fn place(self, pair: usize) -> usize {
        match self {
            Self::All => pair,
            Self::OneOfEvery { ranks, .. } => pair / ranks,
        }
    }

    /// The own ones of the pairs of a set.
    pub fn of<T: Clone>(self, pairs: &[T]) -> Vec<T> {
        pairs.iter().enumerate().filter(|(pair, _)| self.owns(*pair)).map(|(_, item)| item.clone()).collect()
    }

    /// The most pairs that go through the blocks in one pass, of `wanted`.
    pub fn items_a_pass(self, wanted: usize) -> usize {
        match self {
            Self::All => wanted,
            Self::OneOfEvery { .. } => 1,
        }
    }
}

impl RankRecord for GradientPart {
    /// The part of a single pair.
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.loss, self.margins[0], self.rows as f64].to_bytes();
        numbers.into_iter().chain(self.gradient.iter().flat_map(|g| g.to_le_bytes())).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, gradient) = bytes.split_at_checked(3 * size_of::<f64>())?;
        let [loss, margin, rows] = RankRecord::from_bytes(head)?;
        let gradient = gradient.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some(Self { loss, margins: vec![margin], gradient, rows: rows as usize })
    }
}

/// Who computes the parts of a batch.
#[derive(Debug, Clone, Default)]
pub enum Collective {
    /// One process computes all of them.
    #[default]
    SingleProcess,
    /// Each rank of an MPI job computes those of its own pairs.
    Ranks(Ranks),
}

impl Collective {
    /// Joins the job of which a launcher such as `mpirun` started this process as one rank. Where none did, this process computes
    /// all by itself.
    ///
    /// # Errors
    /// There is such a job, but this program is built without the feature `mpi`, or MPI cannot be used.
    pub fn join() -> Result<Self> {
        Ok(Ranks::join()?.map_or(Self::SingleProcess, Self::Ranks))
    }

    /// Number of processes.
    pub fn ranks(&self) -> usize {
        match self {
            Self::SingleProcess => 1,
            Self::Ranks(ranks) => ranks.count(),
        }
    }

    /// Whether this process is the one that writes files and talks to the user.
    pub fn is_first(&self) -> bool {
        match self {
            Self::SingleProcess => true,
            Self::Ranks(ranks) => ranks.own() == 0,
        }
    }

    /// The number of this process among those of this machine, from 0, and how many these are.
    pub fn on_this_machine(&self) -> (usize, usize) {
        match self {
            Self::SingleProcess => (0, 1),
            Self::Ranks(ranks) => ranks.on_this_machine(),
        }
    }

    /// The pairs of a set that this process computes.
    pub fn share(&self) -> Share {
        match self {
            Self::SingleProcess => Share::All,
            Self::Ranks(ranks) => Share::OneOfEvery { ranks: ranks.count(), first: ranks.own() },
        }
    }

    /// The whole of a batch from its parts, each weighted with its share of the pairs. This is called for each direction of a
    /// batch, before the gradient is checked and clipped. `batch` are the places of its pairs in the set, at least one.
    ///
    /// `parts` are those of this process in the order of the batch. All parts are added one after the other in the order of the
    /// batch, never as partial sums: f32 sums depend on their order, and the bytes of a run must not depend on how many ranks
    /// computed it. Which pairs a part holds is part of the result for the same reason: one process passes as many pairs as fit
    /// through the blocks together and hands them over as one part, ranks hand over single pairs, also where there is one rank
    /// alone.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub(crate) fn sum(&self, batch: &[usize], parts: &[GradientPart]) -> Result<GradientPart> {
        let Self::Ranks(_) = self else { return Ok(sum_in_order(parts)) };
        Ok(sum_in_order(&self.exchange_records(batch, parts)?))
    }

    /// What is known of each of `count` things of a set in their order, given what this process made of its [`Share`] of them.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub(crate) fn gather<T: RankRecord>(&self, count: usize, own: Vec<T>) -> Result<Vec<T>> {
        match self {
            Self::SingleProcess => Ok(own),
            Self::Ranks(_) => self.exchange_records(&(0..count).collect::<Vec<_>>(), &own),
        }
    }

    /// Hands over what `make` gives for each of `count` things of a set, in their order, with its place. A record has about so many
    /// `bytes`: ranks gather a few at a time, since all together may be more than memory holds or than can be sent.
    ///
    /// # Errors
    /// `make` fails, or another rank has ended the job.
    pub fn each<T: RankRecord>(
        &self,
        count: usize,
        bytes: usize,
        mut make: impl FnMut(usize) -> Result<T>,
        mut take: impl FnMut(usize, T),
    ) -> Result<()> {
        let share = self.share();
        let together = match self {
            Self::SingleProcess => 1,
            // A multiple of the number of ranks, so that each owns the same things of a group as of the set.
            Self::Ranks(ranks) => ranks.count() * (MESSAGE_BYTES / bytes.max(1)).clamp(1, RECORDS_A_MESSAGE),
        };
        for start in (0..count).step_by(together) {
            let group = start..count.min(start + together);
            let own = group.clone().filter(|place| share.owns(*place)).map(&mut make).collect::<Result<_>>()?;
            let made = self.gather(group.len(), own)?;
            group.zip(made).for_each(|(place, made)| take(place, made));
        }
        Ok(())
    }

    /// The records of the things at these places of a set, in their order, given the own ones.
    fn exchange_records<T: RankRecord>(&self, places: &[usize], own: &[T]) -> Result<Vec<T>> {
        in_order(places, &self.exchange(&join(own))?).ok_or_else(misfit)
    }

    /// Whether it is so for any rank.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub fn any(&self, own: bool) -> Result<bool> {
        match self {
            Self::SingleProcess => Ok(own),
            Self::Ranks(_) => Ok(self.exchange(&[u8::from(own)])?.iter().any(|rank| rank == &[1])),
        }
    }

    /// The sum of what each rank has.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub fn total(&self, own: u64) -> Result<u64> {
        let number = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(self.exchange(&own.to_le_bytes())?.iter().map(number).sum())
    }

    /// Does some work on the first rank, then on the others: what it downloads they find.
    ///
    /// # Errors
    /// The work failed here, or another rank has ended the job.
    pub fn in_turn<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.is_first() {
            let done = work()?;
            self.exchange(&[])?;
            return Ok(done);
        }
        self.exchange(&[])?;
        work()
    }

    /// What the first rank has; that of the others is left out.
    ///
    /// # Errors
    /// Another rank has ended the job.
    pub fn from_first<T: RankRecord>(&self, own: T) -> Result<T> {
        let Self::Ranks(_) = self else { return Ok(own) };
        let bytes = if self.is_first() { own.to_bytes() } else { Vec::new() };
        T::from_bytes(&self.exchange(&bytes)?[0]).ok_or_else(misfit)
    }

    /// What every rank sends, by rank.
    ///
    /// # Errors
    /// Another rank has ended the job, or this much cannot be sent.
    pub fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Self::Ranks(ranks) = self else { return Ok(vec![own.to_vec()]) };
        let messages = ranks.all_gather(&[&[GOES_ON], own].concat())?;
        match failure(&messages) {
            Some(failure) => Err(Error::Ended(failure)),
            None => Ok(messages.into_iter().map(|message| message.get(1..).unwrap_or_default().to_vec()).collect()),
        }
    }

    /// Says how this process ended, and waits until every rank has: → why the job failed, if it did. Not to be called after
    /// [`Error::Ended`].
    pub fn end(&self, own: Option<JobFailure>) -> Option<JobFailure> {
        let Self::Ranks(ranks) = self else { return own };
        let message =
            own.as_ref().map_or_else(|| vec![GOES_ON], |own| [&[FAILED, own.exit_code], own.line.as_bytes()].concat());
        match ranks.all_gather(&message) {
            Ok(messages) => failure(&messages),
            Err(error) => Some(JobFailure { line: error.to_string(), exit_code: error.exit_code() }),
        }
    }
}

/// Most records of a rank that are gathered together.
const RECORDS_A_MESSAGE: usize = 16;

/// Bytes that a message of a rank has room for, unless a single record is longer.
const MESSAGE_BYTES: usize = 1 << 20;

/// The first byte of a message: its sender goes on, and the rest is for the others.
const GOES_ON: u8 = 0;

/// The first byte of a message: its sender ends the job, with the exit code of the next byte and the line of the rest.
const FAILED: u8 = 1;

/// Why the job ends, if it does by these messages.
fn failure(messages: &[Vec<u8>]) -> Option<JobFailure> {
    let of_rank = |(rank, message): (usize, &Vec<u8>)| match message.as_slice() {
        [FAILED, exit_code, line @ ..] => Some((rank, *exit_code, String::from_utf8_lossy(line).into_owned())),
        _ => None,
    };
    let failed: Vec<(usize, u8, String)> = messages.iter().enumerate().filter_map(of_rank).collect();
    let (rank, exit_code, line) = failed.first()?.clone();
    let is_everywhere = failed.len() == messages.len() && failed.iter().all(|(_, _, other)| *other == line);
    let line = if is_everywhere { line } else { format!("rank {rank}: {line}") };
    Some(JobFailure { line, exit_code })
}

fn misfit() -> Error {
    Error::Argument("the ranks have sent what does not fit together: are they all of one build of bipo?".into())
}

fn sum_in_order(parts: &[GradientPart]) -> GradientPart {
    let pairs: usize = parts.iter().map(|part| part.margins.len()).sum();
    let len = parts.first().map_or(0, |part| part.gradient.len());
    let mut whole = GradientPart { loss: 0.0, margins: Vec::with_capacity(pairs), gradient: vec![0.0; len], rows: 0 };
    for part in parts {
        let share = part.margins.len() as f64 / pairs as f64;
        whole.loss += share * part.loss;
        whole.margins.extend(&part.margins);
        whole.gradient.iter_mut().zip(&part.gradient).for_each(|(sum, g)| *sum += share as f32 * g);
        whole.rows += part.rows;
    }
    whole
}

#[cfg(test)]
mod tests;
