//! Real programs, outside of containers: how they end, what they write, what they leave behind.

use std::process::{Command, Stdio};
use std::time::Instant;

use nix::unistd::Pid;

use super::*;

/// Starts a shell in a process group of its own, which stands for the sub-cgroup.
fn start(script: &str) -> (Program, Pid) {
    use std::os::unix::process::CommandExt;
    let (output, theirs) = pipe().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).process_group(0).stdin(Stdio::null());
    command.stderr(theirs.try_clone().unwrap()).stdout(theirs);
    let pid = Pid::from_raw(command.spawn().unwrap().id().try_into().unwrap());
    (Program { child: process::pidfd_open(pid).unwrap(), output }, pid)
}

fn kill_group(pid: Pid) {
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Runs a script to its end; tells how often it was killed, and how long it took.
async fn run(script: &str, timeout: Option<Duration>) -> (Ended, u32, Duration) {
    let begin = Instant::now();
    let (program, pid) = start(script);
    let mut kills = 0;
    let ended = wait(program, timeout, || {
        kills += 1;
        kill_group(pid);
    });
    let ended = ended.await.unwrap();
    assert!(process::stat(pid).unwrap().is_none(), "a zombie is left");
    (ended, kills, begin.elapsed())
}

const LONG: Option<Duration> = Some(Duration::from_secs(20));

#[tokio::test]
async fn exit_and_output_of_a_program() {
    for (script, exit, output) in [
        ("exit 0", Exit::Status(0), ""),
        ("echo out; echo err >&2; exit 3", Exit::Status(3), "out\nerr\n"),
        ("kill -9 $$", Exit::Signal(9), ""),
        ("printf '\\377'", Exit::Status(0), "\u{fffd}"),
    ] {
        for timeout in [LONG, None] {
            let (ended, kills, _) = run(script, timeout).await;
            let expected = Ended { exit, timed_out: false, output: output.to_owned() };
            assert_eq!((ended, kills), (expected, 0), "{script}");
        }
    }
}

#[tokio::test]
async fn all_that_a_program_has_started_is_killed_at_its_timeout() {
    let begin = Instant::now();
    let (program, pid) = start("sleep 1000 & sleep 1000 & echo waiting; trap '' TERM; wait");
    let ended = wait(program, Some(Duration::from_millis(300)), || kill_group(pid)).await.unwrap();
    assert_eq!(ended, Ended { exit: Exit::Signal(9), timed_out: true, output: "waiting\n".into() });
    assert!((300..5_000).contains(&begin.elapsed().as_millis()));
    // The sleepers are not our children: whoever adopts them reaps them.
    let deadline = Instant::now() + Duration::from_secs(5);
    while nix::sys::signal::killpg(pid, None).is_ok() && group_is_alive(pid) {
        assert!(Instant::now() < deadline, "the group is still alive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn group_is_alive(group: Pid) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).any(|pid| {
        nix::unistd::getpgid(Some(pid)) == Ok(group)
            && process::stat(pid).unwrap().is_some_and(process::Stat::is_alive)
    })
}

#[tokio::test]
async fn a_program_is_killed_even_if_its_group_cannot_be() {
    let (program, _) = start("exec sleep 1000");
    let ended = wait(program, Some(Duration::from_millis(50)), || {}).await.unwrap();
    assert_eq!(ended.exit, Exit::Signal(9));
}

#[tokio::test]
async fn who_keeps_the_pipe_open_is_not_waited_for() {
    let (program, pid) = start("echo said; sleep 1000 & exit 4");
    let begin = Instant::now();
    let ended = wait(program, LONG, || {}).await.unwrap();
    kill_group(pid);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(ended, Ended { exit: Exit::Status(4), timed_out: false, output: "said\n".into() });
}

#[tokio::test]
async fn who_keeps_writing_is_not_waited_for_either() {
    let (program, pid) = start("yes & exit 0");
    let ended = wait(program, LONG, || {}).await.unwrap();
    assert!(ended.output.len() <= OUTPUT_BYTES);
    // Without a reader it may have died of SIGPIPE already.
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).unwrap_or(());
}

#[tokio::test]
async fn output_is_kept_up_to_its_limit_and_drained_beyond() {
    let (ended, ..) = run("head -c 3000000 /dev/zero | tr '\\0' x; exit 1", LONG).await;
    assert_eq!(ended.output.len(), OUTPUT_BYTES);
    assert_eq!(ended.exit, Exit::Status(1));
    let (ended, kills, took) = run("exec yes", Some(Duration::from_millis(300))).await;
    assert_eq!((ended.timed_out, kills), (true, 1));
    assert_eq!(ended.output.len(), OUTPUT_BYTES);
    assert!(took < Duration::from_secs(5));
}

#[tokio::test]
async fn a_program_that_closes_its_output_is_still_waited_for() {
    let (ended, ..) = run("exec >&- 2>&-; sleep 0.2; exit 5", LONG).await;
    assert_eq!(ended.exit, Exit::Status(5));
    let (ended, kills, _) =
        run("exec >&- 2>&-; sleep 1000", Some(Duration::from_millis(100))).await;
    assert_eq!((ended.timed_out, kills), (true, 1));
}

#[tokio::test]
async fn an_idle_wait_costs_no_time() {
    let (program, pid) = start("exec >&- 2>&-; sleep 0.5");
    let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    wait(program, LONG, || kill_group(pid)).await.unwrap();
    let after = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let spent = Duration::from(after) - Duration::from(before);
    assert!(spent < Duration::from_millis(50), "{spent:?}");
}

#[test]
fn what_an_end_says() {
    let argv = ["sh".to_owned(), "-c".to_owned(), "sleep 9".to_owned()];
    let ended = |exit, timed_out| Ended { exit, timed_out, output: "out".to_owned() };
    for (ended, expected) in [
        (ended(Exit::Status(0), false), Health::Success),
        (ended(Exit::Status(1), false), Health::Failure("out".to_owned())),
        (ended(Exit::Signal(15), false), Health::Failure("out".to_owned())),
        (
            ended(Exit::Signal(9), true),
            Health::Failure("command timed out: \"sh -c sleep 9\" timed out after 1s".to_owned()),
        ),
    ] {
        assert_eq!(health(&ended, &argv, Duration::from_secs(1)), expected);
    }
}
