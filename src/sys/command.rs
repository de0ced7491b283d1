//! Programs that are started by the standard library.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;

/// Lets a program be killed when the process that starts it ends. Source: PR_SET_PDEATHSIG.
pub fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and execve only async-signal-safe system calls are made.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // It may have ended before that.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        })
    };
}
