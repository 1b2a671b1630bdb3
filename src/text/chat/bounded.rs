//! Runs a template on a thread of its own, since the engine bounds instructions and output but not what one instruction may
//! take: strings that double, lists of lists, built-in filters without end. Where the time or the memory is used up the caller
//! gets an error at once; the thread, which nothing can stop, ends with the process.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::machine::bytes::own_memory;
use crate::machine::panics::caught;

/// Templates take milliseconds. Counted in waits, so that the time in which the whole process is stopped does not count.
const WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(5);

/// Memory that the process may come to hold meanwhile. A text that doubles takes as much again, and half of it, before the next
/// look.
const MAX_GROWTH_BYTES: u64 = 256 << 20;

/// Values are dropped and written recursively: room for the deepest list that the permitted instructions can nest. Only what
/// is touched becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It took too long, or too much memory.
    Exhausted(String),
    /// The engine panicked, which built-in filters do on absurd numbers.
    Panicked,
    /// The system gave no thread.
    NoThread(String),
}

/// What `work` returns.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("chat template".into()).stack_size(STACK_BYTES);
    // Nobody receives once the caller has given up.
    let spawned = thread.spawn(move || sender.send(caught(work)).ok());
    let spawned = spawned.map_err(|error| Failure::NoThread(error.to_string()))?;
    let before = anonymous_memory();
    for _ in 0..WAITS {
        match receiver.recv_timeout(WAIT) {
            Ok(result) => {
                // Done but for its stack, which the next one need not find taken.
                let _ = spawned.join();
                return result.ok_or(Failure::Panicked);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Panicked),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if anonymous_memory().zip(before).is_some_and(|(now, before)| now.saturating_sub(before) > MAX_GROWTH_BYTES) {
            return Err(Failure::Exhausted(format!("takes more than {} MiB of memory", MAX_GROWTH_BYTES >> 20)));
        }
    }
    Err(Failure::Exhausted(format!("still running after {} s", (WAITS * WAIT).as_secs())))
}

/// Resident memory but for mapped files; unknown elsewhere than on Linux.
fn anonymous_memory() -> Option<u64> {
    own_memory("RssAnon:")
}

#[cfg(test)]
#[path = "bounded_tests.rs"]
mod tests;
