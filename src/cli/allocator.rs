//! The allocator of the program: freed memory is kept, and where there is no memory an error line ends the program. Every op of a
//! pass allocates what the op before it has just freed; given back to the system, it would be mapped, cleared and faulted in
//! again each time.

// The allocator is C: its options are set through its own functions.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bipo::machine::bytes::address_space_limit;

#[global_allocator]
static ALLOCATOR: OrExit = OrExit(mimalloc::MiMalloc);

/// An allocator that ends the program with an error line where there is no memory: the standard library would abort it.
struct OrExit(mimalloc::MiMalloc);

/// Whether the options are set.
static IS_READY: AtomicBool = AtomicBool::new(false);

// SAFETY: every call goes to mimalloc as it is, and its answer comes back unless it is null.
unsafe impl GlobalAlloc for OrExit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        prepare();
        // SAFETY: the caller's promise.
        or_exit(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        prepare();
        // SAFETY: the caller's promise.
        or_exit(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_exit(unsafe { self.0.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(old, layout) }
    }
}

/// To be called before an allocation that may be the first one, which no reallocation is.
#[inline]
fn prepare() {
    if !IS_READY.load(Ordering::Relaxed) {
        take_by_the_piece();
    }
}

#[inline]
fn or_exit(found: *mut u8, size: usize) -> *mut u8 {
    if found.is_null() {
        exit_without_memory(size);
    }
    found
}

/// Says it in one line and ends the process. The first thread that comes here does so, and every other one waits for the end. The
/// line takes no memory and, on Unix, no lock: another thread may wait here while it holds that of standard error.
#[cold]
fn exit_without_memory(size: usize) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::SeqCst) {
        let mut line = [0; 256];
        let mut rest = &mut line[..];
        // The line fits.
        let _ = writeln!(
            rest,
            "error: not enough memory: the system has no {size} bytes more: use a smaller model, batch or number of threads, or \
             raise the limit (ulimit -v)"
        );
        let unused = rest.len();
        write_to_stderr(&line[..line.len() - unused]);
        std::process::exit(1);
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Nothing can be done about a closed standard error.
#[cfg(unix)]
fn write_to_stderr(line: &[u8]) {
    let _ = rustix::io::write(io::stderr(), line);
}

#[cfg(not(unix))]
fn write_to_stderr(line: &[u8]) {
    let _ = io::stderr().write_all(line);
}

/// `mi_option_purge_delay`: milliseconds until freed pages go back to the system; negative is never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// `mi_option_disallow_arena_alloc`: 1 takes memory from the system by the piece, not by arenas of 1 GiB.
const DISALLOW_ARENA_ALLOC: libmimalloc_sys::mi_option_t = 26;

/// To be called first.
pub fn keep_freed_pages() {
    // SAFETY: sets a number that the allocator reads; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
    // Where addresses are limited, an arena would take several times what is put into it, or all that there is.
    match address_space_limit() {
        // SAFETY: as above.
        None => unsafe { libmimalloc_sys::mi_option_set(DISALLOW_ARENA_ALLOC, 0) },
        Some(_) => share_arena(),
    }
}

/// The C library has an allocator of its own, from which each thread takes little, but from 64 MiB of addresses: lets the
/// threads share them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn share_arena() {
    unsafe extern "C" {
        fn mallopt(option: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
    /// `M_ARENA_MAX`.
    const ARENAS: std::ffi::c_int = -8;
    // SAFETY: sets a number that the C library reads; no other thread runs yet.
    let _ = unsafe { mallopt(ARENAS, 1) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn share_arena() {}

/// Before the first allocation, which is made before `main`: an arena is never given back.
#[cold]
fn take_by_the_piece() {
    // SAFETY: sets a number that the allocator reads; no other thread runs before the first allocation.
    unsafe { libmimalloc_sys::mi_option_set(DISALLOW_ARENA_ALLOC, 1) }
    IS_READY.store(true, Ordering::Relaxed);
}
