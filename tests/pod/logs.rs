//! Logs of real containers: the files, what reads them, and who cannot hold them up.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::probes::status_of;
use crate::scene::Scene;
use crate::support::wait_until;

const MIB: usize = 1 << 20;

/// A pod `web` with one container `c` that runs a script and is not started again.
fn script(scene: &Scene, script: &str) {
    let path = scene.dir().join("script");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("run"), script).unwrap();
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes: [{{name: script, hostPath: {{path: '{}'}}}}]
  containers:
  - {{name: c, image: IMAGE, command: [sh, /script/run],
     volumeMounts: [{{name: script, mountPath: /script}}]}}
",
        path.display()
    ));
}

/// The log files of a container, the newest last.
fn files(scene: &Scene, container: &str) -> Vec<PathBuf> {
    let pods = fs::read_dir(scene.dir().join("logs")).unwrap().flatten();
    let pod = pods.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let entries = fs::read_dir(pod.join(container)).unwrap().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort_by_key(|path| {
        let name = path.to_string_lossy().trim_end_matches(".gz").to_owned();
        (name.ends_with(".log"), name)
    });
    files
}

/// A call that goes on, its standard output a pipe.
fn start(scene: &Scene, args: &[&str]) -> Child {
    scene.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_file_has_the_format_of_the_cri() {
    let scene = Scene::new();
    script(
        &scene,
        "echo one; echo bad >&2; sleep 0.2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf 'no newline'",
    );
    scene.wait_phase("web", "Succeeded");

    let files = files(&scene, "c");
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].ends_with("c/0.log"), "{files:?}");
    let text = fs::read_to_string(&files[0]).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    for line in &lines {
        let time: jiff::Timestamp = line[0].parse().unwrap();
        assert!(line[0].ends_with('Z') && jiff::Timestamp::now() >= time, "{line:?}");
    }
    let of = |stream| {
        let lines = lines.iter().filter(move |line| line[1] == stream);
        lines.map(|line| (line[2], line[3].len())).collect::<Vec<_>>()
    };
    assert_eq!(of("stderr"), [("F", 3)]);
    assert_eq!(of("stdout"), [("F", 3), ("P", 16384), ("F", 3616), ("F", 10)]);
    // The reader joins the pieces.
    let shown = scene.pod(&["logs", "web"]).ok().stdout;
    assert_eq!(shown.lines().map(str::len).max(), Some(20000));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_log_of_the_instance_before_is_kept() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 10ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - {name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}], command: [sh, -c,
     'echo x >> /v/n; echo instance $(wc -l < /v/n); [ $(wc -l < /v/n) = 3 ] && exec sleep 1000; exit 1']}
  - {name: other, image: IMAGE, command: [sleep, '1000']}
",
    );
    scene.wait_log("web", "c", "instance 3");
    assert_eq!(scene.pod(&["logs", "--previous", "web"]).ok().stdout, "instance 2\n");
    assert_eq!(scene.pod(&["logs", "-p", "-c", "c", "web"]).ok().stdout, "instance 2\n");
    scene
        .pod(&["logs", "-p", "-c", "other", "web"])
        .fails(1, &["previous terminated container \"other\" in pod \"web\" not found"]);
    scene
        .pod(&["logs", "-c", "none", "web"])
        .fails(1, &["container none is not valid for pod web"]);
    // That of the first one is gone.
    let names: Vec<_> =
        files(&scene, "c").iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["1.log", "2.log"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn lines_are_chosen_by_number_age_container_and_bytes() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: init, image: IMAGE, command: [echo, prepared]}
  containers:
  - {name: a, image: IMAGE, command: [sh, -c, 'echo a1; echo a2; sleep 2; echo a3; exec sleep 1000']}
  - {name: b, image: IMAGE, command: [sh, -c, 'echo b1 >&2; exec sleep 1000']}
",
    );
    scene.wait_log("web", "a", "a3");
    scene.wait_log("web", "b", "b1");
    let logs = |args: &[&str]| scene.pod(&[&["logs", "web"], args].concat()).ok().stdout;

    assert_eq!(logs(&[]), "a1\na2\na3\n");
    assert_eq!(logs(&["--tail", "2"]), "a2\na3\n");
    assert_eq!(logs(&["--tail=0"]), "");
    assert_eq!(logs(&["--since", "1500ms"]), "a3\n");
    assert_eq!(logs(&["--limit-bytes", "4"]), "a1\na");
    assert_eq!(logs(&["-c", "init"]), "prepared\n");
    assert_eq!(logs(&["--all-containers"]), "prepared\na1\na2\na3\nb1\n");
    assert_eq!(
        logs(&["--all-containers", "--prefix", "--tail", "1"]),
        "[pod/web/init] prepared\n[pod/web/a] a3\n[pod/web/b] b1\n"
    );
    let stamped = logs(&["--timestamps"]);
    let (time, rest) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!(rest, "a1");
    let first: jiff::Timestamp = time.parse().unwrap();
    let later = (first + Duration::from_secs(1)).to_string();
    assert_eq!(logs(&["--since-time", &later]), "a3\n");
    let objects = logs(&["-c", "b", "--format", "json"]);
    let object: serde_json::Value = serde_json::from_str(&objects).unwrap();
    assert_eq!((&object["stream"], &object["text"]), (&"stderr".into(), &"b1".into()), "{object}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn following_ends_with_the_instance_and_misses_nothing_of_it() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 10ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - {name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}], command: [sh, -c,
     'echo begin; while [ ! -e /v/go ]; do sleep 0.1; done; rm /v/go; seq 2000; echo end']}
