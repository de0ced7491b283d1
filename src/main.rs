//! The `carob` program.
#![no_main]
#![allow(unsafe_code, reason = "the C library calls `main` by its name")]

use std::ffi::{c_char, c_int};

/// Called by the C library: Rust's own start in between would cost more than many a verb.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // Rust's library has its own way to the arguments.
    carob::cli::main(std::env::args_os().collect()).into()
}
