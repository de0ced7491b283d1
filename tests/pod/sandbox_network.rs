//! `pod sandbox` on networks: joined when it is made, left when it goes.

use serde_json::{Value, json};

use crate::plugins::{GIVES_ADDRESS, Plugins};
use crate::scene::{Output, Scene};

fn sandbox(scene: &Scene, verb: &str, name: &str, flags: &[&str]) -> Output {
    let (cgroup, data) = (scene.cgroup_parent(name), scene.dir().join("data"));
    let data = data.display().to_string();
    let own = ["--cgroup", &cgroup, "--data-root", &data];
    let own = if verb == "create" { &own[..] } else { &[] };
    scene.pod(&[&["sandbox", verb][..], own, flags, &[name]].concat())
}

fn listed(scene: &Scene) -> Value {
    scene.pod(&["sandbox", "ls", "--format", "json"]).ok().json()
}

fn hosts(report: &Value) -> String {
    std::fs::read_to_string(report["hosts"].as_str().unwrap()).unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sandboxes_on_a_network_have_addresses_and_names() {
    let scene = Scene::with_own_network();
    assert_eq!(listed(&scene), json!([]));
    let web = sandbox(&scene, "create", "web", &["--network", "cni"]).ok().json();
    assert_eq!((&web["network"], &web["status"]), (&json!("carob"), &json!("running")));
    let ip = web["ips"][0].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.84.0."), "{web}");
    let db = sandbox(&scene, "create", "db", &["--network", "carob"]).ok().json();
    let other = db["ips"][0].as_str().unwrap();
    // Each has the other's name, and its own.
    assert!(hosts(&web).contains(&format!("{ip}\tweb\n")), "{}", hosts(&web));
    assert!(hosts(&web).contains(&format!("{other}\tdb\tdb.default\n")), "{}", hosts(&web));
    assert!(hosts(&db).contains(&format!("{ip}\tweb\tweb.default\n")), "{}", hosts(&db));
    let reach =
        format!("nsenter --net={} busybox ping -c 1 -w 10 {other}", web["namespaces"]["network"]);
    scene.sh_on_machine(&reach.replace('"', "")).ok();
    let none = sandbox(&scene, "create", "lone", &[]).ok().json();
    assert_eq!((&none["network"], &none["ips"]), (&Value::Null, &json!([])));
    sandbox(&scene, "create", "host", &["--network", "host"]).ok();
    assert_eq!(listed(&scene).as_array().unwrap().len(), 4);
    assert_eq!(listed(&scene)[3], web);
    let table = scene.pod(&["sandbox", "ls"]).ok().stdout;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "STATUS", "PID", "NETWORK", "IP", "CGROUP"]);
    let columns = |row: &[&str]| [row[0], row[1], row[3], row[4]].map(str::to_owned);
    assert_eq!(columns(&rows[1]), ["db", "running", "carob", other]);
    assert_eq!(columns(&rows[2]), ["host", "running", "host", "-"]);
    assert_eq!(columns(&rows[3]), ["lone", "running", "none", "-"]);
    assert_eq!(scene.pod(&["sandbox", "ls", "-o", "name"]).ok().stdout, "db\nhost\nlone\nweb\n");
    // Whoever prunes leaves alone what is in use.
    let data = scene.dir().join("data").display().to_string();
    assert_eq!(scene.pod(&["prune", "--data-root", &data]).ok().stdout, "");
    // Stopped, it has none; started again, it has one.
    sandbox(&scene, "stop", "web", &[]).ok();
    let kept = "ls /var/lib/cni/networks/carob | grep ^10";
    assert_eq!(scene.sh_on_machine(kept).ok().stdout.trim(), other);
    assert_eq!(listed(&scene)[3]["status"], "stopped");
    let again = sandbox(&scene, "start", "web", &[]).ok().json();
    let ip = again["ips"][0].as_str().unwrap();
    assert!(hosts(&again).contains(&format!("{ip}\tweb\n")), "{}", hosts(&again));
    for name in ["web", "db", "lone", "host"] {
        sandbox(&scene, "rm", name, &[]).ok();
    }
    assert_eq!(scene.sh_on_machine(&format!("{kept} || true")).ok().stdout, "");
    assert_eq!(scene.sh_on_machine("ip -o link show type veth").ok().stdout, "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sandbox_that_cannot_be_put_on_its_network_is_not_made() {
    let test = Plugins::new("1.0.0", r#"{"type": "first"}"#);
    let script = "[ $CNI_COMMAND != ADD ] || [ -e $calls/../well ] || { echo full >&2; exit 1; }
        [ $CNI_COMMAND != DEL ] || [ ! -e $calls/../stuck ] || exit 1";
    test.program("first", &format!("{script}\n{GIVES_ADDRESS}"));
    let flags = ["--cni-conf-dir", &test.configs, "--cni-bin-dir", &test.programs, "--network"];
    let create =
        |network: &str| sandbox(&test.scene, "create", "s", &[&flags[..], &[network]].concat());
    create("other").fails(1, &["--network: there is no network \"other\" in", "there is net,"]);
    create("net").fails(1, &["failed (add): ended with exit status 1: full"]);
    assert_eq!(test.calls(), ["ADD.first", "DEL.first"]);
    assert_eq!(listed(&test.scene), json!([]));
    std::fs::write(test.scene.dir().join("well"), "").unwrap();
    let made = create("cni").ok().json();
    assert_eq!(made["ips"], json!(["10.9.0.7"]));
    let netns = made["namespaces"]["network"].as_str().unwrap().to_owned();
    assert!(test.environment("ADD.first").contains(&format!("CNI_NETNS={netns}\n")));
    // An address that cannot be given back keeps nobody; it is known, and pruned later.
    std::fs::write(test.scene.dir().join("stuck"), "").unwrap();
    let removed = sandbox(&test.scene, "rm", "s", &[]).ok();
    assert!(removed.stderr.contains("failed (del)"), "{removed:?}");
    assert!(test.environment("DEL.first").contains("CNI_IFNAME=eth0\n"));
    assert_eq!(test.told("DEL.first")["prevResult"]["ips"][0]["address"], "10.9.0.7/24");
    std::fs::remove_file(test.scene.dir().join("stuck")).unwrap();
    let data = test.scene.dir().join("data").display().to_string();
    let pruned = test.scene.pod(&["prune", "--data-root", &data]).ok().stdout;
    assert_eq!(pruned, "10.9.0.7 of network net released\n");
}
