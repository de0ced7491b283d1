//! Pods that are on networks, on disk: what `DEL` needs is there before `ADD` is called, and goes
//! when it has been done, whoever dies in between.
//!
//! ```text
//! <data root>/networks/              survives a reboot
//!     <network>/                     flock: /etc/hosts of its pods are being written
//!         lock                       flock: shared for a pod, exclusive for `GC`
//!         <pod uid>-<attempt>.json   [`Attachment`]; flock: plugins are being called for it
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::NetworkList;
use super::names::{self, Names};
use super::operations::{self, Place, Way};
use super::plan::Sources;
use crate::error::{Error, OsContext, Result};
use crate::pod::store::PodDirs;
use crate::sys::fd;

/// Longest file, bytes: a result can have one, and a configuration as well.
const FILE_BYTES: u64 = 4 << 20;
/// For the plugins of a network together.
const GC_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at a lock.
const LOOK: Duration = Duration::from_millis(20);
/// What is left to who holds a lock when the time of its plugins is over.
const MARGIN: Duration = Duration::from_secs(10);

/// A pod on a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network, as it was then.
    pub list: NetworkList,
    /// What its plugins are told of the pod.
    pub place: Place,
    /// Where they are.
    pub plugins: Vec<PathBuf>,
    /// How long they may take.
    pub timeout: Duration,
    /// State directory of the pod.
    pub state: PathBuf,
    /// What others call it.
    pub names: Names,
    /// What `ADD` has said; absent until then.
    pub result: Option<Value>,
}

/// All that is attached below a data root.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// That of a pod's data root.
    #[must_use]
    pub fn of(dirs: &PodDirs) -> Self {
        let root = dirs.data.ancestors().nth(2).unwrap_or(&dirs.data);
        Self::at(root)
    }

    /// That of a data root.
    #[must_use]
    pub fn at(data_root: &Path) -> Self {
        Self { dir: data_root.join("networks") }
    }

    /// The directory of a network.
    #[must_use]
    pub fn network(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Puts a pod on a network; returns its addresses. What earlier attempts of the pod have left is
    /// taken away before; if it fails nothing is left. So it is as well when `stop` becomes
    /// readable, which ends the plugin that is running.
    ///
    /// # Errors
    /// What a plugin says, or that the pod has got no address.
    pub fn attach(
        &self,
        mut new: Attachment,
        netns: &str,
        stop: Option<BorrowedFd>,
    ) -> Result<Vec<String>> {
        for old in self.of_pod(&new.state)? {
            if let Err(error) = self.detach(&old, "") {
                crate::log::warn(error);
            }
        }
        let _no_gc = self.lock_network(&new.list.name, FlockArg::LockSharedNonblock, GC_LIMIT)?;
        new.list = operations::negotiate(&new.list, Way { stop, ..new.way() })?;
        let path = self.path(&new);
        let _lock = self.write(&path, &new)?;
        let way = Way { stop, ..new.way() };
        let added = operations::status(&new.list, way)
            .and_then(|()| operations::add(&new.list, &new.place, netns, way));
        let attached = added.and_then(|result| {
            let ips = operations::addresses(&result);
            if ips.is_empty() {
                let name = &new.list.name;
                return Err(Error::Invalid(format!("network {name:?} has given it no address")));
            }
            new.result = Some(result);
            let _lock = self.write(&path, &new)?;
            Ok(ips)
        });
        match attached {
            Ok(ips) => {
                names::announce(&self.network(&new.list.name));
                Ok(ips)
            }
            Err(error) => {
                if let Err(left) = clear(&path, &new, netns) {
                    crate::log::warn(left);
                }
                Err(error)
            }
        }
    }

    /// Takes a pod off its network; one that is not on it is fine. `netns` is empty if it is gone.
    ///
    /// # Errors
    /// What a plugin says: the attachment stays, to be tried again.
    pub fn detach(&self, one: &Attachment, netns: &str) -> Result<()> {
        let path = self.path(one);
        let _no_gc = self.lock_network(&one.list.name, FlockArg::LockSharedNonblock, GC_LIMIT)?;
        // Whoever is calling plugins for it has them stopped by their limit.
        let Some((_lock, now)) = lock(&path, one.timeout)? else { return Ok(()) };
        clear(&path, &now, netns)?;
        names::announce(&self.network(&one.list.name));
        Ok(())
    }

    /// Takes the pod with this state directory off all its networks.
    ///
    /// # Errors
    /// As [`Store::detach`], for the first that has failed.
    pub fn release(&self, state: &Path, netns: &str) -> Result<()> {
        let mut outcome = Ok(());
        for one in self.of_pod(state)? {
            let done = self.detach(&one, netns);
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Whether a pod is on its network as it was put there.
    ///
    /// # Errors
    /// What a plugin says.
    pub fn check(&self, one: &Attachment, netns: &str, stop: Option<BorrowedFd>) -> Result<()> {
        let Some((_lock, now)) = lock(&self.path(one), one.timeout)? else { return Ok(()) };
        let Some(result) = &now.result else { return Ok(()) };
        operations::check(&now.list, &now.place, netns, result, Way { stop, ..now.way() })
    }

    /// Lets a network forget all pods but those that are on it here. Whether it could.
    ///
    /// # Errors
    /// What a plugin says.
    pub fn collect_garbage(&self, list: &NetworkList, sources: &Sources) -> Result<bool> {
        // Nobody comes or goes meanwhile. Source: section 3, "Lifecycle & Ordering".
        let longest = self.all()?.iter().map(|one| one.timeout).max().unwrap_or_default();
        let _alone = self.lock_network(&list.name, FlockArg::LockExclusiveNonblock, longest)?;
        let all = of_network(&self.network(&list.name))?.into_iter();
        let valid: Vec<_> = all.map(|one| (one.place.id, one.place.interface)).collect();
        let way = Way { dirs: &sources.plugins, limit: GC_LIMIT, stop: None };
        let list = operations::negotiate(list, way)?;
        operations::gc(&list, &valid, way)
    }

    /// Shared by those that come and go, exclusive for who must see none of them.
    fn lock_network(&self, name: &str, how: FlockArg, limit: Duration) -> Result<Flock<File>> {
        let dir = self.network(name);
        DirBuilder::new().mode(0o700).recursive(true).create(&dir).os("mkdir", || dir.display())?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let deadline = Instant::now() + limit + MARGIN;
        loop {
            let file = options.open(&path).os("open", || path.display())?;
            if let Some(lock) = try_lock(file, how, &path, deadline)? {
                return Ok(lock);
            }
        }
    }

    /// Everything there is; what cannot be read is a warning.
    ///
    /// # Errors
    /// [`Error::Os`] if a directory cannot be read.
    pub fn all(&self) -> Result<Vec<Attachment>> {
        let mut all = Vec::new();
        for network in entries(&self.dir)? {
            all.extend(of_network(&network)?);
        }
        Ok(all)
    }

    /// Those of the pod that has this state directory.
    ///
    /// # Errors
    /// As [`Store::all`].
    pub fn of_pod(&self, state: &Path) -> Result<Vec<Attachment>> {
        let mut all = self.all()?;
        all.retain(|one| one.state == state);
        Ok(all)
    }

    fn path(&self, one: &Attachment) -> PathBuf {
        self.network(&one.list.name).join(format!("{}.json", one.place.id))
    }

    /// Writes it as a whole; it is locked before anybody else can see it.
    fn write(&self, path: &Path, one: &Attachment) -> Result<Flock<File>> {
        let here = || path.display();
        let dir = path.parent().unwrap_or(&self.dir);
        DirBuilder::new().mode(0o700).recursive(true).create(dir).os("mkdir", || dir.display())?;
        let text = serde_json::to_vec(one)
            .map_err(|error| Error::Invalid(format!("{}: {error}", here())))?;
        let new = path.with_extension("new");
        let _left_over = std::fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&new);
        let mut file = file.os("create", || new.display())?;
        file.write_all(&text).os("write", || new.display())?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_file, errno)| errno)
            .os("lock", || new.display())?;
        std::fs::rename(&new, path).os("rename", here)?;
        Ok(file)
    }
}

