//! Two runtimes on one id at the same time.

use crate::support::Host;

#[test]
#[ignore = "needs root: run scripts/test"]
fn of_two_creates_of_one_id_exactly_one_wins() {
    let Some(host) = Host::only_carob("runc 1.1 looks for the directory before it makes it") else {
        return;
    };
    for round in 0..8 {
        let id = format!("race{round}");
        let both = [0, 1].map(|_| {
            host.container_named(&id, |s| {
                s["process"]["args"] = serde_json::json!(["sleep", "1000"])
            })
        });
        let calls = both.each_ref().map(|c| c.create_call(&[]).spawn());
        let outs = calls.map(crate::support::Running::wait);
        let won: Vec<usize> = (0..2).filter(|i| outs[*i].code == 0).collect();
        assert_eq!(won.len(), 1, "{outs:?}");
        assert!(outs[1 - won[0]].stderr.contains("already exists"), "{outs:?}");
        let winner = &both[won[0]];
        host.adopt(winner.pid());
        assert_eq!(winner.status(), "created");
        winner.delete_force().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kills_and_deletes_at_the_same_time_end_with_nothing() {
    let host = Host::new();
    for _ in 0..5 {
        let c = host.sleeper();
        c.run_detached();
        let calls = [
            host.call(&["kill", c.id(), "KILL"]).spawn(),
            c.verb("delete", &["--force"]).spawn(),
            c.verb("delete", &["--force"]).spawn(),
        ];
        for out in calls.map(crate::support::Running::wait) {
            assert!(out.code <= 1 && !out.stderr.contains("panic"), "{out:?}");
        }
        assert_eq!(c.exit_code(), 137);
        c.delete_force().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn readers_never_see_a_half_written_state() {
    let host = Host::new();
    for _ in 0..4 {
        let c = host.sleeper();
        let create = c.create_call(&[]).spawn();
        let mut seen = Vec::new();
        loop {
            let out = c.verb("state", &[]).output();
            if out.code == 0 {
                seen.push(out.json()["status"].clone());
                break;
            }
            assert!(out.stderr.contains("does not exist"), "{out:?}");
        }
        create.wait().ok();
        host.adopt(c.pid());
        assert!(seen[0] == "created" || seen[0] == "creating", "{seen:?}");
        c.delete_force().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn starts_at_the_same_time_start_once() {
    let Some(host) = Host::only_carob("runc 1.1 waits for ever in the second start") else {
        return;
    };
    let c = host.sh("echo started; sleep 1000");
    c.create();
    let calls = [0, 1].map(|_| c.verb("start", &[]).spawn());
    let outs = calls.map(crate::support::Running::wait);
    assert!(outs.iter().any(|o| o.code == 0), "{outs:?}");
    c.wait_output("started");
    assert_eq!(c.output(), "started\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn many_containers_at_once() {
    let host = Host::new();
    let all: Vec<_> = (0..8).map(|i| host.sh(&format!("echo {i}"))).collect();
    let runs: Vec<_> = all.iter().map(|c| c.bundle_verb("run", &[]).spawn()).collect();
    for (i, run) in runs.into_iter().enumerate() {
        assert_eq!(run.wait().ok().text(), i.to_string());
    }
}
