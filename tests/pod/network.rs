//! Pods on networks of CNI plugins: those of Debian, in a network namespace of the test.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;

use crate::plugins::{ADDS_ONE, GIVES_ADDRESS, Plugins, sleeper};
use crate::scene::Scene;

/// A pod that serves its host name by HTTP on port 80; `more` is of its container.
fn server(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: IMAGE
    command: [httpd, -f, -p, '80', -h, /etc]
    readinessProbe: {{periodSeconds: 1, httpGet: {{path: /hostname, port: 80}}}}
{more}"
    )
}

/// On the built-in network: there is no configuration.
const BUILT_IN: [&str; 2] = ["-d", "--network=carob"];

fn run(scene: &Scene, flags: &[&str], text: &str) {
    scene.try_run_with(flags, text).ok();
}

fn ips(object: &Value) -> Vec<String> {
    let all = object["status"]["podIPs"].as_array().into_iter().flatten();
    all.map(|ip| ip["ip"].as_str().unwrap().to_owned()).collect()
}

/// Makes something in the network namespace of a process: what is made stays there.
fn in_network<T: Send + 'static>(pid: i32, make: fn() -> T) -> T {
    let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        make()
    });
    thread.join().unwrap()
}

/// What plugins have kept for pods, and must not any more.
#[track_caller]
fn nothing_is_left(scene: &Scene, network: &str) {
    let kept =
        format!("ls /var/lib/cni/networks/{network} | grep -v -e lock -e last_reserved || true");
    assert_eq!(scene.sh_on_machine(&kept).ok().stdout, "", "addresses");
    let links = scene.sh_on_machine("ip -o link show type veth").ok().stdout;
    assert_eq!(links, "", "interfaces");
    let rules = scene.sh_on_machine("iptables-save -t nat | grep -e DNAT.--to || true").ok().stdout;
    assert_eq!(rules, "", "published ports");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn two_pods_talk_and_a_published_port_is_reached() {
    let scene = Scene::with_own_network();
    let ports = "    ports:
    - {containerPort: 80, hostPort: 8080}
    - {containerPort: 80, hostPort: 8081, hostIP: 127.0.0.1}
    - {containerPort: 5353, hostPort: 5353, protocol: UDP}
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
";
    run(&scene, &BUILT_IN, &server("web", ports));
    run(&scene, &BUILT_IN, &server("db", ""));
    let web = scene.wait_ready("web");
    let db = scene.wait_ready("db");
    let (web, db) = (ips(&web), ips(&db));
    assert!(web.len() == 1 && web[0].starts_with("10.84.0.") && web != db, "{web:?} {db:?}");
    // The one that was there first knows of the other as well.
    for (from, to, ip) in [("web", "db", &db[0]), ("db", "web", &web[0])] {
        for host in [to, ip, &format!("{to}.default")] {
            let script = format!("wget -qO- http://{host}/hostname && ping -c 1 {host} >/dev/null");
            assert_eq!(
                scene.sh(from, "c", &script).ok().stdout,
                format!("{to}\n"),
                "{from} {host}"
            );
        }
    }
    assert_eq!(scene.sh("web", "c", "echo $IP").ok().stdout.trim(), web[0]);
    assert!(scene.pod(&["ps", "-o", "wide"]).ok().stdout.contains(&web[0]));
    // From the machine, and from a pod by way of the machine.
    let fetch = |url: &str| format!("busybox timeout 5 busybox wget -qO- http://{url}/hostname");
    for url in ["127.0.0.1:8080", "10.84.0.1:8080", "127.0.0.1:8081"] {
        assert_eq!(scene.sh_on_machine(&fetch(url)).ok().stdout, "web\n", "{url}");
    }
    assert_ne!(scene.sh_on_machine(&fetch("10.84.0.1:8081")).code, 0, "only at its hostIP");
    let script = "timeout 5 wget -qO- http://10.84.0.1:8080/hostname";
    assert_eq!(scene.sh("db", "c", script).ok().stdout, "web\n");
    // UDP: the pod hears what is sent to the machine.
    let pod = in_network(scene.init("web", "c"), || UdpSocket::bind("0.0.0.0:5353").unwrap());
    let machine = in_network(scene.machine(), || UdpSocket::bind("0.0.0.0:0").unwrap());
    pod.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    crate::support::wait_until("a datagram", || {
        machine.send_to(b"hello", "10.84.0.1:5353").unwrap();
        let mut heard = [0; 8];
        match pod.recv(&mut heard) {
            Ok(5) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Who goes is forgotten.
    scene.pod(&["rm", "--force", "db"]).ok();
    let hosts = scene.sh("web", "c", "cat /etc/hosts").ok().stdout;
    assert!(hosts.contains(&format!("{}\tweb\n", web[0])) && !hosts.contains("\tdb"), "{hosts}");
    scene.pod(&["rm", "--force", "web"]).ok();
    nothing_is_left(&scene, "carob");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_port_that_another_pod_has_is_refused_with_its_name() {
    let scene = Scene::with_own_network();
    let with = |name: &str, port: &str| server(name, &format!("    ports: [{{{port}}}]\n"));
    run(&scene, &BUILT_IN, &with("web", "containerPort: 80, hostPort: 8080"));
    scene.wait_ready("web");
    let clash = "spec.containers[0].ports[0].hostPort: port 8080 (TCP) is that of pod default/web";
    let try_it = |text: &str| scene.try_run_with(&BUILT_IN, text);
    try_it(&with("b", "containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1")).fails(1, &[clash]);
    assert!(!scene.state("b").exists());
    // In the machine's network a port is the machine's.
    let host = with("b", "containerPort: 8080").replace("spec:", "spec:\n  hostNetwork: true");
    scene.try_run_with(&["-d"], &host).fails(1, &["ports[0].containerPort: port 8080 (TCP)"]);
    try_it(&with("b", "containerPort: 80, hostPort: 8080, protocol: UDP")).ok();
    // The one that is there may be replaced, and who has ended holds nothing, but asks again.
    let replace = [&BUILT_IN[..], &["--replace"]].concat();
    let changed = with("web", "containerPort: 80, hostPort: 8080, name: http");
    scene.try_run_with(&replace, &changed).ok();
    scene.pod(&["stop", "web"]).ok();
    try_it(&with("c", "containerPort: 80, hostPort: 8080")).ok();
    let started = scene.pod(&["start", "web"]);
    started.fails(1, &["ports[0].hostPort: port 8080 (TCP) is that of pod default/c"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn bandwidth_and_dns_reach_the_plugins_of_debian_and_ours() {
    let scene = Scene::with_own_network();
    let slow = server("web", "").replace(
        "metadata: {name: web}",
        "metadata: {name: web, annotations: {kubernetes.io/ingress-bandwidth: 8M}}",
    );
    run(&scene, &BUILT_IN, &slow);
    scene.wait_ready("web");
    // A token bucket on the host's end.
    let queues = scene.sh_on_machine("tc qdisc show").ok().stdout;
    assert!(queues.contains("tbf") && queues.contains("rate 8Mbit"), "{queues}");
    scene.pod(&["rm", "--force", "web"]).ok();
    nothing_is_left(&scene, "carob");
    let test = Plugins::new("1.0.0", r#"{"type": "first", "capabilities": {"dns": true}}"#);
    test.program("first", GIVES_ADDRESS);
    let dns = "spec:\n  dnsConfig: {nameservers: [10.0.0.53], searches: [a.example], \
               options: [{name: ndots, value: '2'}, {name: edns0}]}";
    test.try_run(&sleeper("").replace("spec:", dns)).ok();
    test.scene.wait_ready("p");
    let told = serde_json::json!({"dns": {"servers": ["10.0.0.53"], "searches": ["a.example"],
        "options": ["ndots:2", "edns0"]}});
    assert_eq!(test.told("ADD.first")["runtimeConfig"], told);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_supervisor_that_was_killed_leaves_no_address() {
    let scene = Scene::with_own_network();
    run(&scene, &BUILT_IN, &server("web", "    ports: [{containerPort: 80, hostPort: 8080}]\n"));
    let before = ips(&scene.wait_ready("web"));
    scene.crash("web");
    // Found, it is brought back, with the same address.
    assert_eq!(ips(&scene.wait_ready("web")), before);
    assert!(!scene.events("web").contains(&"NetworkCheckFailed".to_owned()));
    // The pause process dies: a new sandbox, a new place on the network.
    let sandbox = scene.carob(&["state", "default_web_POD_0"]).ok().json();
    let pause = i32::try_from(sandbox["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pause), nix::sys::signal::SIGKILL).unwrap();
    scene.wait("web", "a new sandbox", |object| {
        crate::scene::condition(object, "Ready") && !ips(object).is_empty() && ips(object) != before
    });
    let fetch = "busybox timeout 5 busybox wget -qO- http://127.0.0.1:8080/hostname";
    assert_eq!(scene.sh_on_machine(fetch).ok().stdout, "web\n");
    let kept = "ls /var/lib/cni/networks/carob | grep -c ^10";
    assert_eq!(scene.sh_on_machine(kept).ok().stdout, "1\n", "that of the first sandbox is free");
    scene.crash("web");
    scene.pod(&["rm", "--force", "web"]).ok();
    nothing_is_left(&scene, "carob");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn plugins_hear_what_the_specification_says_in_order_and_back() {
    let test = Plugins::new(
        "1.0.0",
        r#"{"type": "first", "mine": [1], "capabilities": {"bandwidth": true, "mac": false}},
           {"type": "second", "capabilities": {"ips": true, "cgroupPath": true}}"#,
    );
    test.program("first", GIVES_ADDRESS);
    test.program("second", ADDS_ONE);
    test.try_run(&sleeper(
        "kubernetes.io/ingress-bandwidth: 10M, carob/ips: '10.9.0.7/24,fd09::7'",
    ))
    .ok();
    let object = test.scene.wait_ready("p");
    assert_eq!(ips(&object), ["10.9.0.7", "fd09::7"]);
    let hosts = test.scene.sh("p", "c", "cat /etc/hosts").ok().stdout;
    assert!(hosts.contains("10.9.0.7\tp\nfd09::7\tp\n"), "{hosts}");
    let sandbox = test.scene.carob(&["state", "default_p_POD_0"]).ok().json();
    let netns = format!("/proc/{}/ns/net", sandbox["pid"]);
    let environment = |command: &str, netns: &str| {
        format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;\
             K8S_POD_INFRA_CONTAINER_ID=default_p_POD_0;K8S_POD_UID=u-1\n\
             CNI_COMMAND={command}\nCNI_CONTAINERID=u-1-0\nCNI_IFNAME=eth0\nCNI_NETNS={netns}\n\
             CNI_PATH={}\n",
            test.programs
        )
    };
    assert_eq!(test.environment("ADD.first"), environment("ADD", &netns));
    let limits = serde_json::json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX});
    assert_eq!(
        test.told("ADD.first"),
        serde_json::json!({"cniVersion": "1.0.0", "name": "net", "type": "first", "mine": [1],
            "runtimeConfig": {"bandwidth": limits}})
    );
    let first = serde_json::json!({"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.7/24"}]});
    let last = serde_json::json!({"cniVersion": "1.0.0",
        "ips": [{"address": "10.9.0.7/24"}, {"address": "fd09::7/64"}]});
    let told = test.told("ADD.second");
    assert_eq!((&told["prevResult"], &told["mine"]), (&first, &Value::Null));
    let values = &told["runtimeConfig"];
    assert_eq!(values["ips"], serde_json::json!(["10.9.0.7/24", "fd09::7"]));
    assert_eq!(values["cgroupPath"], test.scene.cgroup_parent("podu-1"), "{values}");
    // Taken over, it is looked at.
    test.scene.crash("p");
    test.scene.wait_ready("p");
    crate::support::wait_until("CHECK", || {
        let calls = test.calls();
        if calls.ends_with(&["CHECK.first".into(), "CHECK.second".into()]) {
            Ok(())
        } else {
            Err(format!("{calls:?}"))
        }
    });
    assert_eq!(test.told("CHECK.first")["prevResult"], last);

    test.scene.pod(&["stop", "p"]).ok();

    let calls = test.calls();
    let expected =
        ["ADD.first", "ADD.second", "CHECK.first", "CHECK.second", "DEL.second", "DEL.first"];
    assert_eq!(calls, expected);
    assert_eq!(test.environment("DEL.first"), environment("DEL", &netns));
    assert_eq!(test.told("DEL.first")["prevResult"], last);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_highest_version_that_all_plugins_speak_is_used() {
    let test = Plugins::new("0.4.0", r#"{"type": "first"}, {"type": "second"}"#);
    let file = format!("{}/10-net.conflist", test.configs);
    let list = std::fs::read_to_string(&file).unwrap();
    let versions = r#""cniVersions": ["1.0.0", "1.1.0", "9.0.0"], "cniVersion""#;
    std::fs::write(&file, list.replace(r#""cniVersion""#, versions)).unwrap();
    let speaks = |versions: &str| {
        format!(
            "[ $CNI_COMMAND != VERSION ] || {{ echo '{{\"cniVersion\": \"1.1.0\", \
             \"supportedVersions\": [{versions}]}}'; exit; }}\n{GIVES_ADDRESS}"
        )
    };
    test.program("first", &speaks(r#""0.4.0", "1.0.0", "1.1.0""#));
    test.program("second", &speaks(r#""0.3.1", "0.4.0", "1.0.0""#));
    test.try_run(&sleeper("")).ok();
    test.scene.wait_ready("p");
    assert_eq!(test.calls(), ["VERSION.first", "VERSION.second", "ADD.first", "ADD.second"]);
    assert_eq!(test.told("VERSION.first"), serde_json::json!({"cniVersion": "1.1.0"}));
    assert_eq!(test.told("ADD.second")["cniVersion"], "1.0.0");
    // What it was put there with it is taken away with.
    test.program("second", &speaks(r#""0.4.0""#));
    test.scene.pod(&["rm", "--force", "p"]).ok();
    assert_eq!(test.told("DEL.first")["cniVersion"], "1.0.0");
    test.program("first", &speaks(r#""1.1.0""#));
    test.try_run(&sleeper("")).ok();
    let words = "network \"net\": one of the versions 0.4.0, 1.0.0, 1.1.0 is needed; \
                 first speaks 1.1.0; second speaks 0.4.0";
    crate::support::wait_until("an event", || {
        let events = test.scene.pod(&["events", "p"]).ok().stdout;
        if events.contains(words) { Ok(()) } else { Err(events) }
    });
    assert_eq!(test.calls().last().map(String::as_str), Some("VERSION.second"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_plugin_that_fails_is_told_and_leaves_nothing_and_is_tried_again() {
    let test = Plugins::new("1.1.0", r#"{"type": "first"}, {"type": "second"}"#);
    test.program("first", GIVES_ADDRESS);
    let script = r#"[ $CNI_COMMAND != ADD ] || [ -e $calls/../well ] || {
        echo '{"code": 102, "msg": "no room", "details": "at all"}'; exit 1; }"#;
    test.program("second", &format!("{script}\n{ADDS_ONE}"));
    test.try_run(&sleeper("")).ok();
    test.scene.wait("p", "a failure", |object| {
        let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "ContainerCreating" || waiting["message"].is_string()
    });
    crate::support::wait_until("an event", || {
        let events = test.scene.pod(&["events", "p"]).ok().stdout;
        let text = "failed to set up network for the sandbox: plugin type=\"second\" name=\"net\" \
                    failed (add): no room; at all";
        let told = events.contains(text) && events.contains("FailedCreatePodSandBox");
        if told { Ok(()) } else { Err(events) }
    });
    let calls = test.calls();
    let expected =
        ["STATUS.first", "STATUS.second", "ADD.first", "ADD.second", "DEL.second", "DEL.first"];
    assert_eq!(calls, expected);
    assert_eq!(test.told("DEL.first").get("prevResult"), None);
    // A scope goes when systemd has seen that nothing is left in it.
    crate::support::wait_until("nothing held", || {
        let mut left = test.scene.leaks();
        left.retain(|leak| leak.starts_with("attachment") || leak.contains("_POD_"));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    std::fs::write(test.scene.dir().join("well"), "").unwrap();
    let object = test.scene.wait_ready("p");
    assert_eq!(ips(&object), ["10.9.0.7", "fd09::7"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_plugin_that_hangs_keeps_nobody() {
    let test = Plugins::new("0.4.0", r#"{"type": "first"}"#);
    test.program("first", "[ $CNI_COMMAND != ADD ] || sleep 1000");
    test.try_run(&sleeper("carob/network-timeout: 1s")).ok();
    crate::support::wait_until("an event", || {
        let events = test.scene.pod(&["events", "p"]).ok().stdout;
        if events.contains("failed (add): did not end within 1.0 s") { Ok(()) } else { Err(events) }
    });
    test.scene.pod(&["rm", "--force", "p"]).ok();
    assert_eq!(test.calls().last().map(String::as_str), Some("DEL.first"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_address_that_could_not_be_released_is_pruned_later() {
    let test = Plugins::new(
        "1.0.0",
        r#"{"type": "sometimes", "bridge": "test0", "isGateway": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]]}}"#,
    );
    let script =
        "[ $CNI_COMMAND != DEL ] || [ ! -e $calls/../stuck ] || { echo stuck >&2; exit 3; }
        exec /usr/lib/cni/bridge <$file";
    test.program("sometimes", script);
    std::os::unix::fs::symlink("/usr/lib/cni/host-local", format!("{}/host-local", test.programs))
        .unwrap();
    test.try_run(&sleeper("")).ok();
    assert_eq!(ips(&test.scene.wait_ready("p")), ["10.7.0.2"]);
    std::fs::write(test.scene.dir().join("stuck"), "").unwrap();
    let removed = test.scene.pod(&["rm", "--force", "p"]).ok();
    assert!(removed.stderr.contains("ended with exit status 3: stuck"), "{removed:?}");
    let kept = "ls /var/lib/cni/networks/net | grep ^10 || true";
    assert_eq!(test.scene.sh_on_machine(kept).ok().stdout, "10.7.0.2\n");
    let data = test.scene.dir().join("data").display().to_string();
    let prune = ["prune", "--data-root", &data];
    let failed = test.scene.pod(&prune).ok();
    assert!(failed.stdout.is_empty() && failed.stderr.contains("stuck"), "{failed:?}");
    // Pods that live keep theirs.
    std::fs::remove_file(test.scene.dir().join("stuck")).unwrap();
    test.try_run(&sleeper("").replace("name: p,", "name: q,").replace("u-1", "u-2")).ok();
    assert_eq!(ips(&test.scene.wait_ready("q")), ["10.7.0.3"]);
    let pruned = test.scene.pod(&prune).ok().stdout;
    assert_eq!(pruned, "10.7.0.2 of network net released\n");
    assert_eq!(test.scene.sh_on_machine(kept).ok().stdout, "10.7.0.3\n");
    assert_eq!(test.scene.pod(&prune).ok().stdout, "");
    // The state of a pod is lost, as with a reboot: with the next pod, or prune, goes the rest.
    test.scene.crash("q");
    test.lose_state("q", "u-2", &["default_q_c_0", "default_q_POD_0"]);
    let pruned = test.scene.pod(&prune).ok().stdout;
    assert_eq!(pruned, "10.7.0.3 of network net released\ndata of lost pod u-2 removed\n");
    assert_eq!(test.scene.sh_on_machine(kept).ok().stdout, "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn garbage_is_collected_by_plugins_that_can() {
    let test = Plugins::new("1.1.0", r#"{"type": "first"}"#);
    test.program("first", GIVES_ADDRESS);
    test.try_run(&sleeper("")).ok();
    test.scene.wait_ready("p");
    let data = test.scene.dir().join("data").display().to_string();
    let args = ["--data-root", &data, "--cni-conf-dir", &test.configs, "--cni-bin-dir"];
    let prune = [&["prune", "--networks"][..], &args, &[&test.programs]].concat();
    assert_eq!(test.scene.pod(&prune).ok().stdout, "network net collected\n");
    assert_eq!(
        test.told("GC.first")["cni.dev/valid-attachments"],
        serde_json::json!([{"containerID": "u-1-0", "ifname": "eth0"}])
    );
    let file = format!("{}/10-net.conflist", test.configs);
    let list = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, list.replace("1.1.0", "1.0.0")).unwrap();
    let alone = "network net left alone: it has no GC (version 1.1), or disableGC\n";
    assert_eq!(test.scene.pod(&prune).ok().stdout, alone);
    // Those that have ended are asked for.
    test.scene.pod(&["stop", "p"]).ok();
    assert_eq!(test.scene.pod(&["prune", "--data-root", &data]).ok().stdout, "");
    let pruned = test.scene.pod(&["prune", "--ended", "--data-root", &data]).ok().stdout;
    assert_eq!(pruned, "pod default/p removed\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_plugins_a_pod_says_so_and_has_a_loopback_device() {
    let test = Plugins::new("1.0.0", r#"{"type": "first"}"#);
    let out = test.try_run(&sleeper("")).ok();
    let why = format!(
        "the pod has only a loopback device: there is no CNI plugin \"first\" in {}",
        test.programs
    );
    assert!(out.stderr.contains(&why), "{out:?}");
    assert_eq!(ips(&test.scene.wait_ready("p")), ["127.0.0.1"]);
    let events = test.scene.pod(&["events", "p"]).ok().stdout;
    assert_eq!(events.matches(&why).count(), 1, "{events}");
    let published = server("web", "    ports: [{containerPort: 80, hostPort: 8080}]\n");
    let words = "spec.containers[0].ports[0].hostPort: there is no CNI plugin \"first\"";
    test.try_run(&published).fails(1, &[words]);
    let elsewhere = sleeper("carob/network: other").replace("u-1", "u-2");
    test.try_run(&elsewhere.replace("name: p,", "name: o,"))
        .fails(1, &["there is no network \"other\" in", "there is net, carob, none"]);
    let flags = ["-d", "--network", "none"];
    let words = "hostPort: the pod has no network: its annotation carob/network is none";
    test.scene.try_run_with(&flags, &published).fails(1, &[words]);
    // The machine's network needs no plugin.
    let host = server("host", "").replace("'80'", "'8000'").replace("port: 80", "port: 8000");
    test.scene.try_run_with(&["-d", "--network", "host"], &host).ok();
    let object = test.scene.wait_ready("host");
    assert_eq!(object["spec"]["hostNetwork"], true);
    let fetch = "busybox timeout 5 busybox wget -qO- http://127.0.0.1:8000/hostname";
    test.scene.sh_on_machine(fetch).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_network_of_both_kinds_of_addresses() {
    let scene = Scene::with_own_network();
    let list = r#"{"cniVersion": "1.0.0", "name": "dual", "plugins": [
        {"type": "bridge", "bridge": "dual0", "isGateway": true,
         "ipam": {"type": "host-local", "ranges": [
            [{"subnet": "10.6.0.0/24"}], [{"subnet": "fd06::/64"}]]}},
        {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}"#;
    let dir = scene.dir().join("net.d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("dual.conflist"), list).unwrap();
    let dir = dir.display().to_string();
    let flags = ["-d", "--cni-conf-dir", &dir, "--cni-bin-dir", "/usr/lib/cni"];
    let env = "    env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]
    ports: [{containerPort: 80, hostPort: 8080}]\n";
    run(&scene, &flags, &server("web", env));
    run(&scene, &flags, &server("db", ""));
    scene.wait_ready("db");
    let web = ips(&scene.wait_ready("web"));
    assert_eq!(web, ["10.6.0.2", "fd06::2"]);
    assert_eq!(scene.sh("web", "c", "echo $IPS").ok().stdout, "10.6.0.2,fd06::2\n");
    // Duplicate address detection takes its time.
    crate::support::wait_until("IPv6", || {
        let out = scene.sh("db", "c", "timeout 5 wget -qO- http://[fd06::2]/hostname");
        if out.stdout == "web\n" { Ok(()) } else { Err(format!("{out:?}")) }
    });
    for url in ["[fd06::1]:8080", "127.0.0.1:8080"] {
        crate::support::wait_until(url, || {
            let fetch = format!("busybox timeout 5 busybox wget -qO- http://{url}/hostname");
            let out = scene.sh_on_machine(&fetch);
            if out.stdout == "web\n" { Ok(()) } else { Err(format!("{out:?}")) }
        });
    }
}
