//! The rules of the kubelet's probe workers, one by one.

use super::*;
use proptest::prelude::*;

const START: u64 = 1_000_000_000_000;

/// Milliseconds after the start of the worker.
fn at(millis: u64) -> Moment {
    Moment::from_nanos(START + millis * 1_000_000)
}

fn rules() -> ProbeRules {
    ProbeRules {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
        grace: None,
    }
}

fn running(number: u32, since: u64, startup_done: bool) -> Facts {
    let instance = Some(Instance { number, since: at(since) });
    Facts { instance, startup_done, stopping: false }
}

fn worker(kind: Kind, rules: ProbeRules) -> Worker {
    Worker::new(kind, rules, at(0))
}

/// A worker whose container has run since `since`.
fn watching(kind: Kind, rules: ProbeRules, since: u64) -> Worker {
    let mut worker = worker(kind, rules);
    worker.see(running(0, since, kind != Kind::Startup), at(since));
    worker
}

fn fail() -> Health {
    Health::Failure("no".to_owned())
}

fn unknown() -> Health {
    Health::Unknown("gone".to_owned())
}

/// One attempt at the moment it is due.
fn step(worker: &mut Worker, health: &Health) -> (Moment, Outcome) {
    let due = worker.due().unwrap();
    let attempt = worker.begin(due);
    (due, worker.finish(attempt, health))
}

#[test]
fn a_container_has_a_worker_for_each_of_its_probes() {
    let mut container = ContainerRules {
        name: "web".to_owned(),
        kind: crate::pod::rules::Kind::App,
        restart: crate::pod::rules::RestartPolicy::Always,
        exit_rules: Vec::new(),
        post_start: false,
        pre_stop: false,
        startup: None,
        liveness: Some(rules()),
        readiness: Some(rules()),
    };
    let kinds = |container: &ContainerRules| {
        Worker::all(container, at(0)).map(|worker| worker.kind()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&container), [Kind::Liveness, Kind::Readiness]);
    (container.startup, container.liveness) = (Some(rules()), None);
    assert_eq!(kinds(&container), [Kind::Startup, Kind::Readiness]);
}

#[test]
fn initial_verdicts() {
    for (kind, verdict) in [
        (Kind::Startup, Verdict::Unknown),
        (Kind::Liveness, Verdict::Success),
        (Kind::Readiness, Verdict::Failure),
    ] {
        assert_eq!(worker(kind, rules()).verdict(), verdict);
        assert_eq!(watching(kind, rules(), 5).verdict(), verdict);
    }
}

#[test]
fn nothing_is_due_without_a_container() {
    for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
        let mut worker = worker(kind, rules());
        assert_eq!(worker.due(), None);
        worker.see(running(0, 1, kind != Kind::Startup), at(1));
        assert!(worker.due().is_some());
        worker.see(Facts::default(), at(2));
        assert_eq!(worker.due(), None);
    }
}

#[test]
fn rule_1_ticks_count_from_the_start_of_the_worker() {
    for kind in [Kind::Startup, Kind::Liveness] {
        let mut worker = watching(kind, rules(), 3_000);
        assert_eq!(step(&mut worker, &Health::Success).0, at(10_000));
        assert_eq!(step(&mut worker, &Health::Success).0, at(20_000));
    }
}

#[test]
fn rule_1_a_late_attempt_uses_one_lost_tick_and_no_more() {
    let mut worker = watching(Kind::Liveness, rules(), 3_000);
    let attempt = worker.begin(at(10_000));
    assert_eq!(worker.due(), None, "one attempt at a time");
    worker.finish(attempt, &Health::Success);
    // It took until 37 s: the tick of 20 s is used at once, that of 30 s is lost.
    assert_eq!(worker.due(), Some(at(20_000)));
    let attempt = worker.begin(at(37_000));
    worker.finish(attempt, &Health::Success);
    assert_eq!(worker.due(), Some(at(40_000)));
}

#[test]
fn rule_2_initial_delay_counts_from_the_container_and_skips_ticks() {
    let delayed = ProbeRules { initial_delay: Duration::from_secs(8), ..rules() };
    // Runs since 3 s, so not before 11 s: the tick of 10 s is skipped.
    assert_eq!(watching(Kind::Liveness, delayed, 3_000).due(), Some(at(20_000)));
    assert_eq!(watching(Kind::Startup, delayed, 2_000).due(), Some(at(10_000)));
    // A readiness probe has its own ticks from the start of the container.
    assert_eq!(watching(Kind::Readiness, delayed, 3_000).due(), Some(at(13_000)));
}

