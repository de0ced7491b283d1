//! A container: a directory under the state root, a cgroup, and an init process.
//!
//! Each verb is one function of [`Runtime`]; the command line (and, one day, other front ends)
//! only turns its arguments into these calls. Nothing here prints.

mod api;
mod cgroup;
mod converse;
mod create;
mod delete;
mod enter;
mod exec;
mod exec_template;
mod foreground;
mod hooks;
mod host_root;
mod id;
mod id_map;
mod kill;
mod labels;
mod launch;
mod members;
mod mount_source;
mod net_devices;
mod notify;
mod oom_score;
mod own_namespace;
mod pid_file;
mod pid_namespace;
mod place;
mod prepare;
mod rdt;
mod report;
mod rights;
mod run;
mod seccomp_agent;
mod start;
mod state;
mod store;
mod subids;
mod update;
mod users;

pub use api::*;
pub use exec_template::{ExecLaunch, ExecTemplate, Executing};
pub use id::ContainerId;
pub use id_map::{find_program as id_map_helper, granted_ids};
pub use launch::{Launch, Launched, Stdio, null_streams};
pub use own_namespace::{Entered, MappedTo, enter_own_namespace, enter_to_run, own_ids};
pub use report::StateReport;
pub use state::Status;
