//! The rows of the fact sheet on phase, conditions, statuses and columns.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::{
    Columns, Phase, Surroundings, back_off_left, columns, conditions, human_duration, phase,
    status, update_conditions,
};
use crate::pod::decide::transition;
use crate::pod::decide::world::{Starts, World, failure, stamp, world};
use crate::pod::record::{ContainerState, KillCause, StopCause};

const SECOND: u64 = 1000;
const HOOK: &str = r#""lifecycle": {"postStart": {"exec": {}}}"#;
const SIDECAR: &str = r#"{"name": "s", "restartPolicy": "Always"}"#;
const SLOW_SIDECAR: &str =
    r#"{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}"#;

/// A pod `a` and `b` after its first actions.
fn two(rest: &str) -> World {
    begun(&format!(r#"{{"containers": [{{"name": "a"}}, {{"name": "b"}}]{rest}}}"#))
}

fn one(rest: &str) -> World {
    begun(&format!(r#"{{"containers": [{{"name": "a", "image": "rootfs:/r"}}]{rest}}}"#))
}

fn begun(spec: &str) -> World {
    let mut world = world(spec);
    world.act();
    world
}

fn with_init(init: &str, rest: &str) -> World {
    one(&format!(r#", "initContainers": [{init}]{rest}"#))
}

fn phase_of(world: &World) -> Phase {
    phase(&world.rules, &world.record)
}

fn status_of(world: &World) -> PodStatus {
    let around = Surroundings { qos_class: Some("BestEffort"), host_ips: &["10.0.0.1".to_owned()] };
    status(&world.pod, &world.rules, &world.record, &around, world.now)
}

fn container(world: &World, name: &str) -> ContainerStatus {
    let status = status_of(world);
    let init = status.init_container_statuses.unwrap_or_default();
    let mut all = init.into_iter().chain(status.container_statuses.unwrap());
    all.find(|own| own.name == name).unwrap()
}

fn waiting(world: &World, name: &str) -> (String, String) {
    let waiting = container(world, name).state.unwrap().waiting.unwrap();
    (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}

fn columns_of(world: &World) -> Columns {
    columns(&world.pod, &world.rules, &world.record, world.stamp())
}

/// READY, STATUS and RESTARTS.
fn shown(world: &World) -> [String; 3] {
    let Columns { ready, status, restarts, .. } = columns_of(world);
    [ready, status, restarts]
}

fn condition(world: &World, kind: &str) -> PodCondition {
    let all = conditions(&world.pod, &world.rules, &world.record);
    all.into_iter().find(|own| own.type_ == kind).unwrap()
}

fn told(world: &World, kind: &str) -> (String, String, String) {
    let own = condition(world, kind);
    (own.status, own.reason.unwrap_or_default(), own.message.unwrap_or_default())
}

fn triple(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

// Phase (5.2)

#[test]
fn phase_of_a_pod_with_init_containers() {
    let mut world = with_init(r#"{"name": "i"}"#, "");
    assert_eq!(phase_of(&world), Phase::Pending);
    world.exits("i", 1);
    world.exits("i", 1);
    assert_eq!(phase_of(&world), Phase::Pending, "in back-off");
    world.pass(10 * SECOND);
    world.exits("i", 0);
    assert_eq!(phase_of(&world), Phase::Running);
}

#[test]
fn a_failed_init_container_fails_the_pod_once_nothing_runs() {
    let mut world =
        with_init(&format!(r#"{SIDECAR}, {{"name": "i"}}"#), r#", "restartPolicy": "Never""#);
    world.exits("i", 1);
    assert_eq!(phase_of(&world), Phase::Pending, "the sidecar still runs");
    world.exits("s", 0);
    assert_eq!(phase_of(&world), Phase::Failed);
}

#[test]
fn a_sidecar_that_is_not_started_leaves_the_pod_pending_only_until_an_app_exists() {
    let mut world = with_init(SLOW_SIDECAR, "");
    assert_eq!(phase_of(&world), Phase::Pending);
    world.startup_done("s");
    assert_eq!(phase_of(&world), Phase::Running);
    world.exits("s", 1);
    assert!(!world.record.init[0].started);
    assert_eq!(phase_of(&world), Phase::Running);
}

#[test]
fn one_container_that_never_ran_makes_the_pod_pending_even_if_others_run() {
    let mut world = world(r#"{"containers": [{"name": "a"}, {"name": "b"}]}"#);
    assert_eq!(phase_of(&world), Phase::Pending);
    world.act();
    world.exit("b", 0);
    world.starts = Starts::NoContainer;
    world.act();
    assert_eq!(phase_of(&world), Phase::Running, "waiting with a lastState");
    world.record.apps[1].last = None;
    assert_eq!(phase_of(&world), Phase::Pending);
}

#[test]
fn the_pod_is_not_running_before_its_post_start_hooks_have_ended() {
    let mut world = begun(&format!(r#"{{"containers": [{{"name": "a", {HOOK}}}]}}"#));
    assert_eq!(phase_of(&world), Phase::Pending);
    assert_eq!(waiting(&world, "a").0, "ContainerCreating");
    world.post_start("a", true);
    assert_eq!(phase_of(&world), Phase::Running);
}

#[test]
fn phase_of_finished_apps() {
    // Policy, exit codes, phase after both.
    let rows = [
        ("Never", [0, 0], Phase::Succeeded),
        ("Never", [0, 1], Phase::Failed),
        ("OnFailure", [0, 0], Phase::Succeeded),
        ("OnFailure", [0, 1], Phase::Running),
        ("Always", [0, 0], Phase::Running),
    ];
    for (policy, codes, expected) in rows {
        let mut world = two(&format!(r#", "restartPolicy": "{policy}""#));
        world.exits("a", codes[0]);
        assert_eq!(phase_of(&world), Phase::Running);
        world.exits("b", codes[1]);
        assert_eq!(phase_of(&world), expected, "{policy} {codes:?}");
    }
}

#[test]
fn sidecars_never_decide_the_phase_but_delay_its_end() {
    let mut world = with_init(SIDECAR, r#", "restartPolicy": "Never""#);
    world.exits("a", 0);
    assert_eq!(phase_of(&world), Phase::Running);
    world.exits("s", 137);
    assert_eq!(phase_of(&world), Phase::Succeeded);
}

#[test]
fn exit_codes_decide_over_a_pod_that_was_stopped() {
    for (code, expected) in [(0, Phase::Succeeded), (143, Phase::Failed), (137, Phase::Failed)] {
        let mut world = one("");
        world.stop(None);
        assert_eq!(phase_of(&world), Phase::Running);
        world.exits("a", code);
        assert_eq!(phase_of(&world), expected);
    }
    let mut pending = with_init(r#"{"name": "i"}"#, "");
    pending.stop(None);
    pending.exits("i", 0);
    assert_eq!(phase_of(&pending), Phase::Failed, "pending at its end");
}

#[test]
fn deadline_eviction_and_refusal_fail_the_pod_whatever_the_exit_codes() {
    let mut world = one(r#", "activeDeadlineSeconds": 5"#);
    world.pass(5 * SECOND);
    assert_eq!((phase_of(&world), status_of(&world).reason), (Phase::Running, None));
    world.exits("a", 0);
    let status = status_of(&world);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    let text = "Pod was active on the node longer than the specified deadline";
    assert_eq!(status.message.as_deref(), Some(text));
    assert_eq!(shown(&world)[1], "Completed", "the container's reason comes later in the walk");

    let mut world = one("");
    world.record.refusal = Some(failure("Evicted"));
    let (now, cause) = (world.stamp(), StopCause::Evicted);
    transition::on_pod_stop(&world.rules, &mut world.record, cause, Some(1), now);
    world.act();
    world.exits("a", 0);
    let status = status_of(&world);
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some("why"));
    assert_eq!(told(&world, "DisruptionTarget"), triple("True", "TerminationByKubelet", "why"));

    let mut world = crate::pod::decide::world::world(r#"{"containers": [{"name": "a"}]}"#);
    world.record.refusal = Some(failure("SysctlForbidden"));
    world.act();
    let status = status_of(&world);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("SysctlForbidden"));
    assert_eq!(status.container_statuses, None);
    assert_eq!(shown(&world)[..2], ["0/1", "SysctlForbidden"]);
}

// Conditions (5.3)

#[test]
fn initialized() {
    let mut world = with_init(&format!(r#"{{"name": "i"}}, {SLOW_SIDECAR}"#), "");
    let text = "containers with incomplete status: [i s]";
    assert_eq!(told(&world, "Initialized"), triple("False", "ContainersNotInitialized", text));
    world.exits("i", 0);
    let text = "containers with incomplete status: [s]";
    assert_eq!(told(&world, "Initialized"), triple("False", "ContainersNotInitialized", text));
    world.startup_done("s");
    assert_eq!(told(&world, "Initialized"), triple("True", "", ""));
    world.exits("s", 1);
    assert_eq!(told(&world, "Initialized"), triple("True", "", ""), "an app has been started");
}

#[test]
fn ready_and_containers_ready() {
    let probe = r#""readinessProbe": {"exec": {}}"#;
    let mut world = begun(&format!(
        r#"{{"initContainers": [{{"name": "s", "restartPolicy": "Always", {probe}}}, {{"name": "i"}}],
            "containers": [{{"name": "a"}}]}}"#
    ));
    world.exits("i", 0);
    let unready = triple("False", "ContainersNotReady", "containers with unready status: [s]");
    assert_eq!(told(&world, "ContainersReady"), unready);
    assert_eq!(told(&world, "Ready"), unready);
    world.ready("s", true);
    assert_eq!(told(&world, "Ready"), triple("True", "", ""));
    world.ready("s", false);
    assert_eq!(told(&world, "Ready"), unready);

    let mut world = two(r#", "readinessGates": [{"conditionType": "x/y"}]"#);
    let text = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
    assert_eq!(told(&world, "Ready"), triple("False", "ReadinessGatesNotReady", text));
    assert_eq!(told(&world, "ContainersReady").0, "True");
    world.exits("b", 1);
    world.exits("b", 1);
    assert_eq!(told(&world, "Ready").2, "containers with unready status: [b]");
}

#[test]
fn conditions_of_a_pod_that_has_ended() {
    for (code, reason) in [(0, "PodCompleted"), (1, "PodFailed")] {
        let mut world = one(r#", "restartPolicy": "Never""#);
        assert_eq!(told(&world, "PodReadyToStartContainers").0, "True");
        world.exits("a", code);
        assert_eq!(told(&world, "Ready"), triple("False", reason, ""));
        assert_eq!(told(&world, "ContainersReady"), triple("False", reason, ""));
        let initialized = if code == 0 { reason } else { "" };
        assert_eq!(told(&world, "Initialized"), triple("True", initialized, ""));
        assert_eq!(told(&world, "PodReadyToStartContainers").0, "False");
        assert_eq!(told(&world, "PodScheduled").0, "True");
    }
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let mut world = one("");
    let update = |world: &mut World| {
        let now = world.stamp();
        update_conditions(&world.pod, &world.rules, &mut world.record, now)
    };
    assert_eq!(update(&mut world).len(), 5);
    world.pass(5 * SECOND);
    assert_eq!(update(&mut world), []);
    world.exits("a", 1);
    world.exit("a", 1);
    assert_eq!(update(&mut world), [("Ready", false), ("ContainersReady", false)]);
    let since = |world: &World, kind| condition(world, kind).last_transition_time.unwrap().0;
    assert_eq!(since(&world, "Ready"), stamp(5 * SECOND).wall);
    assert_eq!(since(&world, "Initialized"), stamp(0).wall);
}

#[test]
fn the_restart_of_all_containers_is_a_condition_while_it_lasts() {
    let rule =
        r#"[{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [9]}}]"#;
    let mut world = begun(&format!(
        r#"{{"containers": [{{"name": "a", "restartPolicy": "Never", "restartPolicyRules": {rule}}}, {{"name": "b"}}]}}"#
    ));
    let find = |world: &World| {
        let all = conditions(&world.pod, &world.rules, &world.record);
        all.into_iter().find(|own| own.type_ == "AllContainersRestarting").map(|own| own.status)
    };
    assert_eq!(find(&world), None);
    world.exits("a", 9);
    assert_eq!(find(&world).as_deref(), Some("True"));
    assert_eq!(waiting(&world, "a").0, "RestartingAllContainers");
    let now = world.stamp();
    update_conditions(&world.pod, &world.rules, &mut world.record, now);
    world.exits("b", 137);
    assert_eq!(find(&world).as_deref(), Some("False"));
}

// Container statuses (3.2, 3.3, 5.3)

#[test]
fn statuses_before_the_first_start() {
    let mut without = world(r#"{"containers": [{"name": "a"}]}"#);
    without.sandbox_fails = true;
    assert_eq!(waiting(&without, "a"), ("ContainerCreating".to_owned(), String::new()));
    without.act();
    assert_eq!(waiting(&without, "a").1, "CreatePodSandboxError: why");
    let world = with_init(r#"{"name": "i"}"#, "");
    assert_eq!(waiting(&world, "a").0, "PodInitializing");
    let own = container(&world, "a");
    assert_eq!((own.started, own.ready, own.container_id), (Some(false), false, None));
}

#[test]
fn status_of_a_running_container() {
    let mut world = one("");
    world.pass(1500);
    world.exits("a", 3);
    let own = container(&world, "a");
    let started_at = own.state.unwrap().running.unwrap().started_at.unwrap().0;
    assert_eq!(started_at, stamp(SECOND).wall, "whole seconds");
    assert_eq!((own.started, own.ready, own.restart_count), (Some(true), true, 1));
    assert_eq!(own.container_id.as_deref(), Some("carob://a_1"));
    assert_eq!((own.image.as_str(), own.image_id.as_str()), ("rootfs:/r", "rootfs:/r"));
    let last = own.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(last.container_id.as_deref(), Some("carob://a_0"));
    assert_eq!(last.started_at.unwrap().0, stamp(0).wall);
    assert_eq!(last.finished_at.unwrap().0, stamp(SECOND).wall);
    let status = status_of(&world);
    assert_eq!(status.pod_ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.start_time.unwrap().0, stamp(0).wall);
}

#[test]
fn a_container_in_back_off_waits_with_the_time_that_is_left() {
    let mut world = one("");
    for wait in [0, 10, 20] {
        world.exits("a", 0);
        world.pass(wait * SECOND);
    }
    world.exits("a", 0);
    world.pass(12_300);
    let text = "back-off 40s restarting failed container=a pod=p_default(u1), 28s left";
    assert_eq!(waiting(&world, "a"), ("CrashLoopBackOff".to_owned(), text.to_owned()));
    let left = back_off_left(&world.rules, &world.record, "a", world.now);
    assert_eq!(left, Some(Duration::from_millis(27_700)));
    let last = container(&world, "a").last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (0, Some("Completed")));
    assert_eq!(phase_of(&world), Phase::Running);
    world.stop(None);
    assert!(container(&world, "a").state.unwrap().terminated.is_some());
    assert_eq!(back_off_left(&world.rules, &world.record, "a", world.now), None);
}

#[test]
fn a_start_that_fails_is_shown_with_its_reason() {
    let mut world = world(r#"{"containers": [{"name": "a"}]}"#);
    world.starts = Starts::NoContainer;
    world.act();
    let expected = ("CreateContainerConfigError".to_owned(), "why".to_owned());
    assert_eq!(waiting(&world, "a"), expected);
    assert_eq!(container(&world, "a").restart_count, 0);
    assert_eq!(phase_of(&world), Phase::Pending);

    world.starts = Starts::NoProgram;
    world.pass(10 * SECOND);
    assert_eq!(waiting(&world, "a").0, "CrashLoopBackOff");
    let last = container(&world, "a").last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));
    assert_eq!(last.started_at.unwrap().0, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(last.message.as_deref(), Some("why"));
}

#[test]
fn reasons_of_ended_containers() {
    for (code, oom, reason) in [
        (0, false, "Completed"),
        (1, false, "Error"),
        (137, true, "OOMKilled"),
        (143, false, "Error"),
    ] {
        let mut world = one(r#", "restartPolicy": "Never""#);
        if let ContainerState::Running(running) = &mut world.record.apps[0].state {
            running.oom_killed = oom;
        }
        world.exits("a", code);
        let ended = container(&world, "a").state.unwrap().terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (code, Some(reason)));
    }
}

#[test]
fn termination_messages_share_twelve_kilobytes() {
    let mut world = two(r#", "restartPolicy": "Never", "initContainers": [{"name": "i"}]"#);
    world.exit("i", 0);
    if let ContainerState::Ended(ended) = &mut world.record.init[0].state {
        ended.message = "\u{e9}".repeat(4096);
    }
    let ended = container(&world, "i").state.unwrap().terminated.unwrap();
    assert_eq!(ended.message.unwrap().len(), 12288 / 3);
}

#[test]
fn app_statuses_are_sorted_by_name_and_init_statuses_are_not() {
    let world = begun(
        r#"{"initContainers": [{"name": "z"}, {"name": "y"}], "containers": [{"name": "c"}, {"name": "b"}]}"#,
    );
    let status = status_of(&world);
    let names = |all: Option<Vec<ContainerStatus>>| -> Vec<String> {
        all.unwrap().into_iter().map(|own| own.name).collect()
    };
    assert_eq!(names(status.init_container_statuses), ["z", "y"]);
    assert_eq!(names(status.container_statuses), ["b", "c"]);
}

// Columns (5.4)

#[test]
fn columns_while_initializing() {
    let mut world = with_init(&format!(r#"{{"name": "i"}}, {SLOW_SIDECAR}, {{"name": "j"}}"#), "");
    assert_eq!(shown(&world), ["0/2", "Init:0/3", "0"]);
    world.exits("i", 1);
    assert_eq!(shown(&world), ["0/2", "Init:0/3", "1 (0s ago)"]);
    world.exits("i", 1);
    assert_eq!(shown(&world)[1], "Init:CrashLoopBackOff");
    world.pass(10 * SECOND);
    world.exits("i", 0);
    assert_eq!(shown(&world), ["0/2", "Init:1/3", "2 (10s ago)"]);
    world.startup_done("s");
    assert_eq!(shown(&world), ["1/2", "Init:2/3", "2 (10s ago)"]);
    world.exits("j", 0);
    assert_eq!(shown(&world), ["2/2", "Running", "0"], "restarts of init containers are over");
    world.exits("s", 0);
    assert_eq!(shown(&world), ["1/2", "Init:1/3", "1 (0s ago)"], "kubectl has no better word");
}

#[test]
fn columns_of_a_failed_init_container() {
    let mut world = with_init(r#"{"name": "i"}"#, r#", "restartPolicy": "Never""#);
    world.exits("i", 1);
    assert_eq!(shown(&world), ["0/1", "Init:Error", "0"]);
    if let ContainerState::Ended(ended) = &mut world.record.init[0].state {
        ended.reason.clear();
        assert_eq!(shown(&world)[1], "Init:ExitCode:1");
    }
    if let ContainerState::Ended(ended) = &mut world.record.init[0].state {
        ended.signal = Some(9);
        assert_eq!(shown(&world)[1], "Init:Signal:9");
    }
}

#[test]
fn columns_of_app_containers() {
    let mut world = two(r#", "restartPolicy": "OnFailure""#);
    assert_eq!(shown(&world), ["2/2", "Running", "0"]);
    world.exits("a", 0);
    assert_eq!(shown(&world), ["1/2", "NotReady", "0"]);
    world.exits("b", 1);
    world.exits("b", 1);
    world.pass(3 * SECOND);
    assert_eq!(shown(&world), ["0/2", "Completed", "1 (3s ago)"], "the first container wins");
    let mut world = two(r#", "restartPolicy": "OnFailure""#);
    world.exits("b", 0);
    world.exits("a", 1);
    world.exits("a", 1);
    assert_eq!(shown(&world), ["0/2", "CrashLoopBackOff", "1 (0s ago)"]);
}

#[test]
fn a_failed_container_beside_a_completed_one_is_what_is_shown() {
    let mut world = two(r#", "restartPolicy": "Never""#);
    world.exits("b", 1);
    assert_eq!(shown(&world), ["1/2", "Error", "0"]);
    world.exits("a", 0);
    assert_eq!(shown(&world), ["0/2", "Error", "0"]);
    let mut world = two(r#", "restartPolicy": "Never""#);
    world.exits("b", 0);
    world.exits("a", 0);
    assert_eq!(shown(&world), ["0/2", "Completed", "0"]);
}

#[test]
fn columns_of_a_pod_that_is_being_stopped() {
    let mut world = one("");
    world.stop(None);
    assert_eq!(shown(&world), ["1/1", "Terminating", "0"]);
    world.exits("a", 143);
    assert_eq!(shown(&world), ["0/1", "Error", "0"]);
    let mut finished = with_init(SIDECAR, r#", "restartPolicy": "Never""#);
    finished.exits("a", 0);
    assert_eq!(shown(&finished)[1], "Completed", "nobody asked for its end");
}

#[test]
fn the_age_of_a_pod_does_not_follow_a_clock_that_is_set() {
    let mut world = one("");
    world.pass(200 * SECOND);
    let mut now = world.stamp();
    now.wall = stamp(0).wall - Duration::from_secs(86_400);
    assert_eq!(columns(&world.pod, &world.rules, &world.record, now).age, "3m20s");
    assert_eq!(columns_of(&world).ip, "127.0.0.1");
}

#[test]
fn durations_are_shown_as_kubectl_does() {
    let (minute, hour, day) = (60, 3600, 86_400);
    let rows = [
        (0, "0s"),
        (119, "119s"),
        (2 * minute, "2m"),
        (2 * minute + 5, "2m5s"),
        (10 * minute + 5, "10m"),
        (179 * minute, "179m"),
        (3 * hour, "3h"),
        (3 * hour + 5 * minute, "3h5m"),
        (8 * hour + 5 * minute, "8h"),
        (47 * hour, "47h"),
        (48 * hour, "2d"),
        (49 * hour, "2d1h"),
        (8 * day + hour, "8d"),
        (729 * day, "729d"),
        (730 * day, "2y"),
        (731 * day, "2y1d"),
        (8 * 365 * day + day, "8y"),
    ];
    for (seconds, expected) in rows {
        assert_eq!(human_duration(Duration::from_secs(seconds)), expected, "{seconds}");
    }
}

#[test]
fn a_probe_kill_is_shown_as_running_until_the_container_has_ended() {
    let mut world = one("");
    world.probe_fails("a", KillCause::Liveness);
    assert_eq!(shown(&world), ["1/1", "Running", "0"]);
}
