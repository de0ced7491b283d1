//! A line of `/proc/<pid>/stat`.

use nix::unistd::Pid;

use super::fd;
use super::process::Exit;
use crate::error::{OsContext, Result};

/// What `/proc/<pid>/stat` says that is needed to recognise a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The letter of its state, `Z` for a zombie.
    pub state: char,
    /// Its parent; 0 if that is in another pid namespace.
    pub parent: i32,
    /// PF_* of the kernel.
    flags: u64,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
    /// How it ended, as wait(2) says it; zero while it lives.
    exit_code: i32,
}

/// It ends: nothing of it will run again. Source: include/linux/sched.h.
const PF_EXITING: u64 = 0x4;

impl Stat {
    /// Neither a zombie nor dead.
    #[must_use]
    pub fn is_alive(self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// It has ended, or is about to; the first process of a pid namespace waits for the others then.
    #[must_use]
    pub fn is_exiting(self) -> bool {
        self.flags & PF_EXITING != 0 || !self.is_alive()
    }

    /// How it ended, if it waits for its parent to ask.
    #[must_use]
    pub fn exit(self) -> Option<Exit> {
        (self.state == 'Z').then(|| Exit::of_code(self.exit_code))
    }

    /// The second field is the program's name and may hold anything, parentheses included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (_name, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let flags = fields.nth(4)?.parse().ok()?;
        let start_time = fields.nth(12)?.parse().ok()?;
        let exit_code = fields.nth(29).and_then(|code| code.parse().ok()).unwrap_or(0);
        Some(Self { state, parent, flags, start_time, exit_code })
    }
}

/// Looks at a process; `None` if it is gone, or somebody's whose processes are hidden from us (proc(5),
/// `hidepid`). Source: proc_pid_stat(5).
///
/// # Errors
/// [`crate::error::Error::Os`] if it cannot be told, for want of descriptors or memory.
pub fn stat(pid: Pid) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    match fd::read_page(&path) {
        Ok(text) => Ok(Stat::parse(&text)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM) => Ok(None),
            _ => Err(error).os("read", || path),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_tells_how_it_ended() {
        for (script, expected) in [("exit 7", Exit::Status(7)), ("kill -9 $$", Exit::Signal(9))] {
            let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            let found = std::iter::repeat_with(|| stat(pid)).find_map(|stat| stat.unwrap()?.exit());
            child.wait().unwrap();
            assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn a_program_cannot_forge_its_stat_line_by_its_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(&format!("42 (a) Z 1 (b) {rest}")).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 1, flags: 6, start_time: 4711, exit_code: 0 });
        assert!(stat.is_exiting(), "PF_EXITING is 4");
        assert!(Stat::parse("42 (a").is_none());
        assert!(Stat::parse("42 (a) S 1").is_none());
    }
}
