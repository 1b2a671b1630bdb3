//! Stands in for the ranks of an MPI job in a build without the feature `mpi`: there are none, and a process that was started as
//! one of several is refused.

use crate::machine::launch::{ALONE, Launch};
use crate::{Error, Result};

/// A rank of an MPI job: this build has none.
#[derive(Debug, Clone)]
pub enum Ranks {}

impl Ranks {
    pub(super) fn join() -> Result<Option<Self>> {
        match Launch::of_this_process() {
            Some(Launch { ranks, .. }) if ranks > 1 => Err(Error::Argument(format!(
                "started as one of {ranks} processes, but this bipo is built for one: build it with the feature mpi, or set {ALONE}=1 if \
                 each process does work of its own"
            ))),
            _ => Ok(None),
        }
    }

    pub(super) fn count(&self) -> usize {
        match *self {}
    }

    pub(super) fn own(&self) -> usize {
        match *self {}
    }

    pub(super) fn on_this_machine(&self) -> (usize, usize) {
        match *self {}
    }

    pub(super) fn all_gather(&self, _: &[u8]) -> Result<Vec<Vec<u8>>> {
        match *self {}
    }
}