#[test]
fn rule_2_and_3_the_others_wait_for_the_startup_probe() {
    for (kind, before, after) in [
        (Kind::Startup, Some(at(10_000)), None),
        (Kind::Liveness, None, Some(at(20_000))),
        (Kind::Readiness, None, Some(at(14_000))),
    ] {
        let mut worker = worker(kind, rules());
        worker.see(running(0, 1_000, false), at(1_000));
        assert_eq!(worker.due(), before, "{kind:?}");
        worker.see(running(0, 1_000, true), at(14_000));
        assert_eq!(worker.due(), after, "{kind:?}");
    }
}

#[test]
fn rule_4_thresholds() {
    let two = ProbeRules { success_threshold: 2, failure_threshold: 3, ..rules() };
    let mut worker = watching(Kind::Readiness, two, 0);
    let mut seen = Vec::new();
    for good in "++--+---++".chars() {
        let health = if good == '+' { Health::Success } else { fail() };
        seen.push(step(&mut worker, &health).1.change);
    }
    let (up, down) = (Some(Change::Succeeded), Some(Change::Failed));
    assert_eq!(seen, [None, up, None, None, None, None, None, down, None, up]);
}

#[test]
fn rule_4_counters_survive_a_new_instance_but_not_hold() {
    let mut worker = watching(Kind::Liveness, rules(), 0);
    assert_eq!(step(&mut worker, &fail()).1.change, None);
    assert_eq!(step(&mut worker, &fail()).1.change, None);
    worker.see(Facts::default(), at(11_000));
    worker.see(running(1, 12_000, true), at(12_000));
    assert_eq!(step(&mut worker, &fail()).1.change, Some(Change::Failed));
    worker.see(running(2, 30_000, true), at(30_000));
    assert_eq!(step(&mut worker, &fail()).1.change, None);
    assert_eq!(step(&mut worker, &fail()).1.change, None);
    assert_eq!(step(&mut worker, &fail()).1.change, Some(Change::Failed));
}

#[test]
fn on_hold_after_a_failure_until_there_is_a_new_instance() {
    for kind in [Kind::Startup, Kind::Liveness] {
        let once = ProbeRules { failure_threshold: 1, ..rules() };
        let mut worker = watching(kind, once, 0);
        assert_eq!(step(&mut worker, &fail()).1.change, Some(Change::Failed));
        assert_eq!(worker.due(), None);
        assert_eq!(worker.verdict(), Verdict::Failure);
        let started = kind != Kind::Startup;
        worker.see(Facts { stopping: true, ..running(0, 0, started) }, at(1));
        worker.see(Facts::default(), at(2));
        assert_eq!(worker.due(), None);
        worker.see(running(1, 3, started), at(3));
        assert_eq!(worker.due(), Some(at(10_000)));
        assert_eq!(worker.verdict(), kind.initial());
    }
    let mut readiness =
        watching(Kind::Readiness, ProbeRules { failure_threshold: 1, ..rules() }, 0);
    step(&mut readiness, &fail());
    assert!(readiness.due().is_some(), "a readiness probe is never on hold");
}

#[test]
fn rule_5_readiness_is_probed_at_once_and_each_period_from_then() {
    let mut worker = watching(Kind::Readiness, rules(), 3_210);
    assert_eq!(step(&mut worker, &fail()).0, at(3_210));
    assert_eq!(step(&mut worker, &Health::Success).0, at(13_210));
    assert_eq!(step(&mut worker, &Health::Success).0, at(23_210));
    worker.see(running(1, 25_000, true), at(25_000));
    assert_eq!(worker.verdict(), Verdict::Failure);
    assert_eq!(step(&mut worker, &Health::Success).0, at(25_000));
}

#[test]
fn rule_6_when_the_container_is_being_ended_only_readiness_goes_on() {
    for (kind, goes_on) in
        [(Kind::Startup, false), (Kind::Liveness, false), (Kind::Readiness, true)]
    {
        let mut worker = watching(kind, rules(), 0);
        let facts = Facts { stopping: true, ..running(0, 0, kind != Kind::Startup) };
        let attempt = worker.begin(at(0));
        worker.see(facts, at(1));
        let outcome = worker.finish(attempt, &fail());
        assert_eq!(outcome.event.is_some(), goes_on, "{kind:?}");
        assert_eq!(worker.due().is_some(), goes_on, "{kind:?}");
    }
}

