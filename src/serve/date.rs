//! The date, which OpenAI's answers state; no duration is taken from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
