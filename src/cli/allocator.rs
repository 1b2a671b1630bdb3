//! The allocator of the program: freed memory is kept. Every op of a pass allocates what the op before it has just freed; given
//! back to the system, it would be mapped, cleared and faulted in again each time.

// The allocator is C: its options are set through its own functions.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: milliseconds until freed pages go back to the system; negative is never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// To be called first.
pub fn keep_freed_pages() {
    // SAFETY: sets a number that the allocator reads; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}
