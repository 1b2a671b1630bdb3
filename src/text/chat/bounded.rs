//! Runs a template on its own thread, within a limit of time and memory. The engine limits instructions and output, but a
//! single instruction can take any time or memory: strings that double, lists of lists, filters that never end. At a limit the
//! caller gets an error at once; the thread cannot be stopped and ends with the process.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::machine::bytes::{RENDERING_BYTES, own_memory};
use crate::machine::panics::caught;

/// Number of waits before a template is given up; templates take milliseconds. Waits are counted rather than time, so that the
/// time in which the whole process is stopped does not count.
const WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(5);

/// Memory by which the process may grow while a template runs. A text that doubles can exceed this before the next check.
const MAX_GROWTH_BYTES: u64 = 256 << 20;

/// Stack of the thread. The engine drops and writes values recursively, so there is room for the deepest list that the
/// permitted instructions can nest. Only the touched part of a stack takes memory.
const STACK_BYTES: usize = RENDERING_BYTES as usize;

/// Why a template gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderFailure {
    /// The template took too long, or too much memory.
    Exhausted(String),
    /// The engine panicked, as its built-in filters do for absurdly large numbers.
    Panicked,
    /// The system starts no thread, for this reason.
    NoThread(String),
}

/// Runs `work` within the limits, and returns its result.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RenderFailure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("chat template".into()).stack_size(STACK_BYTES);
    // Sending fails if the caller has given up, and then the result is not needed.
    let spawned = thread.spawn(move || sender.send(caught(work)).ok());
    let spawned = spawned.map_err(|error| RenderFailure::NoThread(error.to_string()))?;
    let before = anonymous_memory();
    for _ in 0..WAITS {
        match receiver.recv_timeout(WAIT) {
            Ok(result) => {
                // Joining frees the thread's stack before the next template runs.
                let _ = spawned.join();
                return result.ok_or(RenderFailure::Panicked);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(RenderFailure::Panicked),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if anonymous_memory().zip(before).is_some_and(|(now, before)| now.saturating_sub(before) > MAX_GROWTH_BYTES) {
            return Err(RenderFailure::Exhausted(format!("takes more than {} MiB of memory", MAX_GROWTH_BYTES >> 20)));
        }
    }
    Err(RenderFailure::Exhausted(format!("still running after {} s", (WAITS * WAIT).as_secs())))
}

/// Returns the resident memory of this process without mapped files; `None` if the system is not Linux.
fn anonymous_memory() -> Option<u64> {
    own_memory("RssAnon:")
}

#[cfg(test)]
#[path = "bounded_tests.rs"]
mod tests;