impl Attachment {
    fn way(&self) -> Way<'_> {
        Way { dirs: &self.plugins, limit: self.timeout, stop: None }
    }

    /// Addresses of the pod.
    #[must_use]
    pub fn ips(&self) -> Vec<String> {
        self.result.as_ref().map(operations::addresses).unwrap_or_default()
    }
}

/// `DEL`, and the end of the file. Who calls it holds the lock.
fn clear(path: &Path, one: &Attachment, netns: &str) -> Result<()> {
    operations::del(&one.list, &one.place, netns, one.result.as_ref(), one.way())?;
    // Of somebody who was killed while writing.
    let _mostly_none = std::fs::remove_file(path.with_extension("new"));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.os("remove", || path.display()),
    }
}

/// The attachment as it is once nobody else works on it; `None` if it is gone then.
fn lock(path: &Path, limit: Duration) -> Result<Option<(Flock<File>, Attachment)>> {
    let here = || path.display();
    let deadline = Instant::now() + limit + MARGIN;
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.os("open", here)?,
        };
        let locked = try_lock(file, FlockArg::LockExclusiveNonblock, path, deadline)?;
        let Some(file) = locked else { continue };
        // It may have been replaced or removed since it was opened.
        let ours = file.metadata().os("stat", here)?.ino();
        if std::fs::metadata(path).is_ok_and(|now| now.ino() == ours) {
            return read(path).map(|one| Some((file, one)));
        }
    }
}

/// One try; `None`, a moment later, if somebody else holds it and there is time left.
fn try_lock(
    file: File,
    how: FlockArg,
    path: &Path,
    deadline: Instant,
) -> Result<Option<Flock<File>>> {
    match Flock::lock(file, how) {
        Ok(file) => Ok(Some(file)),
        Err((_file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
            std::thread::sleep(LOOK);
            Ok(None)
        }
        Err((_file, errno)) => Err(errno).os("lock", || path.display()),
    }
}

/// The attachments of one network.
///
/// # Errors
/// [`Error::Os`] if the directory cannot be read.
pub(super) fn of_network(dir: &Path) -> Result<Vec<Attachment>> {
    let paths = entries(dir)?.into_iter();
    let paths = paths.filter(|path| path.extension().is_some_and(|own| own == "json"));
    Ok(paths.filter_map(|path| read(&path).map_err(warn_unless_gone).ok()).collect())
}

fn warn_unless_gone(error: Error) {
    if error.errno() != Some(Errno::ENOENT) {
        crate::log::warn(error);
    }
}

fn read(path: &Path) -> Result<Attachment> {
    serde_json::from_slice(&fd::read_file(path, FILE_BYTES)?)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.os("read", || dir.display())?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<std::io::Result<Vec<_>>>().os("read", || dir.display())?;
    paths.sort();
    Ok(paths)
}
