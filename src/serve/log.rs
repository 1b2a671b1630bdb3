//! What the server says of itself: the program's terminal decides where that goes.

use std::sync::OnceLock;

/// Where lines go.
static SINK: OnceLock<fn(&str)> = OnceLock::new();

/// Sends lines to `sink` from now on; the first call of a process counts.
pub(super) fn to(sink: fn(&str)) {
    let _ = SINK.set(sink);
}

/// Says what went wrong.
pub(super) fn error(line: &str) {
    if let Some(sink) = SINK.get() {
        sink(line);
    }
}
