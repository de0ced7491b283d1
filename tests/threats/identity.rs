//! Who a process of a container is.

use crate::support::Host;

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_sees_no_inheritable_capability() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let flags = ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_TIME", "--user", "1000"];
    let out = c.exec_call(&flags, &["grep", "CapInh", "/proc/self/status"]).output().ok();
    assert!(out.text().ends_with("0000000000000000"), "{out:?}");
}
