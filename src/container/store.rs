//! The state root: one directory per container, whose creation is the claim on the id.
//!
//! ```text
//! <root>/<id>/            0700; flock on it serialises create, start, delete, …
//!     config.json         the configuration as read, for when the bundle is gone
//!     state.json          [`State`], replaced as a whole
//!     start.fifo          there while init waits to be started
//!     report.fifo         what init then says
//!     notify/             mounted into the container, only if somebody waits for readiness
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use serde::Deserialize;

use super::state::State;
use super::{ContainerId, Runtime};
use crate::error::{Error, OsContext, Result};
use crate::init::gate::{REPORT_FIFO, START_FIFO};
use crate::sys::replace::replace;
use crate::sys::{dir, fd};

const STATE_FILE: &str = "state.json";
const STAGED_FILE: &str = ".state.json";
const CONFIG_FILE: &str = "config.json";

/// A container's directory, open.
#[derive(Debug)]
pub(super) struct ContainerDir {
    pub(super) path: PathBuf,
    handle: Rc<File>,
}

/// The exclusive right to change a container; released when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// That of the directory: its last descriptor, wherever it is, holds the lock.
    held: Rc<File>,
}

impl Lock {
    /// For a cloned child, which has the lock too: lets go of it, while the parent keeps it.
    pub(super) fn forget_in_child(&self) {
        fd::close_in_child(self.held.as_fd());
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Cannot fail: it is held.
        let _released = self.held.unlock();
    }
}

impl Runtime {
    /// Where a container's directory is.
    pub(super) fn path_of(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Makes the directory of a new container, locked. Of two at the same time one wins.
    pub(super) fn claim(&self, id: &ContainerId) -> Result<(ContainerDir, Lock)> {
        let path = self.path_of(id);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = match builder.create(&path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.make_root()?;
                builder.create(&path)
            }
            other => other,
        };
        match made {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                return Err(Error::AlreadyExists { id: id.to_string() });
            }
            other => other.os("mkdir", || way_out(&path))?,
        }
        let opened = ContainerDir::open(path.clone());
        match opened.and_then(|dir| dir.lock().map(|lock| (dir, lock))) {
            // A `delete --force` has come between: the id is free, and we are as good as anybody.
            Err(Error::NotFound { .. }) => self.claim(id),
            // Empty as it is, it would keep others from the id.
            other => other.inspect_err(|_| drop(fs::remove_dir(&path))),
        }
    }

    /// The sticky bit tells whoever cleans up a user's runtime directory to leave it alone.
    /// Source: XDG Base Directory Specification, `$XDG_RUNTIME_DIR`.
    fn make_root(&self) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o1700).create(&self.root);
        made.os("mkdir", || way_out(&self.root))
    }

    /// Opens the directory of a container.
    pub(super) fn find(&self, id: &str) -> Result<ContainerDir> {
        let id = ContainerId::new(id)?;
        match ContainerDir::open(self.path_of(&id)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                Err(Error::NotFound { id: id.to_string() })
            }
            other => other,
        }
    }

    /// Ids of all containers below the state root, sorted.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
            other => other.os("read", || self.root.display())?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| ContainerId::new(name).is_ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

impl ContainerDir {
    fn open(path: PathBuf) -> Result<Self> {
        let handle = dir::open(&path).os("open", || path.display())?;
        Ok(Self { path, handle: Rc::new(handle.into()) })
    }

    /// The directory itself.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Waits for whoever changes the container at the moment; it may be gone then, and another
    /// one of its name be there.
    pub(super) fn lock(&self) -> Result<Lock> {
        self.flock(File::lock)
    }

    /// As [`ContainerDir::lock`]; gives up when `limit` has passed.
    pub(super) fn lock_within(&self, limit: Duration) -> Result<Lock> {
        let end = Instant::now() + limit;
        loop {
            match self.flock(try_lock) {
                Err(error) if error.errno() == Some(Errno::EWOULDBLOCK) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }

    fn flock(&self, how: fn(&File) -> io::Result<()>) -> Result<Lock> {
        let mut locked = how(&self.handle);
        while locked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {
            locked = how(&self.handle);
        }
        locked.os("lock", || self.path.display())?;
        let lock = Lock { held: Rc::clone(&self.handle) };
        if self.is_removed()? {
            let id = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::NotFound { id });
        }
        Ok(lock)
    }

    /// Whether the directory is no longer in the state root.
    fn is_removed(&self) -> Result<bool> {
        let stat = nix::sys::stat::fstat(&*self.handle).os("fstat", || self.path.display())?;
        Ok(stat.st_nlink == 0)
    }

    /// Keeps the configuration as it was read.
    pub(super) fn write_config(&self, raw: &[u8]) -> Result<()> {
        let path = self.path.join(CONFIG_FILE);
        let mut file = new_file(&path)?;
        file.write_all(raw).os("write", || path.display())
    }

    /// The configuration that the container was made from.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join(CONFIG_FILE)
    }

