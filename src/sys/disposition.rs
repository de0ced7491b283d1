//! What signals do to this process, and in a child everything as if nobody had changed it.

use std::sync::OnceLock;

use nix::sys::signal::SigSet;

use super::fd;

/// The highest signal of the kernel; the C library keeps two to itself.
const LAST: u32 = 64;

/// The signals whose action was not the default when this was first asked, as the bits of
/// [`changed_in`]. carob changes none later but in a child that [`reset_signals`] has passed.
static CHANGED: OnceLock<u64> = OnceLock::new();

/// Looks which signals a child will have to reset, once in the life of a process: a child may not
/// see `/proc`, and asking costs as much as resetting all of them.
pub(super) fn learn() {
    CHANGED.get_or_init(|| {
        let status = fd::read_page("/proc/self/status").unwrap_or_default();
        changed_in(&status).unwrap_or(u64::MAX)
    });
}

/// Bit n-1 for each signal n that is ignored or caught. Source: proc_pid_status(5).
fn changed_in(status: &str) -> Option<u64> {
    let mask = |key: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(hex.trim(), 16).ok()
    };
    Some(mask("SigIgn:")? | mask("SigCgt:")?)
}

/// Unblocks every signal and gives each its default action, whatever was inherited: callers block
/// and ignore some, carob SIGPIPE, and an ignored signal survives `execve`.
pub fn reset_signals() {
    learn();
    let changed = CHANGED.get().copied().unwrap_or(u64::MAX);
    // The kernel's structure, all zero: SIG_DFL, no flags, empty mask. Not by the C library, which
    // keeps two signals to itself.
    let default = [0_u64; 4];
    for signal in (1..=LAST).filter(|signal| changed & 1 << (signal - 1) != 0) {
        // SAFETY: `default` is as large as any kernel's sigaction and lives during the call, and
        // the mask has the kernel's size; SIGKILL and SIGSTOP fail without effect.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8) };
    }
    // Cannot fail: the set is valid.
    let _unblocked = SigSet::empty().thread_set_mask();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_and_caught_signals_are_known() {
        let status = "Name:\tx\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001001\n\
                      SigCgt:\t8000000000000400\n";
        assert_eq!(changed_in(status), Some(0x8000_0000_0000_1401));
        assert_eq!(changed_in("Name:\tx\nSigIgn:\t0000000000001001\n"), None, "cut off");
    }

    #[test]
    fn this_process_tells() {
        let status = fd::read_page("/proc/self/status").unwrap();
        assert!(changed_in(&status).is_some(), "{status}");
    }
}
