//! What a test has left on the machine: found by its marker, reported, then removed.

use super::driver::{self, Driver};
use super::{Host, Peer, cgroup, peer};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Time a killed process has to disappear.
const GRACE: Duration = Duration::from_secs(30);

/// Children of the test process that some test will reap: as zombies they are no leak.
static EXPECTED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
/// Exit codes that a test has taken of children it found: they may have been another test's.
static TAKEN: Mutex<Vec<(Pid, i32)>> = Mutex::new(Vec::new());
static UNIQUE: AtomicU32 = AtomicU32::new(0);

/// Announces a child that its test will reap.
pub fn expect(pid: Pid) {
    EXPECTED.lock().unwrap().push(pid);
}

/// Starts a child and announces it, before anybody can see it dead and unannounced.
pub fn spawn(start: impl FnOnce() -> Child) -> Child {
    let mut expected = EXPECTED.lock().unwrap();
    let child = start();
    expected.push(Pid::from_raw(child.id().cast_signed()));
    child
}

/// The exit code of a child that another test has reaped.
pub fn taken(pid: Pid) -> Option<i32> {
    let mut taken = TAKEN.lock().unwrap();
    let at = taken.iter().rposition(|(other, _)| *other == pid)?;
    Some(taken.remove(at).1)
}

/// Takes back [`expect`] after the child has been reaped.
pub fn reaped(pid: Pid) {
    EXPECTED.lock().unwrap().retain(|p| *p != pid);
}

/// Reaps a child if it has ended; whether it had.
pub fn reap_child(pid: Pid) -> nix::Result<bool> {
    let code = match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => return Ok(false),
    };
    TAKEN.lock().unwrap().push((pid, code));
    Ok(true)
}

/// A number not given before.
pub fn unique() -> u32 {
    UNIQUE.fetch_add(1, Ordering::Relaxed)
}

