//! Rotated logs: `0.log.20261120-153326`, later `0.log.20261120-153326.gz`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Limits;
use super::place::{self, Missing};

/// How much is compressed at a time, bytes: about a millisecond.
const SLICE_BYTES: usize = 64 << 10;

/// What is left of a log after its rotation. In order of age: that of the names is wrong where
/// there are several of one second, or when the clock was set back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rotated {
    stamp: String,
    /// Of those of the same second.
    number: u32,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Compressed,
    /// Compression has not finished.
    Half,
}

const FORMS: [(&str, Form); 3] =
    [(".gz", Form::Compressed), (".tmp", Form::Half), ("", Form::Plain)];

impl Rotated {
    /// Understands the name of a file of the log `live`.
    fn parse(live: &str, name: &str) -> Option<(Self, Form)> {
        let rest = name.strip_prefix(live)?.strip_prefix('.')?;
        let (base, form) =
            FORMS.iter().find_map(|(ending, form)| Some((rest.strip_suffix(ending)?, *form)))?;
        let (stamp, number) = base.split_at_checked("20261120-153326".len())?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = match number.strip_prefix('-') {
            Some(number) if digits(number) => number.parse().ok()?,
            None if number.is_empty() => 0,
            _ => return None,
        };
        let (day, time) = stamp.split_once('-')?;
        let is_stamp = day.len() == 8 && digits(day) && digits(time);
        is_stamp.then(|| (Self { stamp: stamp.to_owned(), number }, form))
    }

    fn name(&self, live: &str, form: Form) -> String {
        let number = if self.number == 0 { String::new() } else { format!("-{}", self.number) };
        let ending = FORMS.iter().find(|(_, known)| *known == form).map_or("", |(text, _)| *text);
        format!("{live}.{}{number}{ending}", self.stamp)
    }

    /// The name for a log that is rotated now.
    fn next(newest: Option<&Self>, wall: Timestamp) -> Self {
        let stamp = wall.strftime("%Y%m%d-%H%M%S").to_string();
        match newest {
            Some(newest) if newest.stamp >= stamp => {
                Self { stamp: newest.stamp.clone(), number: newest.number.saturating_add(1) }
            }
            _ => Self { stamp, number: 0 },
        }
    }
}

/// All rotated logs of one instance, oldest first.
fn rotated(dir: &OwnedFd, live: &str) -> nix::Result<Vec<(Rotated, Form)>> {
    let names = place::names(dir)?;
    let mut all: Vec<_> = names.iter().filter_map(|name| Rotated::parse(live, name)).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

/// Gives the live file a name with the time, after having removed the oldest so that with the new
/// live file there are no more than `limits` allows.
///
/// # Errors
/// As renameat(2) and unlinkat(2); `ENOENT` if there is no such file.
pub(super) fn rotate(
    dir: &OwnedFd,
    live: &str,
    limits: Limits,
    wall: Timestamp,
) -> nix::Result<()> {
    let all = rotated(dir, live)?;
    let mut logs: Vec<&Rotated> = all.iter().map(|(log, _)| log).collect();
    logs.dedup();
    let kept = limits.files.saturating_sub(2);
    for log in &logs[..logs.len().saturating_sub(kept)] {
        for (_, form) in FORMS {
            place::remove(dir, &log.name(live, form))?;
        }
    }
    if limits.files < 2 {
        return place::remove(dir, live);
    }
    let name = Rotated::next(logs.last().copied(), wall).name(live, Form::Plain);
    renameat(dir, live, dir, name.as_str())
}

/// Compresses rotated logs of a pod, one at a time, in slices: a supervisor has one thread.
///
/// The log that was rotated last stays as it is until the next rotation: a reader may be in it.
#[derive(Debug, Default)]
pub struct Compressor {
    queue: VecDeque<PathBuf>,
    job: Option<Job>,
}

/// What [`Compressor::step`] leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Idle,
    /// It is to be called again when there is time.
    More,
}

enum Progress {
    More,
    Done,
}

