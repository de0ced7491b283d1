//! Real containers, as root: one file per feature, all on the harness in `support`.
//!
//! `CAROB_UNDER_TEST=/usr/sbin/runc` runs them against another runtime with the same command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, dead_code, reason = "the harness is a library of its own")]

mod apparmor;
mod bad_input;
mod cgroup_v2;
mod clients;
mod contract;
mod cost;
mod crash;
mod doctor;
mod exec;
mod fallbacks;
mod hooks;
mod host_mounts;
mod lifecycle;
mod mounts;
mod namespaces;
mod net_devices;
mod outlive;
mod power_cut;
mod process;
mod races;
mod refused_calls;
mod resources;
mod rootfs;
mod rootless;
mod run;
mod sandbox;
mod seccomp;
mod selinux;
mod support;
mod systemd;
mod systemd_user;
mod terminal;
mod tracer;
mod verbs;
