//! The ranks of an MPI job: the only file that knows MPI. It moves bytes, and knows nothing of what they mean.

use std::sync::Arc;

use mpi::Count;
use mpi::datatype::PartitionMut;
use mpi::environment::{Threading, Universe, initialize_with_threading};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use crate::machine::launch::Launch;
use crate::{Error, Result};

/// Exit code of a job one of whose ranks panicked, as that of a single process is.
const PANICKED: i32 = 101;

/// One rank of an MPI job: this process.
#[derive(Debug, Clone)]
pub struct Ranks {
    own: usize,
    count: usize,
    /// The number of this rank among those of this machine, and how many these are.
    on_this_machine: (usize, usize),
    /// The last clone that is dropped leaves the job.
    _membership: Arc<Membership>,
}

/// Holds the process in the job.
struct Membership(Option<Universe>);

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Membership")
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // To leave a job is to wait for the others, who wait for what this rank does not send any more.
        if std::thread::panicking() {
            SimpleCommunicator::world().abort(PANICKED);
        }
        drop(self.0.take());
    }
}

impl Ranks {
    /// Joins the job that a launcher started this process for. None where none did: the MPI library is not entered then.
    pub(super) fn join() -> Result<Option<Self>> {
        let Some(launch) = Launch::of_this_process() else { return Ok(None) };
        let failed = |problem: &str| Error::Argument(format!("MPI cannot be used: {problem}"));
        // The threads of a pool compute, one of them at a time calls MPI.
        let (universe, threading) =
            initialize_with_threading(Threading::Serialized).ok_or_else(|| failed("it is in use already"))?;
        if threading < Threading::Serialized {
            return Err(failed("the library is built for programs of one thread: take another build of it"));
        }
        let world = universe.world();
        let (own, count) = (world.rank(), world.size());
        if launch.ranks > 1 && count == 1 {
            return Err(failed(&format!(
                "the launcher started {} processes, but each sees itself alone: start them with the mpirun of the library that \
                 bipo was built with",
                launch.ranks
            )));
        }
        let machine = world.split_shared(own);
        let on_this_machine = (machine.rank() as usize, machine.size() as usize);
        drop(machine);
        let membership = Arc::new(Membership(Some(universe)));
        Ok(Some(Self { own: own as usize, count: count as usize, on_this_machine, _membership: membership }))
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    pub(super) fn on_this_machine(&self) -> (usize, usize) {
        self.on_this_machine
    }

    /// The messages of all ranks, by rank. An error of MPI itself ends the job: that is how the library is set up.
    pub(super) fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let world = SimpleCommunicator::world();
        let mut lengths = vec![0u64; self.count];
        world.all_gather_into(&(own.len() as u64), &mut lengths[..]);
        let total: u64 = lengths.iter().sum();
        if Count::try_from(total).is_err() {
            return Err(Error::Argument(format!(
                "{total} bytes of one step cannot be exchanged, at most {}: take smaller batches, or steer fewer layers",
                Count::MAX
            )));
        }
        let counts: Vec<Count> = lengths.iter().map(|length| *length as Count).collect();
        let starts: Vec<Count> = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
        let mut messages = vec![0u8; total as usize];
        world.all_gather_varcount_into(own, &mut PartitionMut::new(&mut messages[..], &counts[..], &starts[..]));
        let message = |(start, count): (&Count, &Count)| messages[*start as usize..(*start + *count) as usize].to_vec();
        Ok(starts.iter().zip(&counts).map(message).collect())
    }
}
