//! Panics of a dependency on a broken file, turned into errors. It is meant for parsers whose assertions a file can reach, if
//! the file could only be checked beforehand by parsing it twice.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Returns the result of `parse`, or `None` if it panicked. The panic is not printed. After a panic, values that `parse` has
/// changed must not be used.
pub(crate) fn caught<T>(parse: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                print(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(parse));
    QUIET.set(outer);
    result.ok()
}

#[cfg(test)]
#[path = "panics_tests.rs"]
mod tests;
