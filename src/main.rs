//! The `carob` program.
#![cfg_attr(not(test), no_main)]
#![allow(unsafe_code, reason = "the C library calls `main` by its name")]

/// Called by the C library: Rust's own start in between would cost more than many a verb.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(
    _count: std::ffi::c_int,
    _arguments: *const *const std::ffi::c_char,
) -> std::ffi::c_int {
    // Rust's library has its own way to the arguments.
    carob::cli::main(std::env::args_os().collect()).into()
}
