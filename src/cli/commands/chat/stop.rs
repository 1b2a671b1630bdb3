//! Ctrl-C in a conversation: it stops the answer that is under way, and never the conversation. While a line is edited the
//! terminal hands it over as a key, so that a signal that comes then asks for the end of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Time behind an answer, in milliseconds, in which a signal is still meant for it.
const GRACE_MS: u64 = 500;

/// Whether the user has stopped the answer.
#[derive(Debug)]
pub struct Stop(Arc<StopState>);

#[derive(Debug)]
struct StopState {
    started: Instant,
    is_answering: AtomicBool,
    is_raised: AtomicBool,
    /// Time from which on no signal is meant for the last answer, in milliseconds from the start.
    waits_from_ms: AtomicU64,
}

/// An answer that can be stopped, until this is dropped.
pub struct Stoppable<'a>(&'a Stop);

impl Stop {
    /// Listens from now on. Called once a process. `at_end` is called before a signal ends the process.
    pub fn listen(at_end: impl Fn() + Send + 'static) -> anyhow::Result<Self> {
        let state = StopState {
            started: Instant::now(),
            is_answering: AtomicBool::new(false),
            is_raised: AtomicBool::new(false),
            waits_from_ms: AtomicU64::new(0),
        };
        let stop = Self(Arc::new(state));
        let of_handler = Arc::clone(&stop.0);
        ctrlc::set_handler(move || {
            if of_handler.ends() {
                at_end();
                std::process::exit(130);
            }
        })?;
        Ok(stop)
    }

    /// Begins an answer, which a signal stops from now on; a second one ends the process.
    pub fn begin(&self) -> Stoppable<'_> {
        self.0.is_raised.store(false, Ordering::SeqCst);
        self.0.is_answering.store(true, Ordering::SeqCst);
        Stoppable(self)
    }
}

impl Stoppable<'_> {
    /// Whether the user wants no more of it.
    pub fn is_stopped(&self) -> bool {
        self.0.0.is_raised.load(Ordering::SeqCst)
    }
}

impl Drop for Stoppable<'_> {
    fn drop(&mut self) {
        let state = &*self.0.0;
        state.waits_from_ms.store(state.now_ms() + GRACE_MS, Ordering::SeqCst);
        state.is_answering.store(false, Ordering::SeqCst);
    }
}

impl StopState {
    /// Takes a signal. → whether it ends the process
    fn ends(&self) -> bool {
        match self.is_answering.load(Ordering::SeqCst) {
            true => self.is_raised.swap(true, Ordering::SeqCst),
            false => self.now_ms() >= self.waits_from_ms.load(Ordering::SeqCst),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
