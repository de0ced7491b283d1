//! The rows of the fact sheet, one test each or one row of a table; then random histories.

use super::world::{Starts, World, world};
use super::{BeginStop, transition};
use crate::pod::record::KillCause;

const SECOND: u64 = 1000;

fn apps(rest: &str) -> World {
    world(&format!(r#"{{"containers": [{{"name": "a"}}, {{"name": "b"}}]{rest}}}"#))
}

fn one(rest: &str) -> World {
    world(&format!(r#"{{"containers": [{{"name": "a"}}]{rest}}}"#))
}

// Start-up (2.1)

#[test]
fn nothing_is_done_before_the_pod_is_started() {
    let mut world = one("");
    world.record.started = None;
    assert_eq!(world.settle(), None);
    assert!(world.done.is_empty());
    assert_eq!(world.stop(None), ["finish"]);
}

#[test]
fn app_containers_start_in_order_after_the_sandbox_and_then_there_is_nothing_to_wait_for() {
    let mut world = apps("");
    assert_eq!(world.act(), ["sandbox", "start a_0", "start b_0"]);
    assert_eq!(world.wake(), None);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_apps() {
    let mut world = one(r#", "initContainers": [{"name": "i"}, {"name": "j"}]"#);
    assert_eq!(world.act(), ["sandbox", "start i_0"]);
    assert_eq!(world.exits("i", 0), ["start j_0"]);
    assert_eq!(world.exits("j", 0), ["start a_0"]);
}

#[test]
fn a_sidecar_holds_the_next_until_it_is_started() {
    let sidecar = r#"{"name": "s", "restartPolicy": "Always",
        "startupProbe": {"exec": {}}, "readinessProbe": {"exec": {}}}"#;
    let mut world = one(&format!(r#", "initContainers": [{sidecar}, {{"name": "i"}}]"#));
    assert_eq!(world.act(), ["sandbox", "start s_0"]);
    assert_eq!(world.pass(60 * SECOND), Vec::<String>::new());
    assert_eq!(world.startup_done("s"), ["start i_0"], "readiness does not gate");
    assert!(!world.record.init[0].ready);
    assert_eq!(world.exits("i", 0), ["start a_0"]);
}

#[test]
fn a_sidecar_that_crashes_later_is_kept_alive_and_holds_nothing() {
    let sidecar = r#"{"name": "s", "restartPolicy": "Always"}"#;
    let rest =
        format!(r#", "restartPolicy": "Never", "initContainers": [{sidecar}, {{"name": "i"}}]"#);
    let mut world = one(&rest);
    assert_eq!(world.act(), ["sandbox", "start s_0", "start i_0"]);
    assert_eq!(world.exits("s", 0), ["start s_1"], "whatever the exit code and policy");
    assert_eq!(world.exits("s", 1), Vec::<String>::new(), "back-off");
    assert_eq!(world.exits("i", 0), ["start a_0"], "the sidecar in back-off does not hold it");
    assert_eq!(world.pass(10 * SECOND), ["start s_2"]);
}

#[test]
fn a_failed_last_sidecar_holds_the_apps_until_it_is_started_again() {
    let sidecar = r#"{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}"#;
    let mut world = one(&format!(r#", "initContainers": [{sidecar}]"#));
    world.act();
    assert_eq!(world.exits("s", 1), ["start s_1"]);
    assert_eq!(world.startup_done("s"), ["start a_0"]);
}

#[test]
fn a_post_start_hook_holds_whatever_would_start_next() {
    let hook = r#"{"postStart": {"exec": {}}}"#;
    let mut world = world(&format!(
        r#"{{"containers": [{{"name": "a", "lifecycle": {hook}}}, {{"name": "b", "lifecycle": {hook}}}, {{"name": "c"}}]}}"#
    ));
    assert_eq!(world.act(), ["sandbox", "start a_0"]);
    assert!(!world.record.apps[0].started);
    assert_eq!(world.pass(60 * SECOND), Vec::<String>::new(), "hooks have no timeout");
    assert_eq!(world.post_start("a", true), ["start b_0"]);
    assert!(world.record.apps[0].started && world.record.apps[0].ready);
    assert_eq!(world.post_start("b", false), ["end b 30", "TERM b", "start c_0"]);
    assert_eq!(world.exits("b", 143), ["start b_1"], "a first restart is immediate");
}

#[test]
fn a_regular_init_container_never_runs_again_once_an_app_container_has() {
    let mut world = one(r#", "initContainers": [{"name": "i"}]"#);
    world.act();
    world.exits("i", 0);
    assert_eq!(world.exits("a", 1), ["start a_1"]);
    assert_eq!(world.exits("a", 1), Vec::<String>::new());
    assert_eq!(world.pass(10 * SECOND), ["start a_2"]);
}

#[test]
fn an_init_container_hit_by_the_oom_killer_has_failed_even_with_exit_code_0() {
    let mut world = one(r#", "initContainers": [{"name": "i"}]"#);
    world.act();
    match &mut world.record.init[0].state {
        crate::pod::record::ContainerState::Running(running) => running.oom_killed = true,
        other => panic!("{other:?}"),
    }
    assert_eq!(world.exits("i", 0), ["start i_1"]);
}

// Restart (3.1)

#[test]
fn restart_policy_of_app_containers() {
    let rows = [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ];
    for (policy, code, restarts) in rows {
        // Of the pod, and of the container against that of the pod.
        let other = if policy == "Always" { "Never" } else { "Always" };
        let own = format!(
            r#"{{"restartPolicy": "{other}", "containers": [{{"name": "a", "restartPolicy": "{policy}"}}, {{"name": "b"}}]}}"#
        );
        for mut world in [apps(&format!(r#", "restartPolicy": "{policy}""#)), world(&own)] {
            world.act();
            let expected: &[&str] = if restarts { &["start a_1"] } else { &[] };
            assert_eq!(world.exits("a", code), expected, "{policy}, {code}");
        }
    }
}

#[test]
fn restart_policy_of_init_containers() {
    // Pod's policy, exit code, what follows.
    let rows: [(&str, i32, &[&str]); 6] = [
        ("Always", 0, &["start a_0"]),
        ("Always", 1, &["start i_1"]),
        ("OnFailure", 0, &["start a_0"]),
        ("OnFailure", 1, &["start i_1"]),
        ("Never", 0, &["start a_0"]),
        ("Never", 1, &["stop Finished", "end sandbox", "finish"]),
    ];
    for (policy, code, expected) in rows {
        let mut world =
            one(&format!(r#", "restartPolicy": "{policy}", "initContainers": [{{"name": "i"}}]"#));
        world.act();
        assert_eq!(world.exits("i", code), expected, "{policy}, {code}");
    }
}

#[test]
fn a_failed_init_container_ends_its_pod_with_the_sidecars() {
    let init = r#"[{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]"#;
    let mut world = one(&format!(r#", "restartPolicy": "Never", "initContainers": {init}"#));
    world.act();
    assert_eq!(world.exits("i", 3), ["stop Finished", "end s 30", "TERM s"]);
    assert_eq!(world.exits("s", 143), ["end sandbox", "finish"]);
}

#[test]
fn rules_on_exit_codes_come_before_the_policy_and_the_first_that_matches_wins() {
    let rules = r#"[
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
        {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42, 43]}},
        {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1, 43]}}]"#;
    let spec = format!(
        r#"{{"containers": [{{"name": "a", "restartPolicy": "Never", "restartPolicyRules": {rules}}}, {{"name": "b"}}]}}"#
    );
    let rows: [(i32, &[&str]); 5] = [
        (0, &[]),
        (1, &[]),
        (42, &["start a_1"]),
        (43, &["end b 0", "TERM b"]),
        (2, &["start a_1"]),
    ];
    for (code, expected) in rows {
        let mut world = world(&spec);
        world.act();
        assert_eq!(world.exits("a", code), expected, "{code}");
    }
}

#[test]
fn a_probe_kill_restarts_unless_never_and_whatever_the_rules_say() {
    let rule = r#""restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [137]}}]"#;
    for (policy, restarts) in [("Always", true), ("OnFailure", true), ("Never", false)] {
        for why in [KillCause::Liveness, KillCause::Startup] {
            let mut world = world(&format!(
                r#"{{"containers": [{{"name": "a", "restartPolicy": "{policy}", {rule}}}, {{"name": "b"}}]}}"#
            ));
            world.act();
            assert_eq!(world.probe_fails("a", why), ["end a 30", "TERM a"]);
            let expected: &[&str] = if restarts { &["start a_1"] } else { &[] };
            // Exit code 0: OnFailure alone would not restart it.
            assert_eq!(world.exits("a", 0), expected, "{policy}");
        }
    }
}

#[test]
fn all_containers_are_restarted_if_a_rule_says_so() {
    let rule =
        r#"[{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [9]}}]"#;
    let mut world = world(&format!(
        r#"{{"restartPolicy": "Never", "initContainers": [{{"name": "i"}}],
            "containers": [{{"name": "a", "restartPolicy": "Never", "restartPolicyRules": {rule}}},
                {{"name": "b", "lifecycle": {{"preStop": {{"exec": {{}}}}}}}}, {{"name": "c"}}]}}"#
    ));
    world.act();
    world.exits("i", 0);
    world.exits("c", 0);
    assert_eq!(world.exits("a", 9), ["end b 0", "TERM b"], "no grace, so no hook");
    assert_eq!(world.pass(1999), Vec::<String>::new());
    assert_eq!(world.pass(1), ["KILL b"], "after the floor");
    assert_eq!(world.exits("b", 137), ["forget", "start i_1"]);
    assert_eq!(world.exits("i", 0), ["start a_1", "start b_1", "start c_1"]);
}

#[test]
fn the_pod_ends_when_all_apps_are_finished_and_sidecars_go_last() {
    let init =
        r#"[{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}]"#;
    let mut world = apps(&format!(r#", "restartPolicy": "OnFailure", "initContainers": {init}"#));
    world.act();
    assert!(world.exits("b", 0).is_empty());
    assert_eq!(world.exits("a", 0), ["stop Finished", "end s 30", "end t 30", "TERM t"]);
    assert_eq!(world.exits("t", 0), ["TERM s"]);
    assert_eq!(world.exits("s", 0), ["end sandbox", "finish"]);
    assert_eq!(world.wake(), None);
}

// Back-off (3.2)

/// Milliseconds from each exit to the start that follows it, for these run times.
fn delays(world: &mut World, runs: &[u64], code: i32) -> Vec<u64> {
    world.act();
    let mut delays = Vec::new();
    for run in runs {
        world.pass(*run);
        world.exit("a", code);
        let ended = world.millis();
        while !world.is_running("a") {
            match world.settle() {
                Some(wake) => world.now = wake,
                None => assert!(world.is_running("a")),
            }
        }
        delays.push(world.millis() - ended);
    }
    delays
}

#[test]
fn restarts_are_delayed_as_the_kubelet_does() {
    let minutes = 60 * SECOND;
    let cases: [(&[u64], &[u64]); 4] = [
        (&[5; 9], &[0, 10, 20, 40, 80, 160, 300, 300, 300]),
        // It ran for ten minutes and not more: the delay still holds.
        (&[5, 5, 600 * SECOND, 5], &[0, 10, 20, 40]),
        // More: as after a first start, and the next one waits for 10 s again.
        (&[5, 5, 5, 600 * SECOND + 1, 5, 5], &[0, 10, 20, 0, 10, 20]),
        (&[30 * minutes, 30 * minutes, 5], &[0, 0, 10]),
    ];
    for code in [0, 1] {
        for (runs, expected) in cases {
            let expected: Vec<u64> = expected.iter().map(|seconds| seconds * SECOND).collect();
            assert_eq!(delays(&mut one(""), runs, code), expected, "{runs:?}");
        }
    }
}

#[test]
fn the_delays_can_be_set_by_annotation() {
    let mut world = one("");
    world.rules.backoff.initial = std::time::Duration::from_millis(100);
    world.rules.backoff.max = std::time::Duration::from_millis(300);
    world.rules.backoff.reset = std::time::Duration::from_secs(1);
    let runs = [5, 5, 5, 5, 1001, 5];
    assert_eq!(delays(&mut world, &runs, 1), [0, 100, 200, 300, 0, 100]);
}

#[test]
fn the_delay_counts_from_the_end_of_the_instance() {
    let mut world = one("");
    world.act();
    world.exits("a", 1);
    world.exit("a", 1);
    // The supervisor was away for seven seconds.
    world.now = world.now.after(std::time::Duration::from_secs(7));
    assert!(world.act().is_empty());
    assert_eq!(world.wake(), Some(10 * SECOND));
}

#[test]
fn a_probe_kill_consults_the_instance_before_it() {
    let mut world = one("");
    world.act();
    let kill = |world: &mut World, after: u64| {
        world.pass(after);
        world.probe_fails("a", KillCause::Liveness);
        world.exits("a", 137)
    };
    assert_eq!(kill(&mut world, SECOND), ["start a_1"], "the first is immediate");
    assert_eq!(kill(&mut world, SECOND), ["start a_2"], "the second too: none was counted");
    assert_eq!(kill(&mut world, 10 * SECOND), ["start a_3"], "10 s since the one before: passed");
    assert!(kill(&mut world, 19 * SECOND).is_empty(), "20 s since the one before: not passed");
    assert!(world.pass(19_999).is_empty());
    assert_eq!(world.pass(1), ["start a_4"]);
}

#[test]
fn a_start_that_makes_no_container_is_tried_again_later_and_later() {
    let mut world = one("");
    world.starts = Starts::NoContainer;
    assert_eq!(world.act(), ["sandbox", "start of a fails"]);
    for delay in [10, 20, 40, 80, 160, 300, 300] {
        assert!(world.pass(delay * SECOND - 1).is_empty(), "{delay}");
        assert_eq!(world.pass(1), ["start of a fails"], "{delay}");
    }
    world.starts = Starts::Well;
    assert_eq!(world.pass(300 * SECOND), ["start a_0"], "none of them was an instance");
    assert_eq!(world.exits("a", 1), ["start a_1"], "nor a crash");
}

#[test]
fn a_start_whose_program_fails_is_a_crash() {
    let mut world = one("");
    world.starts = Starts::NoProgram;
    assert_eq!(world.act(), ["sandbox", "start of a fails", "start of a fails"]);
    assert_eq!(world.record.apps[0].restart_count, 1);
    assert!(world.pass(9_999).is_empty());
    assert_eq!(world.pass(1), ["start of a fails"]);
    let ended = world.record.apps[0].last.as_ref().unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_str()), (128, "StartError"));

    let mut never = one(r#", "restartPolicy": "Never""#);
    never.starts = Starts::NoProgram;
    let expected = ["sandbox", "start of a fails", "stop Finished", "end sandbox", "finish"];
    assert_eq!(never.act(), expected);
}

#[test]
fn a_container_that_cannot_start_does_not_stop_the_next() {
    let mut world = apps("");
    world.starts = Starts::NoContainer;
    assert_eq!(world.act(), ["sandbox", "start of a fails", "start of b fails"]);
}

// Termination (4, 5.1)

const PRE_STOP: &str = r#""lifecycle": {"preStop": {"exec": {}}}"#;

#[test]
fn all_containers_are_ended_at_once_then_killed_when_the_grace_is_over() {
    let mut world = apps("");
    world.act();
    assert_eq!(world.stop(None), ["end a 30", "end b 30", "TERM a", "TERM b"]);
    assert_eq!(world.wake(), Some(30 * SECOND));
    assert!(world.exits("a", 143).is_empty(), "it is not restarted");
    assert_eq!(world.pass(30 * SECOND), ["KILL b"]);
    assert_eq!(world.wake(), None);
    assert_eq!(world.exits("b", 137), ["end sandbox", "finish"]);
}

#[test]
fn the_grace_of_a_stop() {
    // Manifest, asked, effective, time to SIGKILL.
    let rows = [
        (30, None, 30, 30),
        (30, Some(5), 5, 5),
        (30, Some(60), 30, 30),
        (30, Some(0), 1, 2),
        (0, None, 1, 2),
        (1, None, 1, 2),
        (2, None, 2, 2),
    ];
    for (own, asked, effective, kill) in rows {
        let mut world = one(&format!(r#", "terminationGracePeriodSeconds": {own}"#));
        world.act();
        assert_eq!(world.stop(asked), [format!("end a {effective}"), "TERM a".to_owned()]);
        assert!(world.pass(kill * SECOND - 1).is_empty(), "{own}, {asked:?}");
        assert_eq!(world.pass(1), ["KILL a"], "{own}, {asked:?}");
    }
}

#[test]
fn the_time_of_pre_stop_is_inside_the_grace_with_a_floor_after_it() {
    // Duration of the hook, when SIGKILL comes.
    for (hook, kill) in [(0, 10), (3, 10), (8, 10), (9, 11)] {
        let mut world = world(&format!(
            r#"{{"terminationGracePeriodSeconds": 10, "containers": [{{"name": "a", {PRE_STOP}}}]}}"#
        ));
        world.act();
        assert_eq!(world.stop(None), ["end a 10 with hook"]);
        assert!(world.pass(hook * SECOND).is_empty());
        assert_eq!(world.pre_stop_done("a"), ["TERM a"]);
        assert_eq!(world.wake(), Some(kill * SECOND), "{hook}");
    }
}

#[test]
fn a_pre_stop_hook_that_overruns_is_left_to_itself() {
    let mut world = world(&format!(r#"{{"containers": [{{"name": "a", {PRE_STOP}}}]}}"#));
    world.act();
    world.stop(None);
    assert_eq!(world.pass(30 * SECOND), ["TERM a"]);
    assert!(world.pre_stop_done("a").is_empty());
    assert_eq!(world.pass(2 * SECOND), ["KILL a"]);
}

#[test]
fn pre_stop_runs_for_probe_kills_but_not_for_a_container_that_ends_by_itself() {
    let mut world = world(&format!(r#"{{"containers": [{{"name": "a", {PRE_STOP}}}]}}"#));
    world.act();
    assert_eq!(world.exits("a", 1), ["start a_1"]);
    assert_eq!(world.probe_fails("a", KillCause::Liveness), ["end a 30 with hook"]);
    assert!(world.probe_fails("a", KillCause::Liveness).is_empty(), "once");
    assert_eq!(world.pre_stop_done("a"), ["TERM a"]);
}

#[test]
fn the_grace_of_a_probe_comes_before_that_of_the_pod_and_may_be_longer() {
    let probe =
        |grace: u32| format!(r#"{{"exec": {{}}, "terminationGracePeriodSeconds": {grace}}}"#);
    let spec = format!(
        r#"{{"containers": [{{"name": "a", "livenessProbe": {}, "startupProbe": {}}}]}}"#,
        probe(60),
        probe(3)
    );
    for (why, grace) in [(KillCause::Liveness, 60), (KillCause::Startup, 3)] {
        let mut world = world(&spec);
        world.act();
        world.probe_fails("a", why);
        assert_eq!(world.wake(), Some(grace * SECOND));
    }
}

#[test]
fn the_pre_stop_of_a_sidecar_runs_at_once_but_its_signal_waits_for_its_turn() {
    let sidecar =
        |name: &str| format!(r#"{{"name": "{name}", "restartPolicy": "Always", {PRE_STOP}}}"#);
    let init = format!("[{}, {}]", sidecar("s"), sidecar("t"));
    let mut world = one(&format!(r#", "initContainers": {init}"#));
    world.act();
    let begun = ["end s 30 with hook", "end t 30 with hook", "end a 30", "TERM a"];
    assert_eq!(world.stop(None), begun);
    assert!(world.pre_stop_done("s").is_empty());
    assert!(world.pre_stop_done("t").is_empty());
    assert_eq!(world.exits("a", 0), ["TERM t"]);
    assert_eq!(world.exits("t", 0), ["TERM s"]);
    assert_eq!(world.wake(), Some(30 * SECOND));
}

#[test]
fn a_sidecar_does_not_wait_for_its_turn_longer_than_the_grace() {
    let sidecar = r#"{"name": "s", "restartPolicy": "Always"}"#;
    let mut world = one(&format!(r#", "initContainers": [{sidecar}]"#));
    world.act();
    world.stop(None);
    assert_eq!(world.pass(30 * SECOND), ["TERM s", "KILL a"]);
    assert_eq!(world.pass(2 * SECOND), ["KILL s"]);
}

#[test]
fn a_regular_init_container_does_not_wait_for_a_turn() {
    let init = r#"[{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]"#;
    let mut world = one(&format!(r#", "initContainers": {init}"#));
    world.act();
    assert_eq!(world.stop(None), ["end s 30", "end i 30", "TERM s", "TERM i"]);
}

#[test]
fn a_second_stop_shortens_the_grace_and_never_lengthens_it() {
    let mut world = one("");
    world.act();
    world.stop(None);
    world.pass(10 * SECOND);
    assert!(world.stop(Some(60)).is_empty());
    assert_eq!(world.wake(), Some(30 * SECOND));
    assert!(world.stop(Some(5)).is_empty());
    assert_eq!(world.wake(), Some(15 * SECOND));
    assert!(world.stop(Some(0)).is_empty());
    assert_eq!(world.wake(), Some(12 * SECOND), "the floor");
}

#[test]
fn a_stop_shortens_what_a_probe_has_begun() {
    let mut world = world(&format!(
        r#"{{"terminationGracePeriodSeconds": 3, "containers": [{{"name": "a", {PRE_STOP},
            "livenessProbe": {{"exec": {{}}, "terminationGracePeriodSeconds": 60}}}}]}}"#
    ));
    world.act();
    world.probe_fails("a", KillCause::Liveness);
    assert!(world.stop(None).is_empty(), "one end is enough");
    assert_eq!(world.pass(3 * SECOND), ["TERM a"]);
    assert_eq!(world.pass(2 * SECOND), ["KILL a"]);
    assert_eq!(world.exits("a", 137), ["end sandbox", "finish"]);
}

#[test]
fn probes_kill_nothing_in_a_pod_that_ends() {
    let mut world = one("");
    world.act();
    world.stop(None);
    assert!(world.probe_fails("a", KillCause::Liveness).is_empty());
}

#[test]
fn the_deadline_counts_from_the_first_sync() {
    let mut world = one(r#", "activeDeadlineSeconds": 60"#);
    world.now = world.now.after(std::time::Duration::from_secs(20));
    world.act();
    assert_eq!(world.wake(), Some(60 * SECOND));
    assert_eq!(world.pass(40 * SECOND), ["stop Deadline", "end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 0), ["end sandbox", "finish"]);
}

#[test]
fn a_refused_pod_starts_nothing() {
    let mut world = one("");
    world.record.refusal = Some(super::world::failure("SysctlForbidden"));
    assert_eq!(world.act(), ["stop Refused", "finish"]);
}

// Sandbox (0)

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again() {
    let mut world = one("");
    world.sandbox_fails = true;
    assert_eq!(world.act(), ["sandbox fails"]);
    assert_eq!(world.wake(), Some(10 * SECOND));
    assert_eq!(world.pass(20 * SECOND), ["sandbox fails", "sandbox fails"]);
    world.sandbox_fails = false;
    assert_eq!(world.pass(10 * SECOND), ["sandbox", "start a_0"]);
    assert_eq!(world.record.sandbox_attempt, 3);
}

#[test]
fn a_new_sandbox_restarts_all_containers_init_containers_too() {
    let mut world = apps(r#", "restartPolicy": "OnFailure", "initContainers": [{"name": "i"}]"#);
    world.act();
    world.exits("i", 0);
    world.exits("b", 0);
    world.pass(SECOND);
    assert_eq!(world.sandbox_dies(), ["end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 143), ["forget", "sandbox", "start i_1"]);
    assert_eq!(world.exits("i", 0), ["start a_1"], "b has done its work");
    assert_eq!(world.exits("a", 0), ["stop Finished", "end sandbox", "finish"]);
}

#[test]
fn a_pod_that_must_not_be_repeated_ends_with_its_sandbox() {
    let mut world = one(r#", "restartPolicy": "Never""#);
    world.act();
    assert_eq!(world.sandbox_dies(), ["stop Finished", "end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 143), ["finish"]);

    let mut world = one(r#", "restartPolicy": "Never""#);
    world.starts = Starts::NoContainer;
    world.act();
    world.starts = Starts::Well;
    world.pass(SECOND);
    assert_eq!(world.sandbox_dies(), ["sandbox"], "nothing had run");
    assert_eq!(world.pass(10 * SECOND), ["start a_0"]);
}

#[test]
fn a_sandbox_that_dies_at_once_is_not_made_anew_at_once() {
    let mut world = one("");
    world.act();
    world.pass(999);
    world.sandbox_dies();
    assert_eq!(world.exits("a", 137), ["forget"]);
    assert_eq!(world.wake(), Some(10_999));
    assert_eq!(world.pass(10 * SECOND), ["sandbox", "start a_1"]);
}

#[test]
fn no_sandbox_is_made_when_nothing_would_run_in_it() {
    let mut world = one(r#", "restartPolicy": "OnFailure""#);
    world.act();
    world.exit("a", 0);
    assert_eq!(world.sandbox_dies(), ["stop Finished", "finish"]);
}

#[test]
fn an_app_that_ends_well_because_its_sandbox_died_has_not_done_its_work() {
    let mut world = one(r#", "restartPolicy": "OnFailure""#);
    world.act();
    world.pass(SECOND);
    assert_eq!(world.sandbox_dies(), ["end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 0), ["forget", "sandbox", "start a_1"]);
}

// Reports

#[test]
fn reports_of_an_instance_that_is_no_more_change_nothing() {
    let hooks = r#""lifecycle": {"postStart": {"exec": {}}, "preStop": {"exec": {}}}"#;
    let mut world = world(&format!(
        r#"{{"containers": [{{"name": "a", {hooks}, "startupProbe": {{"exec": {{}}}}}}]}}"#
    ));
    world.act();
    world.exits("a", 1);
    world.probe_fails("a", KillCause::Startup);
    let before = world.record.clone();
    let (rules, record) = (&world.rules, &mut world.record);
    transition::on_post_start_done(rules, record, "a", "a_0");
    transition::on_startup_done(rules, record, "a", "a_0");
    transition::on_readiness(record, "a", "a_0", true);
    transition::on_pre_stop_done(record, "a", "a_0");
    let begin = BeginStop { container: "a".to_owned(), why: KillCause::Pod, grace_seconds: 1 };
    assert!(!transition::on_stop_begun(rules, record, &begin, world.now));
    transition::on_killed(record, "b");
    let mut ended = record.apps[0].last.clone().unwrap();
    transition::on_exit(record, "a", ended.clone());
    assert_eq!(world.record, before);
    ended.id = "a_1".to_owned();
    transition::on_exit(&mut world.record, "a", ended);
    assert!(!world.is_running("a"));
}

#[test]
fn readiness_without_a_probe_is_being_started_and_with_one_its_verdict() {
    let probe = r#""startupProbe": {"exec": {}}"#;
    let mut world = world(&format!(
        r#"{{"containers": [{{"name": "a", {probe}}},
            {{"name": "b", {probe}, "readinessProbe": {{"exec": {{}}}}}}]}}"#
    ));
    world.act();
    let seen = |world: &World, index: usize| {
        let own = &world.record.apps[index];
        (own.started, own.ready)
    };
    world.ready("b", true);
    assert_eq!((seen(&world, 0), seen(&world, 1)), ((false, false), (false, false)));
    world.startup_done("a");
    world.startup_done("b");
    assert_eq!((seen(&world, 0), seen(&world, 1)), ((true, true), (true, false)));
    world.ready("b", true);
    assert_eq!(seen(&world, 1), (true, true));
    world.exits("b", 1);
    assert_eq!(seen(&world, 1), (false, false), "a new instance begins anew");
}

#[test]
fn a_record_that_is_written_down_in_the_middle_goes_on_from_there() {
    let mut world = one("");
    world.act();
    world.exits("a", 1);
    world.exits("a", 1);
    let text = serde_json::to_string(&world.record).unwrap();
    world.record = serde_json::from_str(&text).unwrap();
    assert_eq!(world.wake(), Some(10 * SECOND));
    assert_eq!(world.pass(10 * SECOND), ["start a_2"]);
}

// The network

#[test]
fn nothing_starts_before_the_network_is_there_and_it_goes_before_the_sandbox() {
    let mut world = one("");
    world.has_network = true;
    assert_eq!(world.act(), ["sandbox"]);
    assert_eq!(world.pass(60 * SECOND), Vec::<String>::new());
    assert!(world.record.usable_sandbox().is_none());
    assert_eq!(world.plugins(true), ["start a_0"]);
    assert_eq!(world.stop(None), ["end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 143), ["release"]);
    assert_eq!(world.pass(60 * SECOND), Vec::<String>::new());
    assert_eq!(world.plugins(true), ["end sandbox", "finish"]);
}

#[test]
fn a_network_that_cannot_be_made_is_tried_again_with_a_new_sandbox() {
    let mut world = one("");
    world.has_network = true;
    assert_eq!(world.act(), ["sandbox"]);
    assert_eq!(world.plugins(false), Vec::<String>::new());
    assert!(world.record.sandbox.is_none() && world.record.network.is_none());
    assert_eq!(world.wake(), Some(10 * SECOND));
    assert_eq!(world.pass(10 * SECOND), ["sandbox"]);
    assert_eq!(world.record.sandbox_attempt, 1);
    assert_eq!(world.plugins(true), ["start a_0"]);
}

#[test]
fn a_new_sandbox_waits_until_the_network_of_the_old_one_is_released() {
    let mut world = one("");
    world.has_network = true;
    world.act();
    world.plugins(true);
    world.pass(2 * SECOND);
    assert_eq!(world.sandbox_dies(), ["end a 30", "TERM a"]);
    assert_eq!(world.exits("a", 143), ["forget", "release"]);
    assert_eq!(world.plugins(true), ["sandbox"]);
    assert_eq!(world.plugins(true), ["start a_1"]);
}

#[test]
fn the_end_of_a_pod_and_the_death_of_its_sandbox_do_not_wait_for_plugins_that_attach() {
    let mut world = one("");
    world.has_network = true;
    world.act();
    assert_eq!(world.stop(None), ["release"]);
    assert_eq!(world.plugins(true), ["end sandbox", "finish"]);

    let mut world = one("");
    world.has_network = true;
    world.act();
    assert_eq!(world.sandbox_dies(), Vec::<String>::new());
    assert_eq!(world.plugins(true), ["release"], "nobody has the addresses");
    assert_eq!(world.plugins(true), Vec::<String>::new(), "it died at once: later");
    assert_eq!(world.pass(10 * SECOND), ["sandbox"]);
}
