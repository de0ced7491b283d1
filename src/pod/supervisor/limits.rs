//! Limits that no kernel enforces: how much an emptyDir on disk may hold.

use std::time::Duration;

use super::Supervisor;
use crate::pod::clock::Moment;
use crate::pod::record::{StartFailure, StopCause};
use crate::pod::volume::{self, SizeLimit, Usage};

/// Between two checks. Source: the kubelet's eviction manager, `monitoringInterval`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two steps of a count that is under way.
const PAUSE: Duration = Duration::from_millis(20);
/// Entries of a directory that are looked at in one step.
const ENTRIES: usize = 2000;
/// Seconds: of a pod that is evicted.
const GRACE_SECONDS: u32 = 1;

/// Volumes with a limit, and the count under way.
#[derive(Debug, Default)]
pub(super) struct Limits {
    all: Vec<SizeLimit>,
    /// When to go on; absent if there is nothing to check.
    pub(super) next: Option<Moment>,
    current: usize,
    usage: Option<Usage>,
}

impl Supervisor {
    /// Finds the volumes that have a limit; once there is a sandbox.
    pub(super) fn read_limits(&mut self) {
        let Some(sandbox) = &self.record.sandbox else { return };
        let place = volume::Place {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            node: &self.node,
            ips: &sandbox.ips,
            network: sandbox.network.as_deref(),
            user_namespace_base: sandbox.user_namespace_base,
        };
        let all = volume::size_limits(&place);
        let next = (!all.is_empty()).then(|| Moment::now().after(INTERVAL));
        self.limits = Limits { all, next, current: 0, usage: None };
    }

    /// Goes on counting if it is time; whether the record has changed.
    pub(super) fn check_limits(&mut self) -> bool {
        if self.record.stop.is_some() {
            self.limits.next = None;
        }
        if self.limits.next.is_none_or(|next| Moment::now() < next) {
            return false;
        }
        match self.limits.step() {
            None => false,
            Some(message) => {
                self.warn("Evicted", None, message.clone());
                self.record.refusal = Some(StartFailure { reason: "Evicted".to_owned(), message });
                self.stop_pod(StopCause::Evicted, Some(GRACE_SECONDS));
                true
            }
        }
    }
}

impl Limits {
    /// One step; the message of the first limit that is exceeded.
    fn step(&mut self) -> Option<String> {
        let limit = &self.all[self.current];
        let mut usage = match self.usage.take() {
            Some(usage) => usage,
            None => match Usage::new(&limit.path) {
                Ok(usage) => usage,
                Err(_gone) => {
                    self.turn_to_next();
                    return None;
                }
            },
        };
        let stepped = usage.step(ENTRIES);
        // Not only at the end of the count: whoever moves directories about keeps it from ending.
        if usage.so_far() > limit.bytes {
            return Some(limit.message.clone());
        }
        match stepped {
            Ok(None) => {
                self.usage = Some(usage);
                self.next = Some(Moment::now().after(PAUSE));
            }
            Ok(Some(_)) | Err(_) => self.turn_to_next(),
        }
        None
    }

    fn turn_to_next(&mut self) {
        self.current = (self.current + 1) % self.all.len();
        let delay = if self.current == 0 { INTERVAL } else { PAUSE };
        self.next = Some(Moment::now().after(delay));
    }
}
