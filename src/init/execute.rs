//! The end of init: find the program, load the filter, become it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::{AccessFlags, faccessat};

use super::Task;
use super::sync::{FromChild, ToChild};
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::ProcessPlan;
use crate::sys::{fd, process, seccomp};

/// Finds the program as the final user, so that a missing one fails `create` and not `start`.
pub(super) fn look_up(task: &mut Task) -> Result<()> {
    let name = &task.args[0];
    let path = if name.as_bytes().contains(&b'/') {
        check(name).map_err(|errno| not_executable(name, errno))?;
        name.clone()
    } else {
        search(name, task.process.env_value("PATH"))?
    };
    task.program = Some(path);
    Ok(())
}

/// The words are runc's: Docker and Podman turn them into exit codes 126 and 127.
fn not_executable(name: &CStr, errno: Errno) -> Error {
    let name = name.to_string_lossy();
    let cause = match errno {
        Errno::EACCES => format!("exec: {name:?}: permission denied"),
        Errno::EISDIR => format!("exec: {name:?}: is a directory"),
        errno => format!("exec: {name:?}: stat {name}: {}", reason(errno)),
    };
    Error::Invalid(cause)
}

fn reason(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// Whether the program can be executed, as far as may be asked: neither call says EPERM by itself,
/// so a filter that is in force refuses to answer, such as one older than faccessat2. Then execve
/// tells.
fn check(path: &CStr) -> nix::Result<()> {
    match ask(path) {
        Err(Errno::EPERM) => Ok(()),
        answer => answer,
    }
}

fn ask(path: &CStr) -> nix::Result<()> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    // Not access(2): it looks at the real ids and leaves capabilities out that execve counts.
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}

fn search(name: &CStr, path: Option<&[u8]>) -> Result<CString> {
    let mut refused = None;
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = [directory, b"/", name.to_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else { continue };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => refused = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    let name_text = name.to_string_lossy();
    Err(match refused {
        Some(errno) => not_executable(name, errno),
        None => Error::Invalid(format!("exec: {name_text:?}: executable file not found in $PATH")),
    })
}

/// Loads the seccomp filter, once. A notify descriptor is taken by the other side of the socket.
pub(super) fn load_filter(task: &mut Task) -> Result<()> {
    let Some(filter) = task.seccomp.take() else { return Ok(()) };
    let listener =
        seccomp::load(&filter.program, filter.flags).os("seccomp", || "load the filter")?;
    let Some(listener) = listener else { return Ok(()) };
    task.parent.tell_parent(&FromChild::Listener(listener.as_raw_fd()))?;
    match task.parent.hear_parent()? {
        ToChild::ListenerTaken => Ok(()),
        other => Err(Error::Invalid(format!("unexpected message {other:?}"))),
    }
}

/// Closes what was inherited from carob: while it waits, init holds nothing of the host that a
/// process which joins the container could reach through `/proc/1/fd`.
pub(super) fn let_go(task: &Task) -> Result<()> {
    let mut kept = vec![task.parent.fd()];
    kept.extend(task.gate.fds());
    kept.extend(task.labels.fds());
    fd::close_others(3 + task.kept_fds, &kept).os("close_range", || "carob's descriptors")?;
    show(task)
}

/// Lets a maker who is not root look at init again: for `exec` before `start`, and to take the
/// descriptor for a seccomp agent out of it. Nobody else is in its new user and pid namespaces, and
/// it holds nothing of the host any more (CVE-2016-9962). A change of ids hides it once more.
pub(super) fn show(task: &Task) -> Result<()> {
    if task.is_shown {
        process::prctl(process::Prctl::Dumpable(true)).os("prctl", || "PR_SET_DUMPABLE")?;
    }
    Ok(())
}

/// The last things that need rights which the filter may take: descriptors for the program, and
/// the filter itself.
pub(super) fn prepare(task: &mut Task) -> Result<()> {
    for number in 3..3 + task.kept_fds {
        let kept = i32::try_from(number).ok().and_then(|number| fd::inherited(number).ok());
        kept.map_or(Ok(()), |kept| fd::set_cloexec(kept, false))
            .os("keep", || format!("descriptor {number}"))?;
    }
    load_filter(task)
}

/// Becomes the program; returns why it could not.
pub(super) fn execute(task: &mut Task) -> Error {
    let Some(program) = task.program.take() else {
        return Error::Invalid("the program was not looked up".into());
    };
    let process = task.process;
    let with_home: Option<Vec<CString>> = task.home.take().map(|home| {
        let mut env = process.env.clone();
        env.push(home);
        env
    });
    let env = with_home.as_deref().unwrap_or(&process.env);
    let errno = process::execve(&program, task.args, env);
    let name = task.args[0].to_string_lossy();
    let label = process.selinux_label.as_ref().or(process.apparmor_profile.as_ref());
    let hint = match label.filter(|_| matches!(errno, Errno::EACCES | Errno::EPERM)) {
        Some(label) => format!(" (or the policy lets no process become {label:?} by it)"),
        None => String::new(),
    };
    Error::Invalid(format!("{name:?}: {}{hint}", reason(errno)))
}

/// `HOME` from the container's passwd file, for a process that brings none.
///
/// The file is the image's: it may be a fifo, endless, or full of traps for a parser.
pub(super) fn home(process: &ProcessPlan) -> Option<CString> {
    const PASSWD_BYTES: u64 = 1 << 20;
    if process.env_value("HOME").is_some() {
        return None;
    }
    let open = || {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(fd::open("/etc/passwd", flags).ok()?);
        let kind = file.metadata().ok()?.file_type();
        kind.is_file().then_some(file)
    };
    let uid = process.uid.to_string();
    let home = open().and_then(|file| {
        let lines = BufReader::with_capacity(1024, file.take(PASSWD_BYTES)).lines();
        lines.map_while(std::io::Result::ok).find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.len() >= 6 && fields[2] == uid).then(|| fields[5].to_owned())
        })
    });
    let home = home.filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".into());
    CString::new(format!("HOME={home}")).ok()
}
