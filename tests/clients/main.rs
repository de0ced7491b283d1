//! Engines, as Debian ships them, on top of carob: containerd, Podman, Buildah, Docker. Needs root.
//!
//! Each test has a machine of its own within this one, a [`yard::Yard`], in which the engine has the
//! configuration of docs/clients.md at its usual place.
//! `CAROB_UNDER_TEST=/usr/sbin/runc` runs the same scenarios with another runtime.
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

mod buildah;
mod containerd;
mod cri;
mod ctr;
mod docker;
mod document;
mod image;
mod podman;
#[path = "../container/support/mod.rs"]
mod support;
mod systemd;
mod yard;
