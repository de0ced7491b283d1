//! The only place that calls the kernel with `unsafe`: thin, typed, documented wrappers.
#![allow(unsafe_code, reason = "the wrappers around system calls; everything above them is safe")]

pub mod bpf;
pub mod process;