",
    );
    scene.wait_log("web", "c", "begin");
    let follower = start(&scene, &["pod", "logs", "-f", "web"]);
    let all = start(&scene, &["pod", "logs", "-f", "--all-containers", "--prefix", "web"]);
    std::thread::sleep(Duration::from_millis(200));
    scene.sh("web", "c", "touch /v/go").ok();

    let out = follower.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{:?}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.lines().count(), 2002);
    assert!(text.starts_with("begin\n1\n") && text.ends_with("2000\nend\n"));
    let out = all.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("[pod/web/c] begin\n") && text.ends_with("[pod/web/c] end\n"));
    // The next instance is another log.
    scene.wait("web", "restarted", |object| {
        object["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    wait_until("the next log", || {
        let log = scene.pod(&["logs", "web"]);
        if log.stdout == "begin\n" { Ok(()) } else { Err(format!("{log:?}")) }
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_rotate_and_lose_no_line() {
    let scene = Scene::new();
    script(
        &scene,
        "awk 'BEGIN { for (i = 1; i <= 240000; i++) printf \"%095d\\n\", i }'; echo last",
    );
    wait_until("the end", || {
        let last = scene.pod(&["logs", "--tail", "1", "web"]).stdout;
        if last == "last\n" { Ok(()) } else { Err(last) }
    });
    scene.wait_phase("web", "Succeeded");
    let files = files(&scene, "c");
    assert!((3..=5).contains(&files.len()), "{files:?}");
    let mut lines = 0_u64;
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = if name.ends_with(".gz") {
            Command::new("zcat").arg(file).output().unwrap().stdout
        } else if name.ends_with(".tmp") {
            continue;
        } else {
            fs::read(file).unwrap()
        };
        assert!(bytes.len() <= 10 * MIB, "{name}: {} bytes", bytes.len());
        for line in String::from_utf8(bytes).unwrap().lines() {
            let text = line.splitn(4, ' ').nth(3).unwrap();
            lines += 1;
            if text != "last" {
                assert_eq!(text.parse(), Ok(lines), "{name}");
            }
        }
    }
    assert_eq!(lines, 240_001);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_line_of_ten_megabytes_needs_no_memory() {
    let scene = Scene::new();
    script(
        &scene,
        "echo begin; while [ ! -e /go ]; do sleep 0.1; done; \
         head -c 9000000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 1000",
    );
    scene.wait_log("web", "c", "begin");
    let supervisor = scene.supervisor("web").unwrap();
    let before = status_of(supervisor, "VmHWM");
    scene.sh("web", "c", "touch /go").ok();

    wait_until("the end", || {
        let last = scene.pod(&["logs", "--tail", "1", "web"]).stdout;
        if last == "after\n" { Ok(()) } else { Err(last.chars().take(80).collect()) }
    });

    let grown = status_of(supervisor, "VmHWM") - before;
    assert!(grown < 1024, "{grown} KiB");
    let shown = scene.pod(&["logs", "web"]).ok().stdout;
    assert_eq!(shown.lines().map(str::len).collect::<Vec<_>>(), [5, 9_000_000, 5]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_reader_that_leaves_or_stops_holds_nobody_up() {
    let scene = Scene::new();
    script(
        &scene,
        "echo begin; while [ ! -e /go ]; do sleep 0.1; done; seq 300000; echo end; exec sleep 1000",
    );
    scene.wait_log("web", "c", "begin");
    let mut stopped = start(&scene, &["pod", "logs", "-f", "web"]);
    let mut text = String::new();
    // It has opened the file that will be rotated away.
    let mut of_stopped = BufReader::new(stopped.stdout.take().unwrap());
    of_stopped.read_line(&mut text).unwrap();
    let mut leaver = start(&scene, &["pod", "logs", "-f", "web"]);
    let mut line = String::new();
    BufReader::new(leaver.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begin\n");
    signal(&stopped, Signal::SIGSTOP);
    scene.sh("web", "c", "touch /go").ok();

    wait_until("the end", || {
        let last = scene.pod(&["logs", "--tail", "1", "web"]).stdout;
        if last == "end\n" { Ok(()) } else { Err(last) }
    });
    // Quietly, as any filter.
    let status = leaver.wait().unwrap();
    let mut said = String::new();
    leaver.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert!(
        status.signal() == Some(13) || status.code() == Some(141) || status.success(),
        "{status}"
    );

    signal(&stopped, Signal::SIGCONT);
    let pod = scene.pod(&["stop", "web"]);
    of_stopped.read_to_string(&mut text).unwrap();
    stopped.wait().unwrap();
    assert_eq!((pod.code, text.lines().count()), (0, 300_002));
}

/// A tiny file system that is unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(path: &Path, options: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_full_disk_stops_no_container_and_is_told_of() {
    let scene = Scene::new();
    let disk = Tmpfs::new(&scene.dir().join("logs"), "size=256k");
    fs::write(disk.0.join("ballast"), vec![0; 200 << 10]).unwrap();
    script(
        &scene,
        "echo begin; while [ ! -e /go ]; do sleep 0.1; done; seq 100000; touch /printed; \
         while [ ! -e /room ]; do sleep 0.1; done; echo room; exec sleep 1000",
    );
    scene.wait_log("web", "c", "begin");
    scene.sh("web", "c", "touch /go").ok();
    wait_until("all printed", || {
        let there = scene.sh("web", "c", "test -e /printed");
        if there.code == 0 { Ok(()) } else { Err(format!("{there:?}")) }
    });
    assert_eq!(scene.container("web", "c")["restartCount"], 0);

    fs::remove_file(disk.0.join("ballast")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    scene.sh("web", "c", "touch /room").ok();

    let log = scene.wait_log("web", "c", "room\n");
    let marker = log.lines().find(|line| line.contains("lost")).unwrap();
    assert!(marker.contains("No space left on device"), "{marker}");
    scene.pod(&["rm", "--force", "web"]).ok();
}
