//! Plugins that are shell scripts.

use std::time::Duration;

use super::*;

fn call_until(script: &str, limit: Duration, stop: Option<BorrowedFd>) -> Result<Option<Value>> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("carob-plugin-{}-{number}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("it");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let call = Call {
        command: "ADD",
        kind: "it",
        dirs: &["/nowhere".into(), dir.clone()],
        env: &[("CNI_IFNAME", "eth0".to_owned())],
        input: b"{\"x\": 1}",
        deadline: Instant::now() + limit,
        stop,
    };
    // Another test's fork may hold the script open for writing for a moment.
    let mut result = call.run();
    for _ in 0..100 {
        match &result {
            Err(error) if error.errno() == Some(Errno::ETXTBSY) => {
                std::thread::sleep(Duration::from_millis(10));
                result = call.run();
            }
            _ => break,
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    result
}

fn call_within(script: &str, limit: Duration) -> Result<Option<Value>> {
    call_until(script, limit, None)
}

fn call(script: &str) -> Result<Option<Value>> {
    call_within(script, Duration::from_secs(60))
}

#[test]
fn it_hears_and_says_json() {
    let said = call(
        r#"printf '{"in": %s, "env": "%s %s %s", "dir": "%s"}' "$(cat)" "$CNI_COMMAND" \
           "$CNI_IFNAME" "${CNI_PATH%%:*}" "$PWD"; env >&2"#,
    );
    let said = said.unwrap().unwrap();
    assert_eq!(said["in"]["x"], 1);
    assert_eq!(said["env"], "ADD eth0 /nowhere");
    assert_eq!(said["dir"], "/");
    assert_eq!(call("cat >/dev/null").unwrap(), None);
}

#[test]
fn a_failure_is_one_sentence() {
    for (script, expected) in [
        (
            r#"printf '%s' '{"cniVersion": "1.0.0", "code": 11, "msg": "try\n again", "details": "later"}'
               echo noise >&2; exit 1"#,
            "try again; later (code 11)",
        ),
        (r#"echo '{"code": 999, "msg": "no"}'; exit 1"#, "no"),
        ("echo no bridge >&2; exit 3", "ended with exit status 3: no bridge"),
        ("echo '{}'; exit 1", "ended with exit status 1: {}"),
        ("kill -9 $$", "was killed by signal 9"),
        ("exec 2>&1 >/dev/null; exit 7", "ended with exit status 7"),
    ] {
        assert_eq!(call(script).unwrap_err().to_string(), expected, "{script}");
    }
}

#[test]
fn it_cannot_take_more_than_its_time_or_its_room() {
    let begun = Instant::now();
    let error = call_within("sleep 1000 & echo thinking >&2; wait", Duration::from_millis(300));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "did not end within 0.3 s: thinking");
    assert!(begun.elapsed() < Duration::from_secs(100), "its child does not hold the pipes");
    let error = call("yes").unwrap_err().to_string();
    assert_eq!(error, "printed more than 1048576 bytes");
    // Errors without end are thrown away.
    let said = call("yes | head -c 3000000 >&2; echo '{}'").unwrap();
    assert_eq!(said, Some(serde_json::json!({})));
}

#[test]
fn it_is_ended_with_its_children_when_nobody_wants_it_any_more() {
    let stop = pipe().unwrap();
    let marker = format!("carob-plugin-stopped-{}", std::process::id());
    // What it has started holds its output open.
    let script = format!("sh -c 'while :; do sleep 0.1; done' {marker} & echo x >&2; wait");
    std::thread::scope(|scope| {
        let told = stop.0.as_fd();
        let call = scope.spawn(move || call_until(&script, Duration::from_secs(600), Some(told)));
        std::thread::sleep(Duration::from_millis(50));
        nix::unistd::write(&stop.1, b"x").unwrap();
        let error = call.join().unwrap().unwrap_err().to_string();
        assert_eq!(error, "was stopped: nobody waits for it any more");
    });
    let is_there = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.map(|one| std::fs::read(one.path().join("cmdline")));
        lines.flatten().any(|line| String::from_utf8_lossy(&line).contains(&marker))
    };
    let end = Instant::now() + Duration::from_secs(60);
    while is_there() {
        assert!(Instant::now() < end, "its child lives");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_is_nowhere_is_named() {
    let dirs = ["/nowhere".into(), "/neither".into()];
    assert_eq!(find("it", &dirs), None);
    let error = missing("it", &dirs).to_string();
    assert_eq!(error, "there is no CNI plugin \"it\" in /nowhere, /neither");
}