    /// Writes the first state; a reader sees none or all of it.
    pub(super) fn write_first_state(&self, state: &State) -> Result<()> {
        self.stage_state(state)?;
        let path = self.path.join(STATE_FILE);
        fs::rename(self.path.join(STAGED_FILE), &path).os("rename", || path.display())
    }

    /// Writes the state beside the one in force, for [`ContainerDir::commit_state`].
    pub(super) fn stage_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state)
            .map_err(|e| Error::Invalid(format!("state of {}: {e}", state.id)))?;
        let new = self.path.join(STAGED_FILE);
        let mut file = match new_file(&new) {
            // Of somebody who was killed in the middle of this.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                fs::remove_file(&new).os("remove", || new.display())?;
                new_file(&new)?
            }
            other => other?,
        };
        file.write_all(&text).os("write", || new.display())
    }

    /// Puts the staged state in force; a reader sees the old one or the new one.
    pub(super) fn commit_state(&self) -> Result<()> {
        let path = self.path.join(STATE_FILE);
        replace(&self.path.join(STAGED_FILE), &path).os("replace", || path.display())
    }

    /// As [`read_state`].
    pub(super) fn read_state(&self) -> Result<Option<State>> {
        read_state(&self.path)
    }

    /// Makes the directory that is mounted into the container for its readiness.
    pub(super) fn make_notify_directory(&self) -> Result<()> {
        let path = self.path.join(super::notify::DIRECTORY);
        DirBuilder::new().mode(0o755).create(&path).os("mkdir", || path.display())
    }

    /// From here on the container counts as started.
    pub(super) fn remove_gate(&self) -> Result<()> {
        [START_FIFO, REPORT_FIFO].into_iter().try_for_each(|name| {
            let path = self.path.join(name);
            missing_is_fine(fs::remove_file(&path)).os("remove", || path.display())
        })
    }

    /// Removes the directory; the id is free then.
    pub(super) fn remove(&self) -> Result<()> {
        // The usual content first: listing and looking at each costs four times as much.
        for name in [STATE_FILE, CONFIG_FILE, START_FIFO, REPORT_FIFO] {
            let _missing = fs::remove_file(self.path.join(name));
        }
        let removed = fs::remove_dir(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
        missing_is_fine(removed).os("remove", || self.path.display())
    }
}

/// A directory that cannot be made, with what whoever is not root can do about it.
fn way_out(path: &Path) -> String {
    let advice = match nix::unistd::geteuid().is_root() {
        true => "",
        false => " (set XDG_RUNTIME_DIR or --root to a place of yours)",
    };
    format!("{}{advice}", path.display())
}

/// Reads the state in a container's directory; `None` if its creator died before it wrote any.
pub(super) fn read_state(dir: &Path) -> Result<Option<State>> {
    read_state_text(dir)?.map(|text| parse_state(dir, &text)).transpose()
}

/// As [`read_state`], to be parsed.
pub(super) fn read_state_text(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(STATE_FILE);
    match fd::read_record(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).os("read", || path.display()),
    }
}

/// What [`read_state_text`] has read.
pub(super) fn parse_state<'a, C: Deserialize<'a>>(dir: &Path, text: &'a str) -> Result<State<C>> {
    serde_json::from_str(text)
        .map_err(|error| Error::Invalid(format!("{}: {error}", dir.join(STATE_FILE).display())))
}

/// Whether the init of the container of this directory waits to be started.
pub(super) fn is_waiting(dir: &Path) -> bool {
    dir.join(START_FIFO).exists()
}

fn try_lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => Errno::EWOULDBLOCK.into(),
        TryLockError::Error(error) => error,
    })
}

fn new_file(path: &Path) -> Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, path, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    file.map(File::from).os("create", || path.display())
}

fn missing_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
