//! The race harness: a neighbour exchanges names in what two containers share, as fast as it can,
//! while containers are made of it over and over; the host must stay as it was.

use crate::canary::{Canary, SECRET};
use crate::support::{Container, Host, Output, rounds};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Containers made in one race, usually and in the long mode.
pub const MANY: [usize; 2] = [10, 3000];
/// As [`MANY`], where one step has several ways to be taken.
pub const SOME: [usize; 2] = [3, 500];

/// Exchanges two names until it is dropped.
pub struct Flipper {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flipper {
    pub fn new(a: PathBuf, b: PathBuf) -> Self {
        Self::with_restore(a, b, || panic!("one of the names is gone"))
    }

    /// As [`Flipper::new`], in a mount namespace of its own, as of another container: where something
    /// is mounted on the names, only who does not see it can exchange them.
    fn elsewhere(a: PathBuf, b: PathBuf) -> Self {
        Self::start(a, b, enter_own_namespace, || panic!("one of the names is gone"))
    }

    /// `restore` brings back what carob has taken away.
    fn with_restore(a: PathBuf, b: PathBuf, restore: impl Fn() + Send + 'static) -> Self {
        Self::start(a, b, || {}, restore)
    }

    fn start(a: PathBuf, b: PathBuf, begin: fn(), restore: impl Fn() + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            begin();
            while !stopped.load(Ordering::Relaxed) {
                match renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE) {
                    Err(Errno::NOENT) => restore(),
                    done => done.unwrap(),
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// How often it has exchanged them.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// For this thread alone.
fn enter_own_namespace() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|e| e.is_ok()), "the flipper died");
    }
}

/// Where a race takes place.
pub struct Race {
    pub host: Host,
    pub canary: Canary,
    /// Writable, the container's alone.
    pub rootfs: PathBuf,
    /// A directory of the host that is mounted at `/vol`; its neighbour flips names in it.
    pub volume: PathBuf,
}

impl Race {
    /// `None` on another runtime than carob: those that the races are named after lose them.
    pub fn new() -> Option<Self> {
        let host = Host::only_carob("it is known to lose these races")?;
        let canary = Canary::new(&host);
        let rootfs = host.own_rootfs();
        let volume = host.dir().join("volume");
        fs::create_dir(&volume).unwrap();
        Some(Self { host, canary, rootfs, volume })
    }

    /// In `at` a directory `a` with `file`, `dir` and `passwd` in it, and a link `b` to the canary.
    pub fn directory_and_link(&self, at: &Path) -> Flipper {
        self.make_directory_and_link(at);
        Flipper::new(at.join("a"), at.join("b"))
    }

    /// As [`Race::directory_and_link`], exchanged by who does not see what is mounted on them.
    pub fn directory_and_link_elsewhere(&self, at: &Path) -> Flipper {
        self.make_directory_and_link(at);
        Flipper::elsewhere(at.join("a"), at.join("b"))
    }

    fn make_directory_and_link(&self, at: &Path) {
        fs::create_dir_all(at.join("a/dir")).unwrap();
        for name in ["file", "passwd", "console", "null"] {
            fs::write(at.join("a").join(name), "").unwrap();
        }
        symlink(self.canary.climb(), at.join("b")).unwrap();
    }

    /// The file `name` in `at` in exchange with a link to the canary's file of this name. Where a
    /// device should be, carob removes what is none.
    pub fn file_and_link(&self, at: &Path, name: &str) -> Flipper {
        let (file, link) = (at.join(name), at.join(".link"));
        let target = format!("{}/{name}", self.canary.climb());
        let (other_file, other_link) = (file.clone(), link.clone());
        let restore = move || {
            // Not through a link that is there.
            fs::File::create_new(&other_file).ok();
            symlink(&target, &other_link).ok();
        };
        restore();
        Flipper::with_restore(file, link, restore)
    }

    /// A container with the volume that prints what it finds there.
    pub fn container(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        self.host.sh_with(script, |spec| {
            spec["root"] = json!({"path": self.rootfs});
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/vol", "type": "bind", "source": self.volume,
                               "options": ["rbind", "rw"]}));
            edit(spec);
        })
    }

    /// Runs a container over and over while the flippers flip. It may start or be refused.
    pub fn run(&self, container: &Container, flippers: &[Flipper], times: [usize; 2]) {
        self.repeat(flippers, times, || container.run());
    }

    /// Calls carob over and over while the flippers flip.
    pub fn repeat(&self, flippers: &[Flipper], times: [usize; 2], call: impl Fn() -> Output) {
        let most = rounds(times);
        let (mut done, mut flips) = (0, 0);
        // A neighbour that got no time has proven nothing.
        while done < most || (flips < 100 && done < 100 * most) {
            let out = call();
            // `exec` says 255 for what is its own failure.
            assert!(!out.stderr.contains("panicked"), "{out:?}");
            assert!(out.code < 128 || out.code == 255, "{out:?}");
            assert!(!out.stdout.contains(SECRET), "{out:?}");
            self.canary.is_untouched(&out);
            done += 1;
            flips = flippers.iter().map(Flipper::count).min().unwrap_or(100);
        }
        assert!(flips >= 100, "the names were exchanged {flips} times only");
    }
}
