//! Docker: dockerd, which has a containerd of its own.

use crate::document::snippet;
use crate::image::{self, BUSYBOX};
use crate::support::{Output, Running};
use crate::yard::{Yard, wait};

/// A running daemon with the images.
#[derive(Debug)]
struct Docker {
    yard: Yard,
    daemon: Running,
}

impl Docker {
    fn start() -> Self {
        let yard = Yard::new();
        yard.write("/etc/docker/daemon.json", &snippet("Docker", "json"));
        // For its BuildKit, as the documentation says.
        std::os::unix::fs::symlink("carob", yard.path("/usr/local/bin/runc")).unwrap();
        let daemon = yard.call(&["dockerd"]).spawn();
        wait("dockerd", || {
            let out = yard.run(&["docker", "version"]);
            if out.code == 0 { Ok(()) } else { Err(daemon.stderr()) }
        });
        image::write(&yard.path("/tmp/images.tar"));
        let this = Self { yard, daemon };
        this.run(&["load", "--quiet", "--input", "/tmp/images.tar"]).ok();
        this
    }

    /// `docker args…`
    fn run(&self, args: &[&str]) -> Output {
        self.yard.run(&[&["docker"], args].concat())
    }

    fn sleeper(&self, name: &str, flags: &[&str]) {
        let start = ["run", "--detach", "--name", name];
        self.run(&[&start, flags, &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    }

    /// A value of `docker inspect`.
    fn inspect(&self, name: &str, template: &str) -> String {
        self.run(&["inspect", "--format", template, name]).ok().text().to_owned()
    }

    fn wait_for(&self, name: &str, template: &str, wanted: &str) {
        wait(&format!("{template} of {name}"), || match self.inspect(name, template) {
            now if now == wanted => Ok(()),
            now => Err(now),
        });
    }
}

fn once(on: &Docker, flags: &[&str], script: &str) -> Output {
    on.run(&[&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", script]].concat())
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_gives_output_and_exit_status_and_leaves_nothing() {
    let on = Docker::start();
    let runtime = on.run(&["info", "--format", "{{.DefaultRuntime}}"]).ok();
    assert_eq!(runtime.text(), "carob");
    once(&on, &[], "true").ok();
    let before = on.yard.contents();
    let out = once(&on, &[], "echo out; echo err >&2; exit 7");
    assert_eq!((out.code, out.text(), out.stderr.trim()), (7, "out", "err"));
    for (program, code) in [("/nonexistent", 127), ("nonexistent", 127), ("/etc/plain", 126)] {
        let out = on.run(&["run", "--rm", BUSYBOX, program]);
        assert_eq!(out.code, code, "{program}: {out:?}");
        assert!(out.stderr.contains(program), "{out:?}");
    }
    let flags = ["--user", "1000:1000", "--read-only", "--tmpfs", "/t", "--network", "none"];
    let out = once(&on, &flags, "id -u; touch /t/x && touch /x");
    assert_eq!((out.code, out.text()), (1, "1000"), "{out:?}");
    assert_eq!(once(&on, &["--init"], "cat /proc/1/comm").ok().text(), "docker-init");
    let memory = ["--memory", "16m", "--name", "greedy"];
    let greedy =
        [&["run"], &memory[..], &[BUSYBOX, "sh", "-c", "head -c 100000000 /dev/zero | tail"]];
    assert_eq!(on.run(&greedy.concat()).code, 137);
    assert_eq!(on.inspect("greedy", "{{.State.OOMKilled}}"), "true");
    on.run(&["rm", "greedy"]).ok();
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_terminal_reaches_the_container_and_an_exec() {
    let on = Docker::start();
    let out = on.yard.on_terminal(&format!("docker run -it --rm {BUSYBOX} sh -c 'tty; exit 5'"));
    assert!(out.code == 5 && out.stdout.contains("/dev/pts/0"), "{out:?}");
    on.sleeper("term", &[]);
    let out = on.yard.on_terminal("docker exec -it term sh -c 'tty; exit 6'");
    assert!(out.code == 6 && out.stdout.contains("/dev/pts/"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_goes_through_its_life() {
    let on = Docker::start();
    once(&on, &[], "true").ok();
    let before = on.yard.contents();
    on.sleeper("web", &["--memory", "64m"]);
    let out = on.run(&["exec", "web", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    let out = on.run(&["exec", "web", "/nonexistent"]);
    assert!([126, 127].contains(&out.code), "{out:?}");
    assert!(on.run(&["top", "web"]).ok().stdout.contains("sleep 1000"));
    let out = on.run(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "web"]).ok();
    assert!(out.text().starts_with("1 ") && out.text().ends_with("64MiB"), "{out:?}");

    on.run(&["pause", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}}"), "paused");
    on.run(&["unpause", "web"]).ok();
    let limits = ["--memory", "32m", "--memory-swap", "32m", "--cpus", "0.5"];
    on.run(&[&["update"], &limits[..], &["web"]].concat()).ok();
    let limit = if crate::support::cgroup::is_v2() {
        "cat /sys/fs/cgroup/memory.max; cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    } else {
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    };
    let out = on.run(&["exec", "web", "sh", "-c", limit]).ok();
    assert_eq!(out.text(), "33554432\n50000");

    on.run(&["stop", "--time", "0", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    on.run(&["start", "web"]).ok();
    on.run(&["kill", "web"]).ok();
    on.wait_for("web", "{{.State.Status}}", "exited");
    on.run(&["rm", "web"]).ok();
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn restart_policies_hold() {
    let on = Docker::start();
    let script = ["sh", "-c", "echo run; exit 3"];
    let flags = ["run", "--detach", "--restart", "on-failure:2", "--name", "weak", BUSYBOX];
    on.run(&[&flags[..], &script].concat()).ok();
    on.wait_for("weak", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 2 3");
    assert_eq!(on.run(&["logs", "weak"]).ok().stdout, "run\nrun\nrun\n");

    on.sleeper("always", &["--restart", "always"]);
    on.yard.kill(&["sleep", "1000"]);
    on.wait_for("always", "{{.State.Status}} {{.RestartCount}}", "running 1");
    on.run(&["exec", "always", "true"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn images_are_built_step_by_step() {
    let on = Docker::start();
    let file = "FROM localhost/busybox\nRUN echo built > /made\nUSER 1000\n\
                RUN [ \"$(id -u)\" = 1000 ]\nCMD [\"cat\", \"/made\"]\n";
    on.yard.write("/tmp/build/Dockerfile", file);
    for (buildkit, tag) in [("0", "classic"), ("1", "buildkit")] {
        let args = ["docker", "build", "--no-cache", "--tag", tag, "/tmp/build"];
        on.yard.call(&args).env("DOCKER_BUILDKIT", buildkit).output().ok();
        assert_eq!(on.run(&["run", "--rm", tag]).ok().stdout, "built\n", "{tag}");
    }
    on.yard.write("/tmp/bad/Dockerfile", "FROM localhost/busybox\nRUN exit 7\n");
    let out = on.run(&["build", "/tmp/bad"]);
    assert!(out.code != 0 && out.stderr.contains("code: 7"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_health_check_is_an_exec() {
    let on = Docker::start();
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "100ms"];
    on.sleeper("web", &[&check[..], &["--health-retries", "1"]].concat());
    on.wait_for("web", "{{.State.Health.Status}}", "unhealthy");
    on.run(&["exec", "web", "touch", "/tmp/well"]).ok();
    on.wait_for("web", "{{.State.Health.Status}}", "healthy");
}
