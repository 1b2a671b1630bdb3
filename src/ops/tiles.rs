//! Cutting a range into pieces that are worked on one after the other.

use std::ops::Range;

/// Ranges of `size` numbers, the last one of what is left, that together are `0..count`.
pub fn tiles(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(size).map(move |start| start..(start + size).min(count))
}
