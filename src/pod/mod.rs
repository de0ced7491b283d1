//! Pods: containers that share namespaces, kept running the way a kubelet keeps them.
//!
//! ```text
//! manifest/    YAML → checked, defaulted Kubernetes objects; the table of supported fields
//! rules.rs     the part of a manifest that decides over life and death      ┐
//! record.rs    what is known of a pod: status.json                          │ pure: no fd, no clock,
//! decide/      rules + record + now → what to do next; restart.rs: back-off │ no /proc
//! phase/       record → phase, conditions, status of a Kubernetes Pod       │
//! member/      manifest container + sandbox → OCI configuration             ┘
//! sandbox/     the pause container that holds the shared namespaces; the pod's cgroup
//! volume/      volumes and the files every pod gets (hosts, resolv.conf)
//! logs/        CRI log lines: write, rotate, read
//! network/     CNI: which network a pod gets, its plugins, who is on which
//! probe/       probe workers (pure) and the four kinds of probes; HTTP hooks
//! event.rs     what has happened to a pod: events.jsonl
//! timeline/    events → what each container was doing when; view.rs: files → Pod with status
//! watch.rs     waiting for changes in the directories of pods; age.rs: durations for people
//! forward.rs   local ports, passed on into the network of a pod
//! store.rs     the directories of a pod
//! rights.rs    who may make pods
//! ports.rs     ports of the machine that pods take
//! leftover.rs  data and logs of pods that no longer exist; prune.rs: all that they left
//! supervisor/  one process per pod, one thread: waits, decides, acts, writes down
//! control.rs   what the command line and the supervisor say to each other
//! lifecycle.rs what a front end does with whole pods: make, start, stop; removal.rs: and remove;
//!              outcome.rs: exit status of one that has ended
//! ```

pub mod age;
pub mod clock;
pub mod control;
pub mod decide;
pub mod event;
pub mod follow;
pub mod forward;
mod leftover;
pub mod lifecycle;
pub mod logs;
pub mod manifest;
pub mod member;
pub mod network;
pub mod outcome;
pub mod phase;
mod ports;
pub mod probe;
pub mod prune;
pub mod record;
pub mod removal;
pub mod restart;
mod rights;
pub mod rules;
pub mod sandbox;
pub mod store;
pub mod supervisor;
pub mod timeline;
pub mod view;
pub mod volume;
pub mod watch;
