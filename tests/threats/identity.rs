//! Who a process of a container is.

use crate::support::Host;

/// CVE-2022-27650, CVE-2022-29162, CVE-2025-27612.
#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_has_no_inheritable_capability() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let flags = ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_TIME", "--user", "1000"];
    let out = c.exec_call(&flags, &["grep", "CapInh", "/proc/self/status"]).output().ok();
    assert!(out.text().ends_with("0000000000000000"), "{out:?}");
}

/// As above, for what a configuration does not ask for.
#[test]
#[ignore = "needs root: run scripts/test"]
fn no_process_has_inheritable_capabilities_that_its_configuration_does_not_name() {
    let Some(host) = Host::only_carob("runc 1.1.5 is the one the CVE is about") else { return };
    let c = host.sh("grep CapInh /proc/self/status; echo up; exec sleep 1000");
    c.run_detached().wait_output("up");
    assert!(c.output().contains("0000000000000000"), "{}", c.output());
    for flags in [&["--cap", "CAP_CHOWN"][..], &["--user", "5:6", "--cap", "CAP_CHOWN"], &[]] {
        let out = c.exec_call(flags, &["grep", "CapInh", "/proc/self/status"]).output().ok();
        assert!(out.text().ends_with("0000000000000000"), "{flags:?}: {out:?}");
    }
}

/// CVE-2026-30892: whatever cannot be read as a user is nobody's, least of all root's.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_that_is_no_number_executes_nothing() {
    let Some(host) = Host::only_carob("runc 1.1.5 takes signs") else { return };
    let c = host.sleeper();
    c.run_detached();
    let users = [
        "",
        ":",
        "root",
        "-1",
        "+0",
        "0x0",
        "00x",
        "0 ",
        " 0",
        "0\n",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "1000:",
        ":0",
        "1000:root",
        "1000:-1",
        "1:2:3",
        "1000junk",
        "१",
    ];
    for user in users {
        let user = format!("--user={user}");
        let out = c.exec_call(&[&user], &["id"]).output();
        assert!(out.code != 0 && out.stdout.is_empty(), "{user:?}: {out:?}");
    }
    for (user, uid) in [("0", "uid=0"), ("4294967294:1", "uid=4294967294 gid=1"), ("007", "uid=7")]
    {
        let out = c.exec_call(&["--user", user], &["id"]).output().ok();
        assert!(out.stdout.replace("(root)", "").starts_with(uid), "{user}: {out:?}");
    }
}
