//! The network of a pod: the machine's, a loopback device alone, or what CNI plugins make.
//!
//! ```text
//! wish.rs        manifest → ports, limits and addresses that the pod asks for   ┐ pure
//! version.rs     versions of the specification                                  ┘
//! list.rs        configuration files → a list of plugins
//! plan.rs        both of them → which network the pod gets, or why it cannot have it
//! plugin.rs      one call of a plugin: JSON in, JSON out, within its time
//! operations.rs  ADD, CHECK, DEL, STATUS, GC: all plugins of a list in turn
//! attachment.rs  who is on which network, on disk, so that DEL is done whoever dies
//! names.rs       /etc/hosts of the pods of one network
//! ```
//!
//! Plugins take their time, so nothing here is called by the supervisor itself: it has a child for
//! it (`supervisor/network.rs`).

pub mod attachment;
mod list;
pub mod names;
mod operations;
mod plan;
mod plugin;
mod version;
pub mod wish;

pub use attachment::{Attachment, Store};
pub use list::{NetworkList, Plugin};
pub use operations::Place;
pub use plan::{BUILT_IN, Plan, Sources, network_lists, plan};
pub use version::Version;
