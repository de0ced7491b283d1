//! Many containers, many pods, no room, no sandbox.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Scene, condition};

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_of_fifty_containers_survives_its_supervisor() {
    let scene = Scene::new();
    let containers: String = (0..50)
        .map(|n| format!("  - {{name: c{n}, image: IMAGE, command: [sh, -c, 'echo from {n}; exec sleep 1000']}}\n"))
        .collect();
    scene.run(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: many}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n{containers}"
    ));
    scene.wait_ready("many");
    let ids = |object: &Value| {
        let all = object["status"]["containerStatuses"].as_array().unwrap();
        all.iter().map(|one| one["containerID"].to_string()).collect::<Vec<_>>()
    };
    let before = ids(&scene.inspect("many"));
    scene.crash("many");
    let object = scene.inspect("many");
    assert_eq!(ids(&object), before);
    assert!(condition(&object, "Ready"), "{object:#}");
    assert_eq!(scene.wait_log("many", "c49", "from 49"), "from 49\n");
    assert_eq!(scene.pod(&["ps"]).ok().stdout.matches("50/50").count(), 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hundred_pods_start_at_once_and_go_without_a_trace() {
    const PODS: usize = 100;
    let scene = Scene::new();
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec:\n  \
                terminationGracePeriodSeconds: 0\n  containers:\n  \
                - {name: one, image: IMAGE, command: [sleep, '1000']}\n";
    let spawn = |args: &[&str]| {
        scene.command(args).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
    };
    let all: Vec<_> = (0..PODS)
        .map(|n| {
            let path =
                scene.manifest(&format!("{n}.yaml"), &text.replace("NAME", &format!("p{n}")));
            let args = scene.run_args("run", &["-d"], &[&path]);
            spawn(&args.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    for mut run in all {
        assert!(run.wait().unwrap().success());
    }
    let end = Instant::now() + Duration::from_secs(30);
    while scene.pod(&["ps"]).ok().stdout.matches("Running").count() < PODS {
        assert!(Instant::now() < end, "{}", scene.pod(&["ps"]).stdout);
        std::thread::sleep(Duration::from_millis(50));
    }
    report_memory(&scene, PODS);
    let all: Vec<_> =
        (0..PODS).map(|n| spawn(&["pod", "rm", "--force", &format!("p{n}")])).collect();
    for mut removal in all {
        assert!(removal.wait().unwrap().success());
    }
    assert_eq!(scene.leaks(), Vec::<String>::new());
}

/// For people: what a supervisor costs when there are many.
fn report_memory(scene: &Scene, pods: usize) {
    let (mut rss, mut pss) = (0, 0);
    for n in 0..pods {
        let pid = scene.supervisor(&format!("p{n}")).expect("a supervisor");
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let of = |key: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        rss += of("Rss:");
        pss += of("Pss:");
    }
    let pods = u64::try_from(pods).unwrap();
    eprintln!("supervisors, KiB each: RSS {}, PSS {}", rss / pods, pss / pods);
}

/// A state root that is full at will.
struct SmallRoot<'a> {
    scene: &'a Scene,
}

impl<'a> SmallRoot<'a> {
    fn new(scene: &'a Scene) -> Self {
        fs::create_dir_all(scene.root()).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "small"])
            .arg(scene.root())
            .status();
        assert!(status.unwrap().success());
        Self { scene }
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.scene.root().join(".filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.scene.root().join(".filler")).unwrap();
    }
}

impl Drop for SmallRoot<'_> {
    fn drop(&mut self) {
        let _full = fs::remove_file(self.scene.root().join(".filler"));
        let _ended = self.scene.pod(&["rm", "--force", "web"]);
        let _status = Command::new("umount").arg("-l").arg(self.scene.root()).status();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_full_state_root_stops_nothing_and_is_made_up_for() {
    let scene = Scene::new();
    let root = SmallRoot::new(&scene);
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 200ms, carob/backoff-max: 400ms}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: stays, image: IMAGE, command: [sleep, '1000']}
  - {name: dies, image: IMAGE, command: [sleep, '1000']}
",
    );
    scene.wait_ready("web");
    let (supervisor, id) =
        (scene.supervisor("web"), scene.container("web", "stays")["containerID"].clone());
    root.fill();
    // Its end cannot be written down, nor can it be started again.
    scene.pod(&["kill", "-c", "dies", "web"]).ok();
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(scene.supervisor("web"), supervisor, "it goes on");
    assert_eq!(scene.sh("web", "stays", "echo well").stdout, "well\n");

    root.make_room();
    scene.wait("web", "its restart", |object| {
        scene.container("web", "dies")["restartCount"].as_u64() > Some(0)
            && condition(object, "Ready")
    });
    assert_eq!(scene.container("web", "stays")["containerID"], id);
    assert_eq!(scene.supervisor("web"), supervisor);

    // No room for a new pod: nothing is left of it, and the old one is not disturbed.
    root.fill();
    let out = scene.try_run("apiVersion: v1\nkind: Pod\nmetadata: {name: two}\nspec:\n  containers: [{name: c, image: IMAGE}]\n");
    assert_ne!(out.code, 0);
    assert!(out.stderr.contains("No space left on device"), "{out:?}");
    root.make_room();
    assert_eq!(scene.pod(&["ps", "--format", "name"]).ok().stdout, "pod/web\n");

    // Its end, too, is made up for.
    root.fill();
    let mut stop = scene.command(&["pod", "stop", "web"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    root.make_room();
    assert!(stop.wait().unwrap().success());
    scene.pod(&["rm", "web"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sandbox_that_cannot_be_made_is_tried_again_and_says_why() {
    let scene = Scene::new();
    let late = scene.dir().join("late");
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: v, hostPath: {{path: {}, type: Directory}}}}]
  containers:
  - {{name: one, image: IMAGE, command: [sleep, '1000']}}
",
        late.display()
    ));
    let object = scene.wait("web", "its reason", |_| {
        scene.events("web").iter().any(|reason| reason == "FailedMount")
    });
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(scene.status("web"), "ContainerCreating");
    // The next supervisor keeps to the time.
    scene.crash("web");
    scene.pod(&["ps"]).ok();
    assert_eq!(scene.events("web").iter().filter(|reason| *reason == "FailedMount").count(), 1);
    fs::create_dir(&late).unwrap();
    scene.wait_ready("web");

    // One that the kernel refuses.
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: 'x y'}]}
  containers: [{name: one, image: IMAGE}]
",
    );
    scene.wait("other", "its reason", |_| {
        scene.events("other").iter().any(|reason| reason == "FailedCreatePodSandBox")
    });
    let events = scene.pod(&["events", "other"]).ok().stdout;
    assert!(events.contains("ip_local_port_range"), "{events}");
    scene.pod(&["rm", "--force", "other"]).ok();
}
