//! Real pods, as root: one file per feature, all on the harness of the container tests.
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

mod attach;
mod bad_input;
mod crash;
mod environment;
mod examples;
mod followers;
mod foreground;
mod hard_cases;
mod history;
mod hooks;
mod init;
mod logs;
mod members;
mod namespaces;
mod network;
mod network_faults;
mod plugins;
mod port_forward;
mod probes;
mod repeat;
mod resources;
mod restart;
mod run;
mod sandbox_network;
mod scene;
mod security;
mod serve;
mod service;
mod status;
mod stop;
#[path = "../container/support/mod.rs"]
mod support;
mod systemd;
mod threats;
mod views;
mod volumes;
