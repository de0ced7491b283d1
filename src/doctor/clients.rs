//! The clients of a runtime that are installed here, and how each is pointed at carob.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Check, Status};

const SECTION: &str = "clients";
/// How long a client may take to say its version.
const PATIENCE: Duration = Duration::from_secs(3);

struct Client {
    name: &'static str,
    /// The first of these that is installed.
    programs: &'static [&'static str],
    version: Version,
    /// What to do, `CAROB` being this program; docs/clients.md has the rest.
    how: &'static str,
}

/// How the version is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// By `--version`.
    Asked,
    /// Not at all: it makes directories for its storage before it answers.
    Unknown,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "containerd",
        programs: &["containerd"],
        version: Version::Asked,
        how: "ctr run --runc-binary CAROB …; for Kubernetes set BinaryName = \"CAROB\" in the \
              options of a runtime in /etc/containerd/config.toml",
    },
    Client {
        name: "nerdctl",
        programs: &["nerdctl"],
        version: Version::Asked,
        how: "nerdctl run --runtime CAROB …",
    },
    Client {
        name: "Docker",
        programs: &["dockerd", "docker"],
        version: Version::Asked,
        how: "{\"runtimes\": {\"carob\": {\"path\": \"CAROB\"}}} in /etc/docker/daemon.json, then \
              docker run --runtime carob …",
    },
    Client {
        name: "Podman",
        programs: &["podman"],
        version: Version::Unknown,
        how: "podman --runtime CAROB run …",
    },
    Client {
        name: "Buildah",
        programs: &["buildah"],
        version: Version::Unknown,
        how: "buildah --runtime CAROB run …",
    },
    Client {
        name: "CRI-O",
        programs: &["crio"],
        version: Version::Asked,
        how: "runtime_path = \"CAROB\" in [crio.runtime.runtimes.carob] of a file in \
              /etc/crio/crio.conf.d",
    },
    Client {
        name: "kubelet",
        programs: &["kubelet"],
        version: Version::Asked,
        how: "point its CRI server (containerd, CRI-O) at carob, and name it in a RuntimeClass",
    },
];

pub(super) fn checks() -> Vec<Check> {
    let carob = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/carob"));
    let carob = carob.display().to_string();
    let found: Vec<Check> = CLIENTS.iter().filter_map(|client| check(client, &carob)).collect();
    if found.is_empty() {
        return vec![Check::new(SECTION, "clients", Status::Ok, "none in PATH")];
    }
    found
}

fn check(client: &Client, carob: &str) -> Option<Check> {
    let program = client.programs.iter().find_map(|name| find(name))?;
    let shown = program.display();
    let version = if client.version == Version::Asked { version(&program) } else { None };
    let found = version.map_or_else(|| shown.to_string(), |text| format!("{text} ({shown})"));
    let how = client.how.replace("CAROB", carob);
    Some(Check::new(SECTION, client.name, Status::Ok, found).advise(how))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The first line of what it says to `--version`.
fn version(program: &PathBuf) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let said = first_line(&mut child);
    // It has ended, or does not.
    let _gone = child.kill();
    let _reaped = child.wait();
    said.filter(|line| !line.is_empty())
}

fn first_line(child: &mut Child) -> Option<String> {
    use std::io::Read;
    let end = Instant::now() + PATIENCE;
    let mut stdout = child.stdout.take()?;
    let mut text = Vec::new();
    while !text.contains(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return None,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let mut buffer = [0; 512];
        match stdout.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
        }
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(|line| line.trim().to_owned())
}
