//! Panics of a dependency on a broken file, turned into errors. For parsers of others whose assertions a file can reach, where
//! no check beforehand is possible short of parsing it twice.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `parse` returns; none where it panicked, which is not printed. What `parse` changed before is not to be used then.
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