#[derive(Debug)]
struct Job {
    dir: OwnedFd,
    plain: String,
    half: String,
    compressed: String,
    source: File,
    sink: GzEncoder<File>,
}

impl Compressor {
    /// Something may be to be done beside this log: it was rotated, or a supervisor before us was
    /// killed.
    pub fn add(&mut self, log: &Path) {
        if !self.queue.iter().any(|queued| queued == log) {
            self.queue.push_back(log.to_owned());
        }
    }

    /// Does one slice of the work, at most about a millisecond. What cannot be compressed, as
    /// there is no room, stays as it is until it is tried again at the next rotation.
    pub fn step(&mut self) -> Step {
        if let Some(mut job) = self.job.take() {
            match job.slice() {
                Ok(Progress::More) => self.job = Some(job),
                Ok(Progress::Done) if job.finish().is_ok() => {}
                _ => {
                    let _gone = place::remove(&job.dir, &job.half);
                    drop(self.queue.pop_front());
                }
            }
        } else if let Some(log) = self.queue.front() {
            match Job::next(log) {
                Ok(Some(job)) => self.job = Some(job),
                _ => drop(self.queue.pop_front()),
            }
        }
        if self.job.is_none() && self.queue.is_empty() { Step::Idle } else { Step::More }
    }
}

impl Job {
    /// The oldest log that is still to be compressed. Tidies up what a killed supervisor has left.
    fn next(log: &Path) -> nix::Result<Option<Self>> {
        let (dir, live) = place::directory(log, Missing::Refuse)?;
        let all = rotated(&dir, live)?;
        let newest = all.last().map(|(log, _)| log.clone());
        for (log, form) in &all {
            let name = log.name(live, *form);
            let is_compressed = all.contains(&(log.clone(), Form::Compressed));
            match form {
                Form::Half => place::remove(&dir, &name)?,
                Form::Plain if is_compressed => place::remove(&dir, &name)?,
                Form::Plain if newest.as_ref() != Some(log) => {
                    let half = log.name(live, Form::Half);
                    place::remove(&dir, &half)?;
                    let compressed = log.name(live, Form::Compressed);
                    return Self::begin(dir, [name, half, compressed]).map(Some);
                }
                Form::Plain | Form::Compressed => {}
            }
        }
        Ok(None)
    }

    fn begin(dir: OwnedFd, [plain, half, compressed]: [String; 3]) -> nix::Result<Self> {
        let source = place::open_to_read(&dir, &plain)?;
        let sink = GzEncoder::new(place::create(&dir, &half)?, Compression::fast());
        Ok(Self { dir, plain, half, compressed, source, sink })
    }

    fn slice(&mut self) -> std::io::Result<Progress> {
        let mut chunk = [0; 16 << 10];
        for _ in 0..SLICE_BYTES / chunk.len() {
            let count = self.source.read(&mut chunk)?;
            if count == 0 {
                self.sink.try_finish()?;
                return Ok(Progress::Done);
            }
            self.sink.write_all(&chunk[..count])?;
        }
        Ok(Progress::More)
    }

