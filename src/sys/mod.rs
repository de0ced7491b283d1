//! The only place that calls the kernel with `unsafe`: thin, typed, documented wrappers.
//!
//! What `nix` already wraps safely is called directly by the layers above; here is the rest.
#![allow(unsafe_code, reason = "the wrappers around system calls; everything above them is safe")]

#[cfg(target_env = "musl")]
pub mod allocator;
pub mod bpf;
pub mod classic_mount;
pub mod command;
pub mod credentials;
pub mod dir;
mod disposition;
pub mod fd;
pub mod fifo;
pub mod inode_flags;
pub mod lsm;
pub mod mount;
pub mod mount_id;
pub mod net;
pub mod netlink;
pub mod overlay;
pub mod path;
mod pidfd_info;
pub mod poll;
pub mod probe;
mod proc_stat;
pub mod process;
mod remap;
pub mod replace;
pub mod sched;
pub mod seccomp;
pub mod self_exe;
pub mod signal;
pub mod socket;
pub mod start;
pub mod tty;
pub mod xattr;
