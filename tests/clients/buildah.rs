//! Buildah, and builds of Podman's: a container for each step, started without conmon.

use crate::image::BUSYBOX;
use crate::podman::Podman;

const CONTAINERFILE: &str = "FROM localhost/busybox
RUN --mount=type=cache,target=/cache echo built > /made && id -u >> /made
USER 1000
RUN [ \"$(id -u)\" = 1000 ]
WORKDIR /tmp
CMD [\"cat\", \"/made\"]
";

#[test]
#[ignore = "needs root: run scripts/test"]
fn images_are_built_step_by_step() {
    let on = Podman::new();
    on.yard.write("/tmp/build/Containerfile", CONTAINERFILE);
    on.yard.run(&["buildah", "build", "--tag", "made", "/tmp/build"]).ok();
    let out = on.run(&["run", "--rm", "--network", "none", "made"]).ok();
    assert_eq!(out.stdout, "built\n0\n");
    on.run(&["build", "--no-cache", "--tag", "again", "/tmp/build"]).ok();

    on.yard.write("/tmp/bad/Containerfile", "FROM localhost/busybox\nRUN exit 7\n");
    let out = on.yard.run(&["buildah", "build", "/tmp/bad"]);
    assert!(out.code != 0 && out.stderr.contains("exit status 7"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn commands_run_in_a_working_container() {
    let on = Podman::new();
    let buildah = |args: &[&str]| on.yard.run(&[&["buildah"], args].concat());
    let name = buildah(&["from", BUSYBOX]).ok().text().to_owned();
    let before = on.yard.contents();
    let run = |args: &[&str]| buildah(&[&["run"], args].concat());
    assert_eq!(run(&[&name, "sh", "-c", "echo out; echo made > /made"]).ok().stdout, "out\n");
    assert_eq!(run(&[&name, "sh", "-c", "exit 9"]).code, 9);
    let out =
        run(&["--user", "1000", "--volume", "/tmp:/host:ro", &name, "sh", "-c", "id -u; ls /host"]);
    assert!(out.clone().ok().stdout.starts_with("1000\n"), "{out:?}");
    let out = run(&[&name, "/nonexistent"]);
    assert!(out.code != 0 && out.stderr.contains("no such file"), "{out:?}");
    let out = on.yard.on_terminal(&format!("buildah run --terminal {name} tty"));
    assert!(out.code == 0 && out.stdout.contains("/dev/pts/0"), "{out:?}");
    on.yard.returns_to(&before);
    buildah(&["commit", &name, "made"]).ok();
    let out = on.run(&["run", "--rm", "--network", "none", "made", "cat", "/made"]).ok();
    assert_eq!(out.stdout, "made\n");
}
