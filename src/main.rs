//! The `carob` program.
#![cfg_attr(not(test), no_main)]
#![allow(unsafe_code, reason = "the C library calls `main` by its name")]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: carob::sys::allocator::Allocator = carob::sys::allocator::Allocator::new();

/// Called by the C library: Rust's own start in between would cost more than many a verb. Without
/// it `std::env::args` is empty.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as C has it: `count` pointers, which live as long as the process.
    let arguments = unsafe { std::slice::from_raw_parts(arguments, count) };
    let words = arguments.iter().map(|word| {
        // SAFETY: each of them is a string.
        let word = unsafe { CStr::from_ptr(*word) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    });
    carob::cli::main(words.collect()).into()
}
