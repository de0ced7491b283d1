//! carob: an OCI container runtime that knows pods.
//!
//! ```text
//! cli → pod → container → init → cgroup → oci      downward only
//!  ├→ doctor ─┘               └─→ seccomp ─┘
//!  └──────┴─► image
//! sys: below all of them, the only place that talks to the kernel with `unsafe`
//! ```

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod doctor;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod image;
pub mod init;
pub mod log;
pub mod oci;
pub mod pod;
pub mod seccomp;
pub mod sys;
