//! Probes of real containers: who is asked, what becomes of the answers, what it costs.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Scene, condition, processes};
use crate::serve::{Server, answer};
use crate::support::wait_until;

/// Protocol, port and the field of a probe by the port's name (gRPC knows numbers only).
const PROTOCOLS: [(&str, u16, &str); 4] = [
    ("http", 8080, "httpGet: {port: main, path: /healthz}"),
    ("https", 8443, "httpGet: {port: main, scheme: HTTPS}"),
    ("grpc", 8081, "grpc: {port: 8081, service: web}"),
    ("tcp", 8082, "tcpSocket: {port: main}"),
];

/// A pod `web` with a server of each protocol, and a probe of this kind for each.
fn servers(kind: &str, more: &str) -> String {
    let mut containers = String::new();
    let mut periods = String::new();
    for (protocol, port, handler) in PROTOCOLS {
        let server = Server { protocol, port }.container();
        containers += &format!(
            "  - {{name: {protocol}, {server}, ports: [{{name: main, containerPort: {port}}}],\n     \
             {kind}Probe: {{{handler}, {more}}}}}\n"
        );
        periods += &format!("{protocol}/{kind}=100ms ");
    }
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, annotations: {{carob/probe-periods: '{periods}', carob/backoff-initial: 1h}}}}
spec:
  terminationGracePeriodSeconds: 1
  {}
  containers:
{containers}",
        Server::volumes()
    )
}

/// A pod `web` of one container `c` with these fields, and these annotations.
fn single(annotations: &str, container: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, annotations: {{{annotations}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: c, image: IMAGE, {container}}}
"
    )
}

const WELL: [(&str, &str); 2] = [("http", "200"), ("grpc", "web SERVING")];
const ILL: [(&str, &str); 3] = [("http", "503"), ("https", "404"), ("grpc", "web NOT_SERVING")];

