//! `run --image` and `spec --image`.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::made::{layout, sh};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_command_runs_in_an_image() {
    let scene = Scene::new();
    scene.import("one");
    let run = |args: &[&str]| scene.run_image(&[&["--image", "one"], args].concat());
    assert_eq!(run(&["echo", "-n", "hi", "--detach"]).ok().stdout, "hi --detach");
    run(&["sh", "-c", "exit 7"]).fails(7, &[]);
    let script = "echo $FROM $MORE; pwd; id -u; echo x > /etc/x && cat /etc/x; ls /proc/1/exe";
    let out = run(&["sh", "-c", script]);
    assert!(out.stdout.starts_with("image\n"), "{out:?}");
    let out = scene.run_image(&[
        "--image",
        "one",
        "--env",
        "MORE=more",
        "--env",
        "FROM=me",
        "-w",
        "/tmp",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.ok().stdout.starts_with("me more\n/tmp\n0\nx\n"));
    // What one has written is not there for the next.
    run(&["cat", "/etc/x"]).fails(1, &[]);
    run(&["/none"]).fails(1, &["/none"]);
    assert!(scene.in_store("uses").is_empty(), "writable layers go with their containers");
    scene.run_image(&["--image", "one", "--pull", "never", "--", "true"]).ok();
    scene.run_image(&["--image", "none", "--pull", "never"]).fails(1, &["--pull is never"]);
    scene.carob(&["run", "a", "b"]).fails(1, &["unexpected argument", "carob run --image a"]);
    scene.run_image(&["--rm", "--image", "one", "true"]).ok();
    scene.carob(&["run"]).fails(1, &["ID"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_image_says_how_it_is_run() {
    let scene = Scene::new();
    scene.import("two");
    let run = |args: &[&str]| scene.run_image(&[&["--image", "two"], args].concat());
    assert_eq!(run(&[]).ok().stdout, "said by-default\n");
    assert_eq!(run(&["otherwise"]).ok().stdout, "said otherwise\n");
    let source = format!("oci:{}/layout:two", layout().display());
    assert_eq!(
        scene.run_image(&["--image", &source, "from-files"]).ok().stdout,
        "said from-files\n"
    );

    let bundle = scene.dir().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let data = scene.dir().join("data");
    let spec = |more: &[&str]| {
        let start = ["spec", "--data-root", data.to_str().unwrap(), "--image", "two", "--bundle"];
        scene.carob(&[&start[..], &[bundle.to_str().unwrap()], more].concat())
    };
    spec(&[]).ok();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["/bin/echo", "said", "by-default"]));
    assert_eq!(config["process"]["user"]["uid"], 1000);
    assert_eq!(config["process"]["cwd"], "/srv");
    assert_eq!(config["annotations"]["org.opencontainers.image.stopSignal"], "SIGUSR1");
    assert_eq!(fs::read_to_string(bundle.join("rootfs/home/new")).unwrap(), "new\n");
    spec(&[]).fails(1, &["File exists"]);
    let without_terminal = fs::read_to_string(bundle.join("config.json"))
        .unwrap()
        .replace("\"terminal\": true", "\"terminal\": false");
    fs::write(bundle.join("config.json"), without_terminal).unwrap();
    let out = scene.carob(&["run", "--bundle", bundle.to_str().unwrap(), "from-bundle"]).ok();
    assert_eq!(out.stdout, "said by-default\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_runs_is_not_pruned() {
    let scene = Scene::new();
    scene.import("one");
    let data = scene.dir().join("data");
    let args =
        ["run", "--data-root", data.to_str().unwrap(), "--image", "one", "-d", "--name", "c"];
    // The container keeps the streams of who has started it.
    let mut run = scene.command(&[&args[..], &["sleep", "1000"]].concat());
    let status = run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    scene.image_verb("rm", &["one"]).fails(1, &["used by container c"]);
    scene.image_verb("prune", &["--all"]).ok();
    assert_eq!(scene.in_store("layers").len(), 1);
    assert_eq!(scene.carob(&["exec", "c", "echo", "lives"]).ok().stdout, "lives\n");
    scene.carob(&["delete", "--force", "c"]).ok();
    assert!(scene.in_store("uses").is_empty());
    scene.image_verb("prune", &["--all"]).ok();
    assert!(scene.in_store("layers").is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_terminal_is_given_on_request() {
    let scene = Scene::new();
    scene.import("one");
    let data = scene.dir().join("data");
    let line = format!(
        "{} --root {} run --data-root {} -it --image one sh -c 'tty; exit 5'",
        env!("CARGO_BIN_EXE_carob"),
        scene.root().display(),
        data.display()
    );
    let out = sh(&format!("script -qec \"{line}\" /dev/null </dev/null || echo \"status $?\""));
    assert!(out.contains("/dev/pts/0") && out.contains("status 5"), "{out}");
}
