//! A container: a directory under the state root, a cgroup, and an init process.
//!
//! Each verb is one function here; the command line (and, one day, other front ends) only turns
//! its arguments into these calls. Nothing here prints.

mod api;
mod verbs_stub;

pub use api::*;
pub use verbs_stub::*;
