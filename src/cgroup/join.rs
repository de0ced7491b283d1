//! Open descriptors with which a new process enters a cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::write;

use super::controller::Controller;
use super::dir::Dir;
use super::layout::{self, Hierarchy, Tree};
use crate::error::{OsContext, Result};
use crate::sys::fd;

/// How the process came, or comes, into the unified tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unified {
    /// `CLONE_INTO_CGROUP` with [`Join::unified`] has done it.
    Cloned,
    /// It enters with the rest: kernels before 5.7, or where clone3 refused.
    Enter,
}

/// How a new process gets into its cgroups.
#[derive(Debug)]
pub enum Entrance {
    /// By itself.
    Own(Rc<Join>, Unified),
    /// By itself, once its parent answers that the hierarchies of v1 are made.
    WhenMade(Unified),
    /// It asks its parent to have it put there, and waits: a unit of systemd is made around it.
    Asked,
}

impl Entrance {
    /// Through these cgroups; without any, by asking.
    #[must_use]
    pub fn new(cgroups: Option<Rc<Join>>, unified: Unified) -> Self {
        cgroups.map_or(Self::Asked, |join| Self::Own(join, unified))
    }
}

/// Through which processes enter the unified tree.
const PROCS: &str = "cgroup.procs";

/// Whether clone3 into a cgroup has been seen to kill.
static CLONE_KILLS: AtomicBool = AtomicBool::new(false);

/// Whether it has been seen to work.
static CLONE_WORKS: AtomicBool = AtomicBool::new(false);

/// Everything a child needs to enter its cgroups, opened by the parent: the child may already be
/// without the paths. All descriptors are close-on-exec.
#[derive(Debug)]
pub struct Join {
    /// `tasks` of each v1 hierarchy but that of the memory controller.
    v1: Vec<(OwnedFd, PathBuf)>,
    /// `tasks` of that one.
    memory: Option<(OwnedFd, PathBuf)>,
    unified: Option<Dir>,
    /// Its `cgroup.procs`, where [`Join::hold_unified`] was called.
    procs: OnceLock<OwnedFd>,
    /// Who is followed to where it has gone, if that one takes no process.
    leader: Option<Leader>,
    /// The `cgroup.procs` there, opened with the other.
    refuge: OnceLock<(OwnedFd, PathBuf)>,
}

/// A container's init, which may have moved on below the container's cgroup.
#[derive(Debug)]
struct Leader {
    init: i32,
    /// The container's cgroup below the root of its tree.
    cgroup: PathBuf,
}

impl Drop for Join {
    fn drop(&mut self) {
        let files = self.v1.drain(..).chain(self.memory.take()).map(|(tasks, _path)| tasks);
        fd::close_together(files.chain(self.unified.take().map(Dir::into_fd)));
    }
}