#[test]
fn rule_7_what_was_ready_stays_ready_over_a_new_supervisor() {
    let mut record: ContainerRecord = serde_json::from_value(serde_json::json!({
        "name": "web",
        "state": {
            "is": "running", "id": "x", "pid": 7, "post_start": "none", "stopping": null,
            "since": { "at": START, "wall": "2026-01-01T00:00:00Z" },
            "startup_done": true, "oom_killed": false,
        },
        "last": null, "restart_count": 4, "started": true, "ready": true,
        "backoff": { "delay_millis": null, "last_start": null },
    }))
    .unwrap();
    let resume = |kind, record: &ContainerRecord| Worker::resume(kind, rules(), record, at(99_000));
    let readiness = resume(Kind::Readiness, &record);
    assert_eq!(readiness.verdict(), Verdict::Success);
    assert_eq!(readiness.due(), Some(at(99_000)));
    assert_eq!(resume(Kind::Startup, &record).due(), None);
    assert_eq!(resume(Kind::Liveness, &record).verdict(), Verdict::Success);
    record.ready = false;
    assert_eq!(resume(Kind::Readiness, &record).verdict(), Verdict::Failure);
    assert_eq!(Facts::of(&record), running(4, 0, true));
    if let ContainerState::Running(running) = &mut record.state {
        running.post_start = HookState::Pending;
    }
    assert_eq!(Facts::of(&record), Facts::default(), "not before postStart is done");
}

#[test]
fn what_could_not_be_run_is_run_three_times_and_then_discarded() {
    let once = ProbeRules { failure_threshold: 1, ..rules() };
    let mut worker = watching(Kind::Liveness, once, 0);
    for round in 0..2 {
        let due = at(10_000 * round);
        assert_eq!(worker.due(), Some(due));
        for _ in 0..2 {
            let attempt = worker.begin(due);
            assert_eq!(worker.finish(attempt, &unknown()), Outcome::default());
            assert!(worker.due().unwrap() <= due.after(Duration::from_nanos(1)), "at once");
        }
        let attempt = worker.begin(due);
        let outcome = worker.finish(attempt, &unknown());
        assert_eq!(outcome.change, None);
        let message = "Liveness probe errored and resulted in unknown state: gone".to_owned();
        assert_eq!(outcome.event, Some(ProbeEvent { reason: "Unhealthy", message }));
    }
    // One that succeeds in the second run counts, and the runs are counted anew.
    step(&mut worker, &unknown());
    assert_eq!(step(&mut worker, &fail()).1.change, Some(Change::Failed));
}

#[test]
fn events_are_in_the_words_of_the_kubelet() {
    for (kind, health, event) in [
        (Kind::Readiness, Health::Success, None),
        (Kind::Readiness, fail(), Some(("Unhealthy", "Readiness probe failed: no"))),
        (Kind::Startup, fail(), Some(("Unhealthy", "Startup probe failed: no"))),
        (
            Kind::Liveness,
            Health::Warning("Probe terminated redirects".to_owned()),
            Some(("ProbeWarning", "Liveness probe warning: Probe terminated redirects")),
        ),
    ] {
        let event =
            event.map(|(reason, message)| ProbeEvent { reason, message: message.to_owned() });
        assert_eq!(super::event(kind, &health), event);
    }
    let long = super::event(Kind::Liveness, &Health::Failure("ä".repeat(9999))).unwrap();
    assert!((1023..=1024).contains(&long.message.len()));
    let text = Health::Failure("\u{1b}[2Ja\n\tb\0".to_owned());
    let message = super::event(Kind::Liveness, &text).unwrap().message;
    assert_eq!(message, "Liveness probe failed: \\u{1b}[2Ja\n\tb\\u{0}");
}

#[test]
fn a_warning_counts_as_success() {
    let mut worker = watching(Kind::Readiness, rules(), 0);
    let outcome = step(&mut worker, &Health::Warning("redirect".to_owned())).1;
    assert_eq!(outcome.change, Some(Change::Succeeded));
}

#[test]
fn an_attempt_at_an_instance_that_is_gone_is_void() {
    let once = ProbeRules { failure_threshold: 1, ..rules() };
    let mut worker = watching(Kind::Liveness, once, 0);
    let old = worker.begin(at(10_000));
    worker.see(running(1, 11_000, true), at(11_000));
    let new = worker.begin(at(20_000));
    assert_eq!(worker.finish(old, &fail()), Outcome::default());
    assert_eq!(worker.due(), None, "the new attempt is still under way");
    assert_eq!(worker.finish(new, &fail()).change, Some(Change::Failed));
}

