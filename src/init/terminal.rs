//! Standard streams: a terminal of the container's own, or the caller's streams made usable.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use super::sync::FromChild;
use super::{Init, Task};
use crate::error::{Error, OsContext, Result};
use crate::sys::mount::{self, Subtree};
use crate::sys::path::{Missing, Rootfs, is_char_device, is_null_device};
use crate::sys::{fd, process, socket, tty};

/// Where the standard streams of a process come from.
#[derive(Debug, Clone, Copy)]
pub enum StandardStreams<'a> {
    /// They are carob's own. The master of a terminal is for whoever reads carob's output.
    Callers,
    /// These three.
    Given([BorrowedFd<'a>; 3]),
    /// A terminal, whose master goes to a caller who hands it on to another terminal.
    Terminal,
}

/// For a new container: its rootfs is not `/` yet.
pub(super) fn for_init(init: &mut Init) -> Result<()> {
    let rootfs = init.rootfs.take().ok_or_else(|| Error::Invalid("no rootfs".into()))?;
    let done = set_up(&mut init.task, &rootfs, Console::Mount);
    init.rootfs = Some(rootfs);
    done
}

/// For a process that has joined: `/` is the container's.
pub(super) fn for_exec(task: &mut Task) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).os("open", || "/")?;
    set_up(task, &Rootfs::new(root), Console::Leave)
}

/// Whether the terminal appears as `/dev/console`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Console {
    Mount,
    Leave,
}

fn set_up(task: &mut Task, rootfs: &Rootfs, console: Console) -> Result<()> {
    match task.process.terminal {
        None => use_streams(task, rootfs),
        Some(terminal) => {
            let (master, slave) = open_pair(rootfs)?;
            if let Some(size) = terminal.size {
                tty::set_window_size(&master, size).os("resize", || "the terminal")?;
            }
            let owner = Uid::from_raw(task.process.uid);
            fchown(&slave, Some(owner), None).os("chown", || "the terminal")?;
            if console == Console::Mount {
                mount_console(rootfs, &slave)?;
            }
            // A pipe or a file that takes carob's output wants lines, not a printer's.
            let relayed =
                task.console.is_none() && matches!(task.streams, StandardStreams::Callers);
            if relayed && !process::STDOUT.is_terminal() {
                tty::disable_output_newline_translation(&slave).os("set up", || "the terminal")?;
            }
            hand_over(task, master)?;
            replace_streams(&slave).os("dup2", || "the terminal")?;
            tty::make_controlling(&slave).os("make controlling", || "the terminal")
        }
    }
}

/// A pair in the container's devpts: its names mean something inside.
fn open_pair(rootfs: &Rootfs) -> Result<(OwnedFd, OwnedFd)> {
    const PTMX: &str = "/dev/pts/ptmx";
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = rootfs.open(Path::new(PTMX), flags).os("open", || PTMX)?;
    let magic = nix::sys::statfs::fstatfs(&master).os("fstatfs", || PTMX)?.filesystem_type();
    if magic != nix::sys::statfs::DEVPTS_SUPER_MAGIC {
        return Err(Error::Invalid(format!("{PTMX} is not in a devpts file system")));
    }
    // By the master, never by name: the name could be exchanged (CVE-2025-52565).
    let slave = tty::open_slave(&master).os("open the slave of", || PTMX)?;
    Ok((master, slave))
}

fn mount_console(rootfs: &Rootfs, slave: &OwnedFd) -> Result<()> {
    let path = Path::new("/dev/console");
    let here = || path.display();
    let destination = rootfs.ensure(path, Missing::File)?;
    let tree = mount::clone_tree_at(slave.as_fd(), Subtree::Alone).os("clone", here)?;
    mount::attach(&tree, &destination).os("mount", here)
}

/// To the console socket, which never answers, or to carob, which relays.
fn hand_over(task: &mut Task, master: OwnedFd) -> Result<()> {
    match task.console.take() {
        Some(console) => socket::send(&console, b"/dev/ptmx", Some(master.as_fd()))
            .os("send the terminal to", || "the console socket"),
        None => task.parent.tell_parent(&FromChild::Console(master)),
    }
}

fn replace_streams(source: &OwnedFd) -> nix::Result<()> {
    dup2_stdin(source)?;
    dup2_stdout(source)?;
    dup2_stderr(source)
}

/// The container's user must be able to open its streams again through `/dev/stdout`, and must not
/// hold a device of the host's file system.
fn use_streams(task: &Task, rootfs: &Rootfs) -> Result<()> {
    if let StandardStreams::Given(given) = task.streams {
        fd::replace_standard_streams(given).os("dup2", || "the standard streams")?;
    }
    // Looked for once: `None` before that, `Some(None)` where the rootfs has none.
    let mut null = None;
    for stream in [process::STDIN, process::STDOUT, process::STDERR] {
        let stat = match fstat(stream) {
            Err(Errno::EBADF) => continue,
            other => other.os("fstat", || format!("stream {}", stream.as_raw_fd()))?,
        };
        if is_char_device(&stat, 1, 3) {
            if null.is_none() {
                null = Some(open_null(rootfs)?);
            }
            if let Some(Some(null)) = &null {
                replace_stream(stream, null).os("dup2", || "/dev/null")?;
            }
        } else if stat.st_uid != task.process.uid {
            give(stream, task.process.uid)?;
        }
    }
    Ok(())
}

/// Only a file that is the null device is opened (CVE-2026-88265).
fn open_null(rootfs: &Rootfs) -> Result<Option<OwnedFd>> {
    let path = Path::new("/dev/null");
    let Ok(found) = rootfs.find(path) else { return Ok(None) };
    if !is_null_device(&found).os("fstat", || "/dev/null in the rootfs")? {
        return Ok(None);
    }
    let null = rootfs.open(path, OFlag::O_RDWR).os("open", || "/dev/null in the rootfs")?;
    let is_null = is_null_device(&null).os("fstat", || "/dev/null in the rootfs")?;
    Ok(is_null.then_some(null))
}

fn replace_stream(stream: BorrowedFd, source: &OwnedFd) -> nix::Result<()> {
    match stream.as_raw_fd() {
        0 => dup2_stdin(source),
        1 => dup2_stdout(source),
        _ => dup2_stderr(source),
    }
}

fn give(stream: BorrowedFd, uid: u32) -> Result<()> {
    match fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>) {
        // A pipe of somebody else, a read-only file system, an id that is not mapped: the stream
        // works all the same, only opening it again does not.
        Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno).os("chown", || "a standard stream"),
    }
}
