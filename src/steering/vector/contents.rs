//! What a vector file holds before its layer is known, and what all readers of such files agree on.

use std::collections::BTreeMap;

/// The vectors of a file: one for each layer, or a single one whose layer the file does not say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FileVectors {
    Placed(BTreeMap<usize, Vec<f32>>),
    Unplaced(Vec<f32>),
}

/// Largest size in bytes of a vector file: it has room for more than 200 layers of hidden size 16384.
pub(super) const LARGEST_FILE: u64 = 64 << 20;

/// Model type that is written if it is not known but the format requires one.
pub(super) const UNKNOWN_MODEL_TYPE: &str = "unknown";