impl Join {
    pub(super) fn open<'a>(hierarchies: impl Iterator<Item = &'a Hierarchy>) -> Result<Self> {
        let mut join = Self {
            v1: Vec::new(),
            memory: None,
            unified: None,
            procs: OnceLock::new(),
            leader: None,
            refuge: OnceLock::new(),
        };
        for hierarchy in hierarchies {
            match hierarchy.tree {
                Tree::V1(_) => {
                    let path = hierarchy.dir().join("tasks");
                    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
                    let fd = fd::open(&path, flags).os("open", || path.display())?;
                    if hierarchy.has_v1(Controller::Memory) {
                        join.memory = Some((fd, path));
                    } else {
                        join.v1.push((fd, path));
                    }
                }
                Tree::Unified => join.unified = Some(Dir::open(hierarchy.dir())?),
            }
        }
        Ok(join)
    }

    /// For one more process of a container: should the cgroup take none, since it passes controllers
    /// down, then where this init has gone below it. So it is with systemd in the container.
    pub(super) fn follow(&mut self, init: i32, own: &Hierarchy) {
        self.leader = Some(Leader { init, cgroup: own.path.clone() });
    }

    /// The cgroup of the unified tree, for `CLONE_INTO_CGROUP`. Source: clone(2).
    #[must_use]
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        let dir = self.unified.as_ref().filter(|_| !CLONE_KILLS.load(Ordering::Relaxed));
        dir.map(Dir::fd)
    }

    /// To be called when a process that was cloned has said something.
    pub fn prove_cloning() {
        CLONE_WORKS.store(true, Ordering::Relaxed);
    }

    /// Whether a clone may be trusted to live.
    #[must_use]
    pub fn is_proven() -> bool {
        CLONE_WORKS.load(Ordering::Relaxed)
    }

    /// To be called when a process that was cloned into its cgroup was killed before it had done
    /// anything: from here on there is no such clone. True if that is new, and worth another try.
    ///
    /// Since Linux 6.14 the kernel takes the child for one that `cgroup.kill` is to reach, if that
    /// was ever written in the caller's own cgroup, or in the other one, but not in both.
    pub fn give_up_cloning() -> bool {
        !CLONE_KILLS.swap(true, Ordering::Relaxed)
    }

    /// Moves the calling thread into the cgroups, but for [`Join::enter_memory`]; for the
    /// single-threaded child itself.
    ///
    /// Writing `0` to `tasks` moves one thread and takes no lock that waits for others, unlike a
    /// pid written to `cgroup.procs` by the parent, which can take 10 ms.
    ///
    /// # Errors
    /// `ENODEV` if the cgroup was removed meanwhile, `ENOSPC` for a cpuset without CPUs,
    /// `EAGAIN`/`EBUSY` where a controller does not let processes in.
    pub fn enter(&self, unified: Unified) -> Result<()> {
        for (tasks, path) in &self.v1 {
            enter(tasks, path)?;
        }
        if let (Unified::Enter, Some(dir)) = (unified, &self.unified) {
            self.hold_unified()?;
            let path = dir.path().join(PROCS);
            let entered = self.procs.get().map_or(Ok(()), |procs| enter(procs, &path));
            match (entered, self.refuge.get()) {
                (Err(error), Some((procs, path))) if error.errno() == Some(Errno::EBUSY) => {
                    enter(procs, path)?;
                }
                (entered, _) => entered?,
            }
        }
        Ok(())
    }

    /// Opens what [`Join::enter`] writes to, for a child that may not: in a user namespace.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the file.
    pub fn hold_unified(&self) -> Result<()> {
        if let (Some(dir), None) = (&self.unified, self.procs.get()) {
            let opened = dir.open_file(PROCS, OFlag::O_WRONLY);
            let procs = opened.os("open", || dir.path().join(PROCS).display().to_string())?;
            self.procs.get_or_init(|| procs);
            self.hold_refuge(dir);
        }
        Ok(())
    }

    /// Without one, what keeps the process out of the container's cgroup is the error.
    fn hold_refuge(&self, container: &Dir) {
        let Some(leader) = &self.leader else { return };
        let Some(below) = layout::place_below(&leader.cgroup, leader.init) else { return };
        let place = container.path().join(below);
        if let Ok(dir) = Dir::open(place.clone())
            && let Ok(procs) = dir.open_file(PROCS, OFlag::O_WRONLY)
        {
            self.refuge.get_or_init(|| (procs, place.join(PROCS)));
        }
    }

    /// Moves the calling thread into the v1 memory cgroup: late, for what it has touched until
    /// then is not the container's bill. On v2 it is inside already.
    ///
    /// # Errors
    /// As [`Join::enter`].
    pub fn enter_memory(&self) -> Result<()> {
        self.memory.as_ref().map_or(Ok(()), |(tasks, path)| enter(tasks, path))
    }
}

fn enter(file: impl AsFd, path: &Path) -> Result<()> {
    loop {
        match write(&file, b"0") {
            Err(Errno::EINTR) => {}
            Err(errno @ (Errno::EOPNOTSUPP | Errno::EBUSY)) if path.ends_with("cgroup.procs") => {
                let file =
                    if errno == Errno::EBUSY { "cgroup.subtree_control" } else { "cgroup.type" };
                let why = match errno {
                    Errno::EBUSY => "it passes controllers down, and may then have no processes",
                    _ => "it is below a threaded cgroup, in which only threads of that one may be",
                };
                let file = path.with_file_name(file);
                return Err(errno).os("join cgroup", || {
                    format!(
                        "{} ({why}: {}; choose another linux.cgroupsPath)",
                        path.display(),
                        file.display()
                    )
                });
            }
            other => return other.map(drop).os("join cgroup", || path.display()),
        }
    }
}
