//! What to do about an error of the library, in flags: its messages name none, since a Rust program has none.

use bipo::Error;
use bipo::train::checkpoint;

/// What follows the message of an error, if a flag helps.
pub fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::NotFinite(_) => Some("; try --dtype f32, a lower --lr (training) or smaller --magnitudes (steering)"),
        Error::Write { path, .. } if path.ends_with(checkpoint::NEWEST) && path.parent().is_some_and(checkpoint::exists) => {
            Some(" with --resume")
        }
        _ => None,
    }
}