/// Everything a test has left, described; empty as soon as nothing is.
pub fn find(host: &Host, reap: impl Fn()) -> Vec<String> {
    let end = Instant::now() + GRACE;
    let marker = host.marker();
    loop {
        reap();
        let mut left = processes(marker).into_iter().map(describe).collect::<Vec<_>>();
        left.extend(mounts(marker).into_iter().map(|m| format!("mount {m}")));
        left.extend(cgroups(marker).into_iter().map(|c| format!("cgroup {}", c.display())));
        left.extend(state_entries(&host.state_root()));
        if host.driver == Driver::Systemd {
            left.extend(driver::scopes(marker));
        }
        let orphans = orphans(host.born, &host.groups.lock().unwrap());
        left.extend(orphans.iter().map(|(_, text)| text.clone()));
        if left.is_empty() || Instant::now() > end {
            // Taken away, so that only one test is blamed.
            for (pid, _) in orphans {
                reap_child(pid).ok();
            }
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes by force what [`find`] may have reported, and the cgroup parent of the test.
pub fn sweep(marker: &str, reap: impl Fn()) {
    for pid in processes(marker) {
        kill(pid, Signal::SIGKILL).ok();
    }
    for mount in mounts(marker).iter().rev() {
        nix::mount::umount2(mount.as_str(), nix::mount::MntFlags::MNT_DETACH).ok();
    }
    let end = Instant::now() + GRACE;
    while !parents(marker).is_empty() && Instant::now() < end {
        for dir in parents(marker).iter().flat_map(|p| cgroup::tree(p)) {
            // A frozen process dies only after it is thawed.
            fs::write(dir.join("freezer.state"), "THAWED").ok();
            fs::write(dir.join("cgroup.freeze"), "0").ok();
            fs::remove_dir(dir).ok();
        }
        reap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Live processes with the marker in their command line, environment, cgroup or cwd.
pub fn processes(marker: &str) -> Vec<Pid> {
    look(marker).0
}

/// These, and children of the test process of which nobody can say whether they belong to them: while
/// one dies, or executes a program, it shows neither arguments nor environment, and is no zombie yet.
pub fn look(marker: &str) -> (Vec<Pid>, Vec<Pid>) {
    let me = Pid::this();
    // In cgroups that are systemd's it is written like this.
    let marks = [marker, &*driver::word(marker)];
    let has_mark = |bytes: &[u8]| marks.iter().any(|mark| boundary(bytes, mark));
    let (mut ours, mut unclear) = (Vec::new(), Vec::new());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.map(Pid::from_raw).filter(|pid| *pid != me) {
        let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // The first time, it shows a command line that is about to be replaced; the second, one that
        // was there all the time.
        let seen = ["cmdline", "environ", "cgroup", "cmdline"].map(read);
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let Some(stat) = stat(pid).filter(|s| s.state != 'Z') else { continue };
        if seen.iter().any(|bytes| has_mark(bytes)) || has_mark(cwd.as_os_str().as_encoded_bytes())
        {
            ours.push(pid);
        } else if stat.parent == me.as_raw() && (seen[0].is_empty() || seen[3].is_empty()) {
            unclear.push(pid);
        }
    }
    (ours, unclear)
}

/// Whether `marker` occurs and is not the beginning of a longer number (test-1 in test-12).
fn boundary(bytes: &[u8], marker: &str) -> bool {
    let ends = |at: usize| !bytes.get(at + marker.len()).is_some_and(u8::is_ascii_digit);
    let mut at = bytes.windows(marker.len()).enumerate().filter(|(_, w)| *w == marker.as_bytes());
    at.any(|(at, _)| ends(at))
}

fn describe(pid: Pid) -> String {
    let text = |file| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    format!("process {pid}: {}", text("cmdline"))
}

/// Mount points of this mount namespace that mention the marker.
fn mounts(marker: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().filter(|line| boundary(line.as_bytes(), marker));
    lines.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn parents(marker: &str) -> Vec<PathBuf> {
    // A relative cgroupsPath is below the caller's own cgroup.
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let paths: Vec<&str> = own.lines().filter_map(|l| l.rsplit(":/").next()).collect();
    let bases = cgroup::hierarchies().into_iter().flat_map(|h| {
        let below: Vec<PathBuf> = paths.iter().map(|p| h.join(p)).collect();
        below
    });
    let slices = cgroup::hierarchies().into_iter().map(|h| h.join(driver::slice(marker)));
    let mut all: Vec<PathBuf> =
        bases.map(|b| b.join(marker)).chain(slices).filter(|p| p.is_dir()).collect();
    all.sort();
    all.dedup();
    all
}

/// Cgroups below the test's parents; a runtime need not remove the parents.
fn cgroups(marker: &str) -> Vec<PathBuf> {
    let parents = parents(marker);
    parents.iter().flat_map(|p| cgroup::tree(p).into_iter().filter(move |c| c != p)).collect()
}

fn state_entries(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    // A name that is no container id is the runtime's own, such as a cache.
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names
        .filter(|n| !n.starts_with('.') && !n.contains(':'))
        .map(|n| format!("state entry {n}"))
        .collect()
}

/// Zombies that were handed to us by a runtime which should have reaped them itself.
///
/// `calls` are the process groups in which the test has run its runtime. A process that has left
/// them by `setsid` cannot be told from another test's, and is reported by whoever sees it.
pub fn orphans(born: Instant, calls: &[Pid]) -> Vec<(Pid, String)> {
    if peer() == Peer::Runc {
        return Vec::new(); // after a failure runc leaves its intermediate process unreaped
    }
    let me = std::process::id().cast_signed();
    // Held while looking: nothing is started, or taken off the list, meanwhile.
    let expected = EXPECTED.lock().unwrap();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.map(Pid::from_raw)
        .filter(|pid| !expected.contains(pid))
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .filter(|(_, s)| s.state == 'Z' && s.parent == me && s.age < born.elapsed())
        .filter(|(pid, s)| s.group == *pid || calls.contains(&s.group))
        // Supervisors of pods are nobody's children once they run.
        .filter(|(_, s)| s.name != "carob:pod")
        .map(|(pid, s)| (pid, format!("unreaped child {pid} ({})", s.name)))
        .collect()
}

/// When a process started, in ticks since the boot: with its number it names one process.
pub fn start_of(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

struct Stat {
    name: String,
    state: char,
    parent: i32,
    group: Pid,
    age: Duration,
}

fn stat(pid: Pid) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks: f64 = fields.get(19)?.parse().ok()?;
    let hertz = sysconf(SysconfVar::CLK_TCK).ok()??;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: Pid::from_raw(fields.get(2)?.parse().ok()?),
        age: Duration::from_secs_f64((uptime - ticks / hertz as f64).max(0.0)),
    })
}
