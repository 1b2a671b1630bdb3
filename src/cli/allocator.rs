//! The allocator of the program: freed memory is kept. Every op of a pass allocates what the op before it has just freed; given
//! back to the system, it would be mapped, cleared and faulted in again each time.

// The allocator is C: its options are set through its own functions.
#![allow(unsafe_code)]

use bipo::machine::bytes::address_space_limit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: milliseconds until freed pages go back to the system; negative is never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// `mi_option_disallow_arena_alloc`: 1 takes memory from the system by the piece, not by arenas of 1 GiB.
const DISALLOW_ARENA_ALLOC: libmimalloc_sys::mi_option_t = 26;

/// To be called first.
pub fn keep_freed_pages() {
    // SAFETY: sets a number that the allocator reads; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
    // Where addresses are limited, an arena would take several times what is put into it.
    if address_space_limit().is_some() {
        // SAFETY: as above.
        unsafe { libmimalloc_sys::mi_option_set(DISALLOW_ARENA_ALLOC, 1) }
    }
}
