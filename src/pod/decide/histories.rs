//! Random pods with random histories: what must hold whatever happens.

use proptest::prelude::*;

use super::world::{Entry, Starts, World, world};
use crate::pod::clock::Moment;
use crate::pod::phase::{Phase, columns, phase, update_conditions};
use crate::pod::record::KillCause;
use crate::pod::rules::Kind;

/// Something that happens to a pod; a container is named by its index, modulo their number.
#[derive(Debug, Clone)]
enum Happening {
    Pass(u64),
    Exit(usize, i32),
    ProbeFails(usize, KillCause),
    PostStart(usize, bool),
    StartupDone(usize),
    Ready(usize, bool),
    PreStopDone(usize),
    SandboxDies,
    Plugins(bool),
    Starts(Starts),
    SandboxFails(bool),
    Stop(Option<u32>),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{
        Exit, Pass, Plugins, PostStart, PreStopDone, ProbeFails, Ready, SandboxDies, SandboxFails,
        StartupDone, Stop,
    };
    let code = prop_oneof![Just(0), Just(1), Just(9), Just(137)];
    let probe = prop_oneof![Just(KillCause::Liveness), Just(KillCause::Startup)];
    let starts = prop_oneof![
        3 => Just(Starts::Well), 1 => Just(Starts::NoContainer), 1 => Just(Starts::NoProgram)
    ];
    prop_oneof![
        10 => prop_oneof![0..50_u64, 0..30_000_u64, 0..700_000_u64].prop_map(Pass),
        12 => (0..6_usize, code).prop_map(|(index, code)| Exit(index, code)),
        3 => (0..6_usize, probe).prop_map(|(index, why)| ProbeFails(index, why)),
        6 => (0..6_usize, any::<bool>()).prop_map(|(index, works)| PostStart(index, works)),
        6 => (0..6_usize).prop_map(StartupDone),
        2 => (0..6_usize, any::<bool>()).prop_map(|(index, ready)| Ready(index, ready)),
        2 => (0..6_usize).prop_map(PreStopDone),
        1 => Just(SandboxDies),
        4 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Plugins),
        2 => starts.prop_map(Happening::Starts),
        1 => any::<bool>().prop_map(SandboxFails),
        1 => proptest::option::of(0..40_u32).prop_map(Stop),
    ]
}

