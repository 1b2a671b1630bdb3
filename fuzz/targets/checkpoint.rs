//! Reads a checkpoint of a run, with the check of its hash and without it.
#![no_main]

use std::path::Path;

use bipo::train::checkpoint::{from_bytes, from_bytes_of_any_hash};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("checkpoint");
    let _ = from_bytes(path, data);
    if let Ok(checkpoint) = from_bytes_of_any_hash(path, data) {
        let state = checkpoint.state;
        assert!(state.order.len() >= state.done && state.epochs.len() + 1 == state.epoch && !state.v.is_empty());
    }
});
