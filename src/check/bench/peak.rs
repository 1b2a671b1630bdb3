//! Peak memory. A device with its own memory is asked every few milliseconds how much is free. For the CPU, the system counts
//! the peak of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use candle_core::Device;

use crate::machine::bytes::{Bytes, peak_memory};
use crate::machine::device;

/// A measurement of peak memory that runs until it is dropped.
#[derive(Debug)]
pub struct PeakMemory {
    lowest_free: Arc<AtomicU64>,
    free_before: Option<Bytes>,
    is_over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl PeakMemory {
    /// Starts to watch the memory of a device.
    pub fn watch(device: &Device) -> Self {
        let free_before = device::memory(device).map(|memory| memory.free);
        let (lowest_free, is_over) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicBool::new(false)));
        let watcher = free_before.map(|_| {
            let (device, lowest, is_over) = (device.clone(), lowest_free.clone(), is_over.clone());
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(memory) = device::memory(&device) {
                        lowest.fetch_min(memory.free.0, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        });
        Self { lowest_free, free_before, is_over, watcher }
    }

    /// Returns the peak so far. On a device with its own memory it is counted from the start of the watch, else it is the peak
    /// of this process; `None` if the system does not report it.
    pub fn bytes(&self) -> Option<Bytes> {
        match self.free_before {
            Some(before) => Some(Bytes(before.0.saturating_sub(self.lowest_free.load(Ordering::Relaxed)))),
            None => peak_memory(),
        }
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            // Joining fails only if the thread panicked, and then there is nothing left to stop.
            let _ = watcher.join();
        }
    }
}