fn container(
    prefix: &'static str,
    policies: &'static [&'static str],
) -> impl Strategy<Value = String> {
    let policy = proptest::sample::select(policies);
    let parts = (policy, any::<[bool; 4]>(), 0..4_u8);
    parts.prop_map(move |(policy, [post_start, pre_stop, startup, readiness], rule)| {
        let mut own = format!(r#""name": "{prefix}INDEX""#);
        let hook = r#"{"exec": {}}"#;
        if !policy.is_empty() {
            own += &format!(r#", "restartPolicy": "{policy}""#);
        }
        let hooks = [("postStart", post_start), ("preStop", pre_stop)];
        let hooks =
            hooks.iter().filter(|(_, has)| *has).map(|(name, _)| format!(r#""{name}": {hook}"#));
        own += &format!(r#", "lifecycle": {{{}}}"#, hooks.collect::<Vec<_>>().join(", "));
        for (name, has) in [("startupProbe", startup), ("readinessProbe", readiness)] {
            if has {
                own += &format!(r#", "{name}": {hook}"#);
            }
        }
        let action = match rule {
            0 => "Restart",
            1 => "RestartAllContainers",
            _ => return format!("{{{own}}}"),
        };
        let codes = r#"{"operator": "In", "values": [9]}"#;
        format!(
            r#"{{{own}, "restartPolicyRules": [{{"action": "{action}", "exitCodes": {codes}}}]}}"#
        )
    })
}

fn numbered(containers: &[String]) -> String {
    let number = |(index, own): (usize, &String)| own.replace("INDEX", &index.to_string());
    containers.iter().enumerate().map(number).collect::<Vec<_>>().join(", ")
}

fn spec() -> impl Strategy<Value = String> {
    let init = proptest::collection::vec(container("i", &["", "Always", "Always", "Never"]), 0..4);
    let apps =
        proptest::collection::vec(container("a", &["", "", "Always", "OnFailure", "Never"]), 1..4);
    let policy = proptest::sample::select(&["Always", "OnFailure", "Never"][..]);
    let deadline = proptest::option::weighted(0.1, 1..2000_u32);
    (init, apps, policy, 0..40_u32, deadline).prop_map(|(init, apps, policy, grace, deadline)| {
        let deadline = deadline
            .map_or(String::new(), |limit| format!(r#", "activeDeadlineSeconds": {limit}"#));
        format!(
            r#"{{"restartPolicy": "{policy}", "terminationGracePeriodSeconds": {grace}{deadline},
                "initContainers": [{}], "containers": [{}]}}"#,
            numbered(&init),
            numbered(&apps)
        )
    })
}

fn happens(world: &mut World, what: &Happening) {
    let names: Vec<String> = world.rules.containers().map(|own| own.name.clone()).collect();
    let name = |index: usize| names[index % names.len()].as_str();
    match *what {
        Happening::Pass(millis) => {
            pass(world, millis);
        }
        Happening::Exit(index, code) => world.exit(name(index), code),
        Happening::ProbeFails(index, why) => {
            world.probe_fails(name(index), why);
        }
        Happening::PostStart(index, works) => {
            let name = name(index);
            let own = world.rules.container(name).unwrap();
            if own.post_start && !world.record.container(name).unwrap().started {
                world.post_start(name, works);
            }
        }
        Happening::StartupDone(index) => {
            world.startup_done(name(index));
        }
        Happening::Ready(index, ready) => world.ready(name(index), ready),
        Happening::PreStopDone(index) => {
            world.pre_stop_done(name(index));
        }
        Happening::SandboxDies => {
            world.sandbox_dies();
        }
        Happening::Plugins(works) => {
            world.plugins(works);
        }
        Happening::Starts(starts) => world.starts = starts,
        Happening::SandboxFails(fails) => world.sandbox_fails = fails,
        Happening::Stop(grace) => {
            world.stop(grace);
        }
    }
    reap(world);
}

/// SIGKILL works at once.
fn reap(world: &mut World) {
    world.settle();
    for name in world.killed() {
        world.exit(&name, 137);
        world.settle();
    }
    // Nor do plugins keep a pod from its end.
    if world.record.stop.is_some() {
        world.plugins(true);
    }
}

fn pass(world: &mut World, millis: u64) {
    let until = world.now.after(std::time::Duration::from_millis(millis));
    loop {
        reap(world);
        match world.settle() {
            Some(wake) if wake <= until => world.now = wake,
            _ => break,
        }
    }
    world.now = until;
    reap(world);
}

/// What must hold at every moment of rest.
fn is_sound(world: &mut World, before: &mut Option<Phase>) {
    let text = serde_json::to_string(&world.record).unwrap();
    let read: crate::pod::record::PodRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(read, world.record, "what is written down is all there is");
    world.done.clear();
    let wake = world.settle();
    assert!(world.done.is_empty(), "at rest");

    let phase = phase(&world.rules, &world.record);
    if let Some(before) = before.filter(|before| before.is_terminal()) {
        assert_eq!(phase, before, "a terminal phase is final");
    }
    assert!(!phase.is_terminal() || !world.record.containers().any(|own| own.running().is_some()));
    assert!(world.record.ended.is_none() || phase.is_terminal());
    *before = Some(phase);

    let now = world.stamp();
    update_conditions(&world.pod, &world.rules, &mut world.record, now);
    assert_eq!(columns(&world.pod, &world.rules, &world.record, now).name, "p");

    let members = world.rules.init.iter().zip(&world.record.init);
    let initializing = members
        .filter(|(own, record)| own.kind == Kind::Init && record.running().is_some())
        .count();
    let apps = world.record.apps.iter().filter(|own| own.running().is_some()).count();
    assert!(initializing <= 1 && (initializing == 0 || apps == 0));
    let undisturbed = |own: &crate::pod::record::ContainerRecord| {
        own.running().is_some_and(|running| running.stopping.is_none())
    };
    let deadline = world.rules.active_deadline.is_some();
    if world.record.usable_sandbox().is_some()
        && world.record.apps.iter().all(undisturbed)
        && !deadline
    {
        let sidecars = world.record.init.iter().zip(&world.rules.init);
        let mut sidecars = sidecars.filter(|(_, rules)| rules.kind == Kind::Sidecar);
        assert!(wake.is_none() || !sidecars.all(|(own, _)| undisturbed(own)), "an idle pod sleeps");
    }
}

/// The rule for one container: instances follow each other, are counted, and from the second
/// restart on there is a delay of 10 s, doubled up to 300 s, after an instance that has not run
/// for more than 600 s.
fn keeps_the_delays(journal: &[(u64, Entry)], of: &str, probed: bool) {
    let (mut began, mut ended, mut count, mut delay) = (None, None, None, None);
    for (at, entry) in journal {
        match entry {
            Entry::Began { name, restart_count } if name == of => {
                assert!(began.is_none(), "{of} began twice");
                assert_eq!(*restart_count, count.map_or(0, |count: u32| count + 1));
                if let Some((end, ran)) = ended.filter(|_| !probed) {
                    let long = ran > 600_000;
                    let due = if long { 0 } else { delay.unwrap_or(0) };
                    assert!(at - end >= due, "{of}: {} instead of {due}", at - end);
                    delay = Some(if long {
                        10_000
                    } else {
                        delay.map_or(10_000, |was: u64| (was * 2).min(300_000))
                    });
                }
                (began, count) = (Some(*at), Some(*restart_count));
            }
            Entry::Ended { name } if name == of => {
                let start = began.take().unwrap();
                ended = Some((*at, at - start));
            }
            _ => {}
        }
    }
}

/// Asks for the end; whatever the containers do, it comes.
fn ends_in_time(world: &mut World) {
    let asked = world.now;
    world.stop(None);
    reap(world);
    for _ in 0..100 {
        if world.record.ended.is_some() {
            let grace = world.rules.grace.max(std::time::Duration::from_secs(1));
            let limit = grace + std::time::Duration::from_secs(2);
            assert!(world.now.since(asked) <= limit, "{:?}", world.now.since(asked));
            assert_eq!(world.settle(), None::<Moment>);
            return;
        }
        world.now = world.settle().expect("a pod that ends waits for something");
        reap(world);
    }
    panic!("no end: {:?}", world.record);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_pod_keeps_its_promises(
        spec in spec(), has_network: bool, history in proptest::collection::vec(happening(), 0..120)
    ) {
        let mut world = world(&spec);
        world.has_network = has_network;
        let mut phase = None;
        let mut probed = false;
        for what in &history {
            probed |= matches!(what, Happening::ProbeFails(..));
            happens(&mut world, what);
            is_sound(&mut world, &mut phase);
        }
        ends_in_time(&mut world);
        is_sound(&mut world, &mut phase);
        for rules in world.rules.containers() {
            keeps_the_delays(&world.journal, &rules.name, probed);
        }
    }

    #[test]
    fn crashes_alone_are_delayed_by_the_rule(
        runs in proptest::collection::vec(prop_oneof![0..60_000_u64, 0..700_000_u64], 1..40)
    ) {
        let mut world = world(r#"{"containers": [{"name": "a"}, {"name": "b"}]}"#);
        for run in runs {
            pass(&mut world, run);
            world.exit("a", 1);
        }
        keeps_the_delays(&world.journal, "a", false);
        keeps_the_delays(&world.journal, "b", false);
    }
}
