//! Lifecycle hooks: started here, awaited by a task, answered by a [`Signal`].

use std::os::fd::AsFd;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::{Signal, Supervisor};
use crate::error::Result;
use crate::pod::decide::{self, transition};
use crate::pod::probe::hook;
use crate::pod::probe::target::{self, Action as Target};
use crate::pod::record::{HookState, StopStep};
use crate::sys::process;

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HookKind {
    /// Runs beside the entrypoint; the next container waits for it.
    PostStart,
    /// Runs before the stop signal, inside the grace.
    PreStop,
}

impl Supervisor {
    /// Runs the postStart hook of a container that has just started.
    pub(super) fn run_post_start(&mut self, name: &str) {
        self.transition("PostStart", Some(name), "");
        self.run_hook(name, HookKind::PostStart);
    }

    /// Runs the preStop hook of a container that is to end.
    pub(super) fn run_pre_stop(&mut self, name: &str) {
        self.transition("PreStop", Some(name), "");
        self.run_hook(name, HookKind::PreStop);
    }

    fn run_hook(&mut self, name: &str, hook: HookKind) {
        let Some(id) = self.members.get(name).map(|member| member.id.clone()) else { return };
        let outcome = match self.hook_target(name, hook) {
            Ok(Target::Exec(args)) => self.exec_hook(name, &id, hook, &args),
            Ok(target) => {
                self.remote_hook(name, &id, hook, target);
                Ok(())
            }
            Err(why) => Err(why),
        };
        if let Err(why) = outcome {
            self.hook_done(name, &id, hook, Err(why));
        }
    }

    fn hook_target(&self, name: &str, hook: HookKind) -> Result<Target, String> {
        let container = self.manifest_container(name).ok_or("no such container")?;
        let lifecycle = container.lifecycle.as_ref().ok_or("no lifecycle")?;
        let handler: Option<&LifecycleHandler> = match hook {
            HookKind::PostStart => lifecycle.post_start.as_ref(),
            HookKind::PreStop => lifecycle.pre_stop.as_ref(),
        };
        target::of_hook(handler.ok_or("no such hook")?, container, &self.ip())
    }

    fn exec_hook(
        &mut self,
        name: &str,
        id: &str,
        hook: HookKind,
        args: &[String],
    ) -> Result<(), String> {
        let begun = self.begin(name, args, None).map_err(|error| error.to_string())?;
        let (container, id) = (name.to_owned(), id.to_owned());
        let command = format!("{args:?}");
        // Not aborted with the member: it is a child of ours and must be reaped.
        self.spawn(async move {
            let outcome = match begun.finish(None).await {
                Ok(ended) if ended.exit == process::Exit::Status(0) => Ok(()),
                Ok(ended) => {
                    let code = ended.exit.code();
                    Err(format!("Exec lifecycle hook ({command}) exited with {code}"))
                }
                Err(error) => Err(error.to_string()),
            };
            Some(Signal::HookDone { container, id, hook, outcome })
        });
        Ok(())
    }

    fn remote_hook(&mut self, name: &str, id: &str, hook: HookKind, target: Target) {
        let network = self.sandbox.as_ref().and_then(|sandbox| sandbox.network.clone());
        let (container, id) = (name.to_owned(), id.to_owned());
        self.spawn(async move {
            let network = network.as_ref().map(|fd| fd.as_fd());
            let outcome = match hook::run(&target, network).await {
                Ok(outcome) => outcome,
                // The record and parked descriptors let the next supervisor go on.
                Err(_stranded) => process::exit_now(1),
            };
            Some(Signal::HookDone { container, id, hook, outcome })
        });
    }

    /// A hook has ended.
    pub(super) fn hook_done(
        &mut self,
        name: &str,
        id: &str,
        hook: HookKind,
        outcome: Result<(), String>,
    ) {
        let running = self.record.container(name).and_then(|record| record.running());
        let Some(running) = running.filter(|running| running.id == id) else { return };
        let awaited = match hook {
            HookKind::PostStart => {
                running.post_start == HookState::Pending && running.stopping.is_none()
            }
            HookKind::PreStop => {
                running.stopping.as_ref().is_some_and(|stopping| stopping.step == StopStep::PreStop)
            }
        };
        // It took too long, or what it was for has been given up.
        if !awaited {
            return;
        }
        let (rules, record) = (&self.rules, &mut self.record);
        match (hook, &outcome) {
            (HookKind::PostStart, Ok(())) => {
                transition::on_post_start_done(rules, record, name, id);
            }
            (HookKind::PostStart, Err(_)) => {}
            (HookKind::PreStop, _) => transition::on_pre_stop_done(record, name, id),
        }
        match (hook, outcome) {
            (HookKind::PostStart, Ok(())) => {
                self.transition("PostStartDone", Some(name), "");
                self.readiness_may_have_changed(name);
            }
            (HookKind::PreStop, Ok(())) => self.transition("PreStopDone", Some(name), ""),
            (HookKind::PostStart, Err(why)) => {
                let text = format!("PostStartHook failed: {why}");
                self.warn("FailedPostStartHook", Some(name), text);
                if let Some(stop) = decide::kill_for_post_start(&self.rules, &self.record, name) {
                    self.begin_stop(&stop);
                }
            }
            (HookKind::PreStop, Err(why)) => {
                self.warn("FailedPreStopHook", Some(name), format!("PreStopHook failed: {why}"));
            }
        }
    }

    /// The address at which the pod is probed.
    pub(super) fn ip(&self) -> String {
        let ips = self.record.sandbox.as_ref().map(|sandbox| &sandbox.ips);
        ips.and_then(|ips| ips.first()).map_or_else(|| "127.0.0.1".to_owned(), Clone::clone)
    }
}
