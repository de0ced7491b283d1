//! Plugins that hang or crash, and whoever calls them killed meanwhile: nothing waits for them, and
//! what was begun is undone.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::plugins::{GIVES_ADDRESS, Plugins, sleeper};
use crate::scene::{make_orphans, processes};

/// Never ends. Its own child has the test's directory in its command line: one that is left is found.
const HANGS: &str = r#"sh -c 'while :; do sleep 0.1; done' "$calls""#;

/// A network whose plugin hangs in one operation for as long as there is a file `stuck`.
fn stuck_in(command: &str) -> Plugins {
    stuck(command, HANGS)
}

fn stuck(command: &str, hangs: &str) -> Plugins {
    let test = Plugins::new("1.0.0", r#"{"type": "first"}"#);
    let script = format!("[ $CNI_COMMAND != {command} ] || [ ! -e $calls/../stuck ] || {hangs}");
    test.program("first", &format!("{script}\n{GIVES_ADDRESS}"));
    std::fs::write(test.scene.dir().join("stuck"), "").unwrap();
    test
}

impl Plugins {
    #[track_caller]
    fn wait_for_call(&self, call: &str, times: usize) {
        crate::support::wait_until(call, || {
            let calls = self.calls();
            let times_now = calls.iter().filter(|known| *known == call).count();
            if times_now >= times { Ok(()) } else { Err(format!("{calls:?}")) }
        });
    }

    fn unstick(&self) {
        std::fs::remove_file(self.scene.dir().join("stuck")).unwrap();
    }

    /// A pod's supervisor, and the child of it that calls plugins.
    fn carobs(&self) -> Vec<i32> {
        let state = self.scene.state("p").display().to_string();
        let mut all = processes(|line| line.contains("\0supervise\0") && line.contains(&state));
        let supervisor = self.scene.supervisor("p");
        all.sort_by_key(|pid| Some(*pid) != supervisor);
        all
    }

    /// Kills a process that nobody reaps but this one.
    fn kill(pid: i32) {
        make_orphans(pid);
        crate::support::leaks::expect(Pid::from_raw(pid));
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    /// Removes the pod. All that was begun has been undone; the plugin's processes are gone.
    #[track_caller]
    fn remove_and_look(&self) {
        self.scene.pod(&["rm", "--force", "p"]).ok();
        assert_eq!(self.calls().last().map(String::as_str), Some("DEL.first"));
        crate::support::wait_until("nothing is left", || {
            let left = self.scene.leaks();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_plugin_that_hangs_in_add_keeps_no_verb() {
    let test = stuck_in("ADD");
    // Its limit is a minute; who waited for that would see the pod tried again.
    test.try_run(&sleeper("")).ok();
    test.wait_for_call("ADD.first", 1);
    assert_eq!(test.scene.status("p"), "ContainerCreating");
    assert_eq!(test.calls(), ["ADD.first"]);
    test.remove_and_look();
    assert_eq!(test.calls(), ["ADD.first", "DEL.first"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_supervisor_that_dies_in_add_leaves_nothing() {
    let test = stuck_in("ADD");
    test.try_run(&sleeper("")).ok();
    test.wait_for_call("ADD.first", 1);
    test.scene.crash("p");
    // What it has begun comes to an end without anybody.
    test.wait_for_call("DEL.first", 1);
    // Found, it is brought back, and tried again.
    assert_eq!(test.scene.status("p"), "ContainerCreating");
    test.wait_for_call("ADD.first", 2);
    test.scene.crash("p");
    test.unstick();
    test.scene.wait_ready("p");
    test.remove_and_look();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_is_left_if_the_caller_of_plugins_dies_as_well() {
    // What a plugin has started is nobody's then.
    let test = stuck("ADD", &format!("exec {HANGS}"));
    for round in 1..=2 {
        test.try_run(&sleeper("")).ok();
        test.wait_for_call("ADD.first", round);
        let carobs = test.carobs();
        assert_eq!(carobs.len(), 2, "supervisor and caller: {carobs:?}");
        // In both orders: who dies last could otherwise still do the work.
        let mut carobs = carobs;
        if round == 2 {
            carobs.reverse();
            nix::sys::signal::kill(Pid::from_raw(carobs[1]), Signal::SIGSTOP).unwrap();
        }
        carobs.into_iter().for_each(Plugins::kill);
        test.remove_and_look();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_plugin_that_crashes_is_an_event_and_tried_again() {
    let test = Plugins::new("1.0.0", r#"{"type": "first"}"#);
    let script = "[ $CNI_COMMAND != ADD ] || [ -e $calls/../well ] || kill -9 $$";
    test.program("first", &format!("{script}\n{GIVES_ADDRESS}"));
    test.try_run(&sleeper("")).ok();
    crate::support::wait_until("an event", || {
        let events = test.scene.pod(&["events", "p"]).ok().stdout;
        if events.contains("failed (add): was killed by signal 9") { Ok(()) } else { Err(events) }
    });
    assert_eq!(test.calls(), ["ADD.first", "DEL.first"]);
    std::fs::write(test.scene.dir().join("well"), "").unwrap();
    test.scene.wait_ready("p");
    test.remove_and_look();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_plugin_that_hangs_in_del_keeps_no_pod_from_going() {
    let test = stuck_in("DEL");
    test.try_run(&sleeper("carob/network-timeout: 500ms")).ok();
    test.scene.wait_ready("p");
    test.scene.pod(&["stop", "p"]).ok();
    let events = test.scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains("failed (del): did not end within 0.5 s"), "{events}");
    let removed = test.scene.pod(&["rm", "p"]).ok();
    assert!(removed.stderr.contains("failed (del): did not end within 0.5 s"), "{removed:?}");
    // It is known what is to be done, until it is done.
    let data = test.scene.dir().join("data").display().to_string();
    let prune = ["prune", "--data-root", &data];
    let pruned = test.scene.pod(&prune).ok();
    assert!(pruned.stdout.is_empty() && pruned.stderr.contains("did not end"), "{pruned:?}");
    crate::support::wait_until("only the attachment is left", || {
        let left = test.scene.leaks();
        let is_it = matches!(&left[..], [one] if one.starts_with("attachment"));
        if is_it { Ok(()) } else { Err(format!("{left:?}")) }
    });
    test.unstick();
    // On a slow machine the half second may be too short for the plugin as such.
    crate::support::wait_until("the address released", || {
        let pruned = test.scene.pod(&prune).ok();
        let is_released = pruned.stdout == "10.9.0.7 of network net released\n";
        if is_released { Ok(()) } else { Err(format!("{pruned:?}")) }
    });
    assert_eq!(test.told("DEL.first")["prevResult"]["ips"][0]["address"], "10.9.0.7/24");
    assert_eq!(test.scene.leaks(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_reboot_in_the_middle_of_add_is_undone_by_prune() {
    let test = stuck("ADD", &format!("exec {HANGS}"));
    test.try_run(&sleeper("")).ok();
    test.wait_for_call("ADD.first", 1);
    // All processes at once, and what is only in memory.
    let carobs = test.carobs();
    carobs.iter().for_each(|pid| {
        nix::sys::signal::kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
    });
    carobs.into_iter().rev().for_each(Plugins::kill);
    test.lose_state("p", "u-1", &["default_p_POD_0"]);
    let data = test.scene.dir().join("data").display().to_string();
    let pruned = test.scene.pod(&["prune", "--data-root", &data]).ok();
    let expected = "place on network net released\ndata of lost pod u-1 removed\n";
    assert_eq!(pruned.stdout, expected, "{pruned:?}");
    assert_eq!(test.calls(), ["ADD.first", "DEL.first"]);
    assert!(test.environment("DEL.first").contains("CNI_NETNS=\n"));
    assert_eq!(test.told("DEL.first").get("prevResult"), None);
    test.unstick();
    test.try_run(&sleeper("")).ok();
    test.scene.wait_ready("p");
    test.remove_and_look();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn garbage_is_not_collected_while_a_pod_comes() {
    let test = Plugins::new("1.1.0", r#"{"type": "first"}"#);
    let script = format!("[ $CNI_COMMAND != ADD ] || [ -e $calls/../go ] || {HANGS}");
    // Until it is let go.
    let script = script.replace("while :", "while [ ! -e $0/../go ]");
    test.program("first", &format!("{script}\n{GIVES_ADDRESS}"));
    test.try_run(&sleeper("")).ok();
    test.wait_for_call("ADD.first", 1);
    let data = test.scene.dir().join("data").display().to_string();
    let args = ["pod", "prune", "--networks", "--data-root", &data, "--cni-conf-dir"];
    let args = [&args[..], &[&test.configs, "--cni-bin-dir", &test.programs]].concat();
    let mut prune = test.scene.command(&args).stdout(Stdio::null()).spawn().unwrap();
    crate::support::leaks::expect(Pid::from_raw(prune.id().cast_signed()));
    // It looks for the lock again and again.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(prune.try_wait().unwrap().is_none());
    assert_eq!(test.calls(), ["STATUS.first", "ADD.first"]);
    std::fs::write(test.scene.dir().join("go"), "").unwrap();
    assert!(prune.wait().unwrap().success());
    assert_eq!(test.calls().last().map(String::as_str), Some("GC.first"));
    let valid = &test.told("GC.first")["cni.dev/valid-attachments"];
    assert_eq!(valid[0]["containerID"], "u-1-0");
    test.scene.wait_ready("p");
    test.remove_and_look();
}
