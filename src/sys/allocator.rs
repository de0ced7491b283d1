//! The allocator of the program.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// dlmalloc behind a lock that calls nobody while there is one thread. musl's own malloc maps memory more than a
/// hundred times in a `run`; dlmalloc's own lock is two calls of the C library each time, which
/// were a tenth of what a verb computes.
#[expect(missing_debug_implementations, reason = "dlmalloc has none to build on")]
pub struct Allocator(Mutex<Dlmalloc>);

impl Allocator {
    /// One that holds no memory yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "there is one, and it is a static")]
    pub const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new()))
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc keeps this contract behind any lock, and this one does not allocate. A child that
// is cloned has one thread: none must be made while another thread may hold the lock.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is the caller's, with the same contract.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.lock().free(block, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().realloc(block, layout.size(), layout.align(), size) }
    }
}
