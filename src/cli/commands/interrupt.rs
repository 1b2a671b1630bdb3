//! Ctrl-C (SIGINT, and SIGTERM): the first lets a command end at its next step and keep what is done, which exits with code 130;
//! the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bipo::{Error, Result};

use crate::terminal::Log;

/// Whether the user has asked for the end. Clones share the answer.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on: before, Ctrl-C ends the process. Called once a process.
    pub fn listen(log: Log) -> anyhow::Result<Self> {
        Self::listen_and_say(log, "ends at the next step and keeps what is done")
    }

    /// Listens like [`Interrupt::listen`], and says what the first Ctrl-C does.
    pub fn listen_and_say(log: Log, what: &'static str) -> anyhow::Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        let flag = raised.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            log.info(format!("interrupted: {what}; press Ctrl-C again to end at once"));
        })?;
        Ok(Self(raised))
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error where the user has asked for the end.
    pub fn check(&self) -> Result<()> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "interrupt_tests.rs"]
mod tests;
