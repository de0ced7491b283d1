//! Known escapes: what has worked against some container runtime, each with the rootfs, the
//! configuration or the neighbour that made it work. Needs root.
//!
//! Names say the mechanism, comments the CVE; docs/security.md lists which test stands for which.
//! `CAROB_TEST_LONG=1` runs the races thousands of times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]
#![allow(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "the harness is a library of its own"
)]

mod binary;
mod canary;
mod descriptors;
mod documentation;
mod identity;
mod links;
mod mounts;
mod procfs;
mod race;
mod races;
mod state;
#[path = "../container/support/mod.rs"]
mod support;