#[test]
fn periods_below_a_second_and_of_nothing() {
    let fast = ProbeRules { period: Duration::from_millis(100), ..rules() };
    assert_eq!(watching(Kind::Liveness, fast, 30).due(), Some(at(100)));
    let broken = ProbeRules { period: Duration::ZERO, ..rules() };
    assert_eq!(watching(Kind::Liveness, broken, 30).due(), Some(at(30)));
}

#[derive(Debug, Clone)]
enum Step {
    Attempt(Health),
    Restart,
    Stop,
    Started(bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Attempt(Health::Success)),
        4 => Just(Step::Attempt(fail())),
        1 => Just(Step::Attempt(unknown())),
        1 => Just(Step::Restart),
        1 => Just(Step::Stop),
        1 => any::<bool>().prop_map(Step::Started),
        1 => (0u64..60_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A loop around a ticker that keeps one tick for a late reader, in milliseconds: when it probes
/// a container that runs from `since` on, if each attempt takes `took`.
fn ticker_loop(since: u64, delay: u64, period: u64, took: u64) -> Vec<u64> {
    let (mut now, mut tick, mut attempts) = (0, period, Vec::new());
    while attempts.len() < 20 {
        if now >= since + delay {
            attempts.push(now);
            now += took;
        }
        if tick <= now {
            tick = (now / period + 1) * period;
        } else {
            now = tick;
            tick += period;
        }
    }
    attempts
}

proptest! {
    #[test]
    fn attempts_begin_when_a_ticker_would_have_them_begin(
        since in 0u64..100,
        delay in 0u64..100,
        period in 1u64..50,
        took in 0u64..200,
    ) {
        let rules = ProbeRules {
            initial_delay: Duration::from_millis(delay),
            period: Duration::from_millis(period),
            ..rules()
        };
        let mut worker = watching(Kind::Liveness, rules, since);
        let mut free = at(0);
        for expected in ticker_loop(since, delay, period, took) {
            let begin = worker.due().unwrap().max(free);
            prop_assert_eq!(begin, at(expected));
            let attempt = worker.begin(begin);
            worker.finish(attempt, &Health::Success);
            free = begin.after(Duration::from_millis(took));
        }
    }

    /// The verdict flips only when the last `threshold` results that count were alike; a failed
    /// startup or liveness probe rests until there is a new instance; nothing is due early.
    #[test]
    fn verdicts_flip_only_at_their_threshold(
        steps in steps(),
        kind in prop_oneof![Just(Kind::Startup), Just(Kind::Liveness), Just(Kind::Readiness)],
        success in 1u32..4,
        failure in 1u32..4,
        delay in 0u64..30,
    ) {
        let rules = ProbeRules {
            success_threshold: success,
            failure_threshold: failure,
            initial_delay: Duration::from_secs(delay),
            ..rules()
        };
        let mut worker = worker(kind, rules);
        let (mut now, mut number, mut facts) = (at(0), 0, Facts::default());
        let mut results: Vec<bool> = Vec::new();
        let mut held = None;
        for step in steps {
            match step {
                Step::Pass(millis) => now = now.after(Duration::from_millis(millis)),
                Step::Restart => {
                    number += 1;
                    let instance = Some(Instance { number, since: now });
                    facts = Facts { instance, startup_done: kind != Kind::Startup, stopping: false };
                    worker.see(facts, now);
                    prop_assert_eq!(worker.verdict(), kind.initial());
                }
                Step::Stop => {
                    facts = Facts::default();
                    worker.see(facts, now);
                }
                Step::Started(done) => {
                    facts.startup_done = done;
                    worker.see(facts, now);
                }
                Step::Attempt(health) => {
                    let Some(due) = worker.due() else { continue };
                    let instance = facts.instance.unwrap();
                    prop_assert!(due >= instance.since.after(rules.initial_delay));
                    prop_assert_ne!(held, Some(instance.number), "on hold");
                    now = now.max(due);
                    let before = worker.verdict();
                    let attempt = worker.begin(now);
                    let change = worker.finish(attempt, &health).change;
                    match health {
                        Health::Success => results.push(true),
                        Health::Failure(_) => results.push(false),
                        _ => prop_assert_eq!(change, None),
                    }
                    prop_assert_eq!(change.is_some(), worker.verdict() != before);
                    let Some(change) = change else { continue };
                    let (good, threshold) = match change {
                        Change::Succeeded => (true, success),
                        Change::Failed => (false, failure),
                    };
                    let run = results.iter().rev().take_while(|result| **result == good).count();
                    prop_assert!(run >= usize::try_from(threshold).unwrap());
                    if !good && kind != Kind::Readiness {
                        held = Some(instance.number);
                        results.clear();
                    }
                }
            }
        }
    }
}
