//! Which containers to start: init containers in order, sidecars kept alive, app containers.

use super::{Action, Decision, apps_begun, done};
use crate::pod::clock::Moment;
use crate::pod::record::{ContainerRecord, ContainerState, HookState, PodRecord};
use crate::pod::restart::{StartAt, next_start};
use crate::pod::rules::{ContainerRules, Kind, PodRules};

/// The starts of one decision.
struct Starts<'a> {
    rules: &'a PodRules,
    now: Moment,
    decision: &'a mut Decision,
    /// A container that is to be started has a postStart hook: what comes after waits for it.
    held: bool,
}

pub(super) fn containers(
    rules: &PodRules,
    record: &PodRecord,
    now: Moment,
    decision: &mut Decision,
) {
    if record.containers().any(hook_pending) {
        return;
    }
    let mut starts = Starts { rules, now, decision, held: false };
    if !starts.init(record) {
        return;
    }
    for (rules, container) in rules.apps.iter().zip(&record.apps) {
        starts.offer(rules, container);
    }
}

fn hook_pending(container: &ContainerRecord) -> bool {
    container.running().is_some_and(|running| {
        running.post_start == HookState::Pending && running.stopping.is_none()
    })
}

impl Starts<'_> {
    /// Returns whether the app containers may be started.
    ///
    /// What has come before the last init container that has been started is not looked at again,
    /// except that sidecars are kept alive; after the first app container that is so for all.
    fn init(&mut self, record: &PodRecord) -> bool {
        let has_begun = |container: &ContainerRecord| {
            !matches!(container.state, ContainerState::Waiting { .. })
        };
        let passed = if apps_begun(self.rules, record) {
            record.init.len()
        } else {
            record.init.iter().rposition(has_begun).unwrap_or(0)
        };
        for (index, (rules, container)) in self.rules.init.iter().zip(&record.init).enumerate() {
            let holds = match rules.kind {
                Kind::Sidecar => {
                    self.offer(rules, container);
                    container.running().is_none() || !container.started
                }
                Kind::Init | Kind::App if index < passed || done(rules, container) => false,
                Kind::Init | Kind::App => {
                    self.offer(rules, container);
                    true
                }
            };
            if holds && index >= passed {
                return false;
            }
        }
        true
    }

    fn offer(&mut self, rules: &ContainerRules, container: &ContainerRecord) {
        match next_start(self.rules, rules, container, self.now) {
            StartAt::Now if !self.held => {
                self.decision.act(Action::Start { container: rules.name.clone() });
                self.held = rules.post_start;
            }
            StartAt::At(moment) => self.decision.wake_at(moment),
            StartAt::Now | StartAt::Never => {}
        }
    }
}
