//! Images, as root: a real registry on loopback, images made by other tools.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
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

mod files;
mod layers;
mod made;
mod nginx;
mod pods;
mod proxy;
mod pull;
mod registry;
mod rootless;
mod run;
#[path = "../pod/scene.rs"]
mod scene;
mod store;
#[path = "../container/support/mod.rs"]
mod support;
mod volumes;
mod ways;
