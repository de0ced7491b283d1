//! A machine without some system calls: a seccomp filter around the runtime answers for them, as an
//! older kernel or a container engine's profile does.
//!
//! `CAROB_TEST_WITHOUT=clone3,openat2=EPERM` puts it around every call of the runtime in a test.

use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use std::io;
use std::process::{Child, Command};

/// What `CAROB_TEST_WITHOUT` names.
pub fn of_environment() -> Vec<String> {
    let list = std::env::var("CAROB_TEST_WITHOUT").unwrap_or_default();
    list.split(',').filter(|call| !call.is_empty()).map(str::to_owned).collect()
}

/// Starts a program that these calls are refused to, and to all that it starts.
pub fn spawn(mut command: Command, calls: &[String]) -> io::Result<Child> {
    if calls.is_empty() {
        return command.spawn();
    }
    // A filter holds for the thread that loads it, and what that starts.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            filter(calls).load().unwrap();
            command.spawn()
        });
        thread.join().unwrap()
    })
}

/// Whether the kernel has no such call. Only for one to which these arguments make no sense.
#[expect(unsafe_code, reason = "there is no other way to make a call by its number")]
pub fn is_unknown_to_kernel(call: &str) -> bool {
    let number = ScmpSyscall::from_name(call).unwrap_or_else(|e| panic!("{call}: {e}"));
    // SAFETY: no descriptor, and addresses at which nothing is: the kernel refuses all of them.
    let ret =
        unsafe { libc::syscall(i32::from(number).into(), -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
    ret == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
}

fn filter(calls: &[String]) -> ScmpFilterContext {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    // Else programs of the container could not gain rights by their files.
    filter.set_ctl_nnp(false).unwrap();
    for call in calls {
        let (name, errno) = match call.split_once('=') {
            None => (call.as_str(), libc::ENOSYS),
            Some((name, "EPERM")) => (name, libc::EPERM),
            Some((_, other)) => panic!("{call}: errno {other}"),
        };
        let number = ScmpSyscall::from_name(name).unwrap_or_else(|e| panic!("{call}: {e}"));
        filter.add_rule(ScmpAction::Errno(errno), number).unwrap();
    }
    filter
}