fn messages(scene: &Scene, reason: &str) -> Vec<String> {
    let all = scene.pod(&["events", "--all", "--format", "json", "web"]).ok().json();
    let wanted = all.as_array().unwrap().iter().filter(|event| event["reason"] == reason);
    wanted.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn wait_message(scene: &Scene, reason: &str, text: &str) -> String {
    wait_until(&format!("{reason}: {text}"), || {
        let found = messages(scene, reason);
        found.iter().find(|message| message.contains(text)).cloned().ok_or(format!("{found:#?}"))
    })
}

#[track_caller]
fn wait_event(scene: &Scene, event: &str) -> Vec<String> {
    wait_until(event, || {
        let events = scene.events("web");
        if events.iter().any(|e| e == event) { Ok(events) } else { Err(format!("{events:?}")) }
    })
}

fn is_ready(object: &Value, name: &str) -> bool {
    let all = object["status"]["containerStatuses"].as_array().unwrap();
    all.iter().any(|status| status["name"] == name && status["ready"] == true)
}

/// A line of `/proc/<pid>/status`, its number.
pub fn status_of(pid: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processes that have ended and that nobody has waited for, by the pid of their parent.
fn zombies_of(parent: i32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
            fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
        })
        .collect()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn readiness_of_every_protocol_makes_and_unmakes_the_pod_ready() {
    let scene = Scene::new();
    scene.run(&servers("readiness", "failureThreshold: 1"));
    for (container, text) in WELL {
        scene.wait_log("web", container, "listening");
        answer(&scene, "web", container, text);
    }
    scene.wait_ready("web");

    for (container, text) in ILL {
        answer(&scene, "web", container, text);
    }
    let object = scene.wait("web", "not ready", |object| {
        !["http", "https", "grpc"].iter().any(|name| is_ready(object, name))
    });
    assert!(!condition(&object, "Ready") && is_ready(&object, "tcp"), "{object:#}");
    let said = wait_message(&scene, "Unhealthy", "statuscode: 503");
    assert_eq!(said, "Readiness probe failed: HTTP probe failed with statuscode: 503");

    for (container, text) in WELL {
        answer(&scene, "web", container, text);
    }
    answer(&scene, "web", "https", "200");
    let object = scene.wait_ready("web");
    let all = object["status"]["containerStatuses"].as_array().unwrap();
    assert!(all.iter().all(|status| status["restartCount"] == 0), "{object:#}");
    answer(&scene, "web", "http", "302\nLocation: http://elsewhere/");
    let said = wait_message(&scene, "ProbeWarning", "Probe terminated redirects");
    assert!(said.starts_with("Readiness probe warning: "), "{said}");
    assert!(is_ready(&scene.inspect("web"), "http"));
    let log = scene.pod(&["logs", "-c", "http", "web"]).ok().stdout;
    assert!(log.contains("GET /healthz HTTP/1.1"), "{log}");
    assert!(log.to_lowercase().contains("user-agent: kube-probe/1."), "{log}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_liveness_probe_of_any_protocol_restarts_and_the_first_time_at_once() {
    let scene = Scene::new();
    let manifest = servers("liveness", "failureThreshold: 2, initialDelaySeconds: 1");
    // Nobody listens where this one looks.
    let manifest = manifest.replace("tcpSocket: {port: main}", "tcpSocket: {port: 9}");
    scene.run(&manifest);
    answer(&scene, "web", "grpc", "web NOT_SERVING");
    answer(&scene, "web", "http", "500");
    answer(&scene, "web", "https", "close");

    // As in the kubelet the instance before the killed one counts: twice there is no back-off. The
    // answers outlive the restarts.
    let object = scene.wait("web", "back-off of all", |object| {
        let all = object["status"]["containerStatuses"].as_array().unwrap();
        all.iter().all(|status| status["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    });
    let all = object["status"]["containerStatuses"].as_array().unwrap();
    assert!(all.iter().all(|status| status["restartCount"] == 2), "{object:#}");
    assert!(object["status"]["phase"] == "Running", "{object:#}");
    let killing = messages(&scene, "Killing");
    for (name, ..) in PROTOCOLS {
        let text = format!("Container {name} failed liveness probe, will be restarted");
        assert_eq!(killing.iter().filter(|message| **message == text).count(), 3, "{killing:#?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn startup_probes_of_every_protocol_end_the_start() {
    let scene = Scene::new();
    scene.run(&servers("startup", "failureThreshold: 100"));
    scene.wait_log("web", "grpc", "listening");
    assert_eq!(scene.container("web", "grpc")["started"], false, "no such service yet");
    answer(&scene, "web", "grpc", "web SERVING");

    let object = scene.wait_ready("web");

    let all = object["status"]["containerStatuses"].as_array().unwrap();
    assert!(all.iter().all(|status| status["started"] == true), "{object:#}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn until_it_has_started_up_a_container_is_probed_for_nothing_else() {
    let scene = Scene::new();
    scene.run(&single(
        "carob/probe-periods: 'c/startup=100ms c/liveness=100ms c/readiness=100ms', \
         carob/backoff-initial: 1h",
        "command: [sleep, '1000'],
     startupProbe: {exec: {command: [test, -e, /up]}, failureThreshold: 1000},
     livenessProbe: {exec: {command: [sh, -c, 'echo l >> /probed; test ! -e /ill']}, failureThreshold: 1},
     readinessProbe: {exec: {command: [sh, -c, 'echo r >> /probed']}}",
    ));
    wait_message(&scene, "Unhealthy", "Startup probe failed");
    std::thread::sleep(Duration::from_millis(300));
    scene.sh("web", "c", "cat /probed").fails(1, &["No such file"]);
    assert_eq!(scene.container("web", "c")["started"], false);

    scene.sh("web", "c", "touch /up").ok();

    scene.wait_ready("web");
    assert_eq!(scene.container("web", "c")["started"], true);
    wait_until("liveness", || {
        let seen = scene.sh("web", "c", "cat /probed").ok().stdout;
        if seen.contains('l') && seen.contains('r') { Ok(()) } else { Err(seen) }
    });
    scene.sh("web", "c", "touch /ill").ok();
    // The new instance has a new root filesystem: it has not started up.
    let object = scene.wait("web", "restarted", |object| {
        object["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    assert!(!condition(&object, "Ready"), "{object:#}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_does_not_start_up_in_time_is_restarted() {
    let scene = Scene::new();
    let manifest = single(
        "carob/probe-periods: c/startup=100ms, carob/backoff-initial: 1h",
        "command: [sleep, '1000'],
     startupProbe: {exec: {command: [sh, -c, 'echo not yet; exit 3']}, failureThreshold: 2,
                    terminationGracePeriodSeconds: 1}",
    );
    // That of the probe counts: nobody here heeds SIGTERM.
    let grace = "terminationGracePeriodSeconds: 1\n  containers";
    scene.run(&manifest.replace(grace, &grace.replace(": 1\n", ": 30\n")));
    scene.wait("web", "restarted", |object| {
        object["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    scene.pod(&["stop", "--time", "0", "web"]).ok();
    assert!(messages(&scene, "Killing")[0].contains("failed startup probe"));
    assert_eq!(messages(&scene, "Unhealthy")[0].trim_end(), "Startup probe failed: not yet");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_probe_runs_with_what_the_container_has() {
    let scene = Scene::new();
    scene.run(&single(
        "carob/probe-periods: c/readiness=100ms",
        "command: [sleep, '1000'], workingDir: /tmp, env: [{name: WORD, value: here}],
     securityContext: {runAsUser: 1000, runAsGroup: 1000},
     readinessProbe: {exec: {command: [sh, -c,
       '[ $WORD = here ] && [ $1 = here ] && [ $PWD = /tmp ] && [ $(id -u) = 1000 ]', sh, $(WORD)]}}",
    ));
    scene.wait_ready("web");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_probe_that_cannot_be_run_moves_no_counter() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {carob/probe-periods: 'exec/liveness=100ms late/readiness=100ms'}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: exec, image: IMAGE, command: [sleep, '1000'],
     livenessProbe: {exec: {command: [/not/there]}, failureThreshold: 1}}
  - {name: late, image: IMAGE, command: [sleep, '1000'],
     readinessProbe: {exec: {command: [/bin/probe]}, failureThreshold: 1}}
",
    );
    let said = wait_message(&scene, "Unhealthy", "/not/there");
    assert!(said.starts_with("Liveness probe errored and resulted in unknown state: "), "{said}");
    scene.sh("web", "late", "printf '#!/bin/sh\n' > /bin/probe; chmod 755 /bin/probe").ok();
    scene.wait_ready("web");
    scene.sh("web", "late", "rm /bin/probe").ok();
    let errors =
        || messages(&scene, "Unhealthy").iter().filter(|m| m.contains("/bin/probe")).count();
    let before = errors();
    wait_until("more errors", || if errors() > before + 2 { Ok(()) } else { Err(String::new()) });
    let object = scene.inspect("web");
    assert!(condition(&object, "Ready"), "the last result stays: {object:#}");
    assert!(messages(&scene, "Killing").is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_probe_of_a_port_that_has_no_name_is_refused() {
    let scene = Scene::new();
    let manifest = single("", "livenessProbe: {tcpSocket: {port: nowhere}}");
    let words = ["spec.containers[0].livenessProbe.tcpSocket.port", "\"nowhere\""];
    scene.try_run(&manifest).fails(1, &words);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_probe_that_forks_and_hangs_is_killed_with_all_it_has_started() {
    let scene = Scene::new();
    let (hangs, hides) = ("sleep 98731", "sleep 98732");
    scene.run(&single(
        "",
        &format!(
            "command: [sh, -c, 'sleep 1000 & wait'],
     livenessProbe: {{exec: {{command: [sh, -c, '{hangs} & setsid {hides} & {hangs}']}},
                     periodSeconds: 1000, failureThreshold: 2}}"
        ),
    ));
    let of_probe = || processes(|line| line.starts_with("sleep\x009873")).len();
    wait_until(
        "the probe",
        || if of_probe() == 3 { Ok(()) } else { Err(format!("{}", of_probe())) },
    );

    let said = wait_message(&scene, "Unhealthy", "timed out");

    assert!(said.starts_with("Liveness probe failed: command timed out: "), "{said}");
    assert!(said.ends_with("timed out after 1s"), "{said}");
    wait_until("nothing left", || {
        if of_probe() == 0 { Ok(()) } else { Err(format!("{}", of_probe())) }
    });
    let init = scene.init("web", "c");
    for parent in [scene.supervisor("web").unwrap(), init] {
        wait_until("no zombie", || {
            let found = zombies_of(parent);
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    assert_eq!(scene.container("web", "c")["restartCount"], 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_probe_that_prints_without_end_is_bounded() {
    let scene = Scene::new();
    scene.run(&single(
        "",
        "command: [sleep, '1000'],
     livenessProbe: {exec: {command: [sh, -c, 'yes 0123456789']}, periodSeconds: 1000},
     readinessProbe: {exec: {command: [sh, -c, 'yes 0123456789']}, periodSeconds: 1000, timeoutSeconds: 2}",
    ));
    let supervisor = scene.supervisor("web").unwrap();
    wait_message(&scene, "Unhealthy", "Liveness probe failed");
    let before = status_of(supervisor, "VmHWM");
    let asked = Instant::now();
    scene.sh("web", "c", "true").ok();
    let said = wait_message(&scene, "Unhealthy", "Readiness probe failed");
    assert!(said.len() < 2048, "{} bytes", said.len());
    let grown = status_of(supervisor, "VmHWM") - before;
    assert!(grown < 1024, "{grown} KiB");
    assert!(asked.elapsed() < Duration::from_secs(10), "the supervisor was kept busy");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn in_pre_stop_readiness_is_probed_and_liveness_is_not() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/probe-periods: 'c/liveness=100ms c/readiness=100ms'}}
spec:
  terminationGracePeriodSeconds: 10
  containers:
  - {name: c, image: IMAGE, command: [sh, -c, 'trap exit TERM; sleep 1000 & wait'],
     lifecycle: {preStop: {exec: {command: [sh, -c, 'while [ ! -e /done ]; do sleep 0.1; done']}}},
     livenessProbe: {exec: {command: [sh, -c, 'echo l >> /alive; test ! -e /ill']}, failureThreshold: 1},
     readinessProbe: {exec: {command: [sh, -c, 'test ! -e /ill']}, failureThreshold: 1}}
",
    );
    scene.wait_ready("web");
    scene.pod(&["stop", "--no-wait", "web"]).ok();
    wait_event(&scene, "c/PreStop");
    // One that had begun may still end.
    std::thread::sleep(Duration::from_millis(200));
    let before = scene.sh("web", "c", "cat /alive; touch /ill").ok().stdout;

    wait_event(&scene, "c/NotReady");

    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.sh("web", "c", "cat /alive").ok().stdout, before);
    scene.sh("web", "c", "touch /done").ok();
    scene.pod(&["wait", "--for=stopped", "web"]).ok();
    let events = scene.events("web");
    assert!(events.contains(&"c/PreStopDone".to_owned()), "{events:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_period_may_be_below_a_second_and_is_kept() {
    let scene = Scene::new();
    let began = Instant::now();
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, annotations: {{carob/probe-periods: c/liveness=50ms}}}}
spec:
  terminationGracePeriodSeconds: 1
  {}
  containers:
  - {{name: c, {}, livenessProbe: {{tcpSocket: {{port: 8082}}}}}}
",
        Server::volumes(),
        Server { protocol: "tcp", port: 8082 }.container()
    ));
    let count = wait_until("twenty probes", || {
        let log = scene.pod(&["logs", "web"]).ok().stdout;
        let count = log.matches("connected").count();
        if count >= 20 { Ok(count) } else { Err(log) }
    });
    let most = began.elapsed().as_millis() / 50 + 1;
    assert!(u128::try_from(count).unwrap() <= most, "{count} in the time of {most}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_idle_pod_wakes_nobody_and_has_one_thread() {
    let scene = Scene::new();
    scene.run(&single("", "command: [sleep, '1000']"));
    scene.wait_ready("web");
    let supervisor = scene.supervisor("web").unwrap();
    assert_eq!(status_of(supervisor, "Threads"), 1);
    std::thread::sleep(Duration::from_millis(500));
    let wakes = || {
        status_of(supervisor, "voluntary_ctxt_switches")
            + status_of(supervisor, "nonvoluntary_ctxt_switches")
    };
    let before = wakes();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(wakes(), before);
}