    fn finish(&self) -> nix::Result<()> {
        renameat(&self.dir, self.half.as_str(), &self.dir, self.compressed.as_str())?;
        // A rotation may have removed the log meanwhile as the oldest.
        match unlinkat(&self.dir, self.plain.as_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => place::remove(&self.dir, &self.compressed),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::place::tests::Root;
    use super::*;

    fn wall(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(root: &Root) -> Vec<String> {
        let entries = fs::read_dir(root.log().parent().unwrap()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn compress(root: &Root) -> usize {
        let mut compressor = Compressor::default();
        compressor.add(&root.log());
        compressor.add(&root.log());
        (1..).find(|_| compressor.step() == Step::Idle).unwrap()
    }

    #[test]
    fn names_are_understood() {
        for (name, form) in [
            ("0.log.20261120-153326", Form::Plain),
            ("0.log.20261120-153326-12", Form::Plain),
            ("0.log.20261120-153326.gz", Form::Compressed),
            ("0.log.20261120-153326-3.tmp", Form::Half),
        ] {
            let (log, found) = Rotated::parse("0.log", name).unwrap();
            assert_eq!((found, log.name("0.log", form)), (form, name.to_owned()));
        }
        for name in [
            "0.log",
            "0.log.",
            "0.log.gz",
            "1.log.20261120-153326",
            "0.log.20261120-153326-",
            "0.log.2026112-0153326",
            "0.log.20261120-153326.bak",
        ] {
            assert_eq!(Rotated::parse("0.log", name), None, "{name}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_change_the_order() {
        let now = wall("2026-11-20T15:33:26Z");
        let first = Rotated::next(None, now);
        assert_eq!(first.name("0.log", Form::Plain), "0.log.20261120-153326");
        let second = Rotated::next(Some(&first), wall("2026-11-20T14:00:00Z"));
        assert_eq!(second.name("0.log", Form::Plain), "0.log.20261120-153326-1");
        let tenth = Rotated { number: 10, ..second.clone() };
        assert!(first < second && second < tenth);
        let later = Rotated::next(Some(&second), wall("2026-11-20T15:33:27Z"));
        assert!(second < later && later.number == 0);
    }

    #[test]
    fn all_but_the_newest_are_compressed() {
        let root = Root::new("compress");
        let log = root.log();
        let (dir, live) = place::directory(&log, Missing::Make).unwrap();
        let old = "some line\n".repeat(30_000);
        let beside = |name: &str| root.log().with_file_name(name);
        for (name, content) in [
            ("0.log", "live"),
            ("0.log.20261120-000001", "both"),
            ("0.log.20261120-000001.gz", "both"),
            ("0.log.20261120-000002", old.as_str()),
            ("0.log.20261120-000002.tmp", "half"),
            ("0.log.20261120-000003", "newest"),
        ] {
            fs::write(beside(name), content).unwrap();
        }
        assert_eq!(compress(&root), 7);
        let expected = [
            "0.log",
            "0.log.20261120-000001.gz",
            "0.log.20261120-000002.gz",
            "0.log.20261120-000003",
        ];
        assert_eq!(names(&root), expected);
        let mut text = String::new();
        let file = fs::File::open(beside("0.log.20261120-000002.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert!(text == old);

        rotate(&dir, live, Limits { bytes: 1, files: 3 }, wall("2026-11-20T01:00:00Z")).unwrap();
        assert_eq!(names(&root), ["0.log.20261120-000003", "0.log.20261120-010000"]);
        assert_eq!(
            rotate(&dir, live, Limits { bytes: 1, files: 3 }, wall("2026-11-20T01:00:00Z")),
            Err(Errno::ENOENT)
        );
    }

    #[test]
    fn a_log_that_goes_while_it_is_compressed_is_gone() {
        let root = Root::new("gone");
        place::directory(&root.log(), Missing::Make).unwrap();
        let old = root.log().with_file_name("0.log.20261120-000001");
        fs::write(&old, "old").unwrap();
        fs::write(root.log().with_file_name("0.log.20261120-000002"), "newest").unwrap();
        let mut compressor = Compressor::default();
        compressor.add(&root.log());
        assert_eq!(compressor.step(), Step::More);
        fs::remove_file(&old).unwrap();
        while compressor.step() == Step::More {}
        assert_eq!(names(&root), ["0.log.20261120-000002"]);
    }

    #[test]
    fn what_cannot_be_compressed_is_left_alone() {
        let root = Root::new("broken");
        place::directory(&root.log(), Missing::Make).unwrap();
        let old = root.log().with_file_name("0.log.20261120-000001");
        std::os::unix::fs::symlink("/etc/passwd", &old).unwrap();
        fs::write(root.log().with_file_name("0.log.20261120-000002"), "newest").unwrap();
        assert_eq!(compress(&root), 1);
        assert_eq!(names(&root), ["0.log.20261120-000001", "0.log.20261120-000002"]);
    }
}
