//! Compiled filters by the profile they came from.
//!
//! An entry holds the whole key next to the program, and a hit compares it byte for byte. The
//! file name is a fast hash, only there to find the entry: a collision costs a compilation and
//! can never give a container another profile's filter. Whatever goes wrong here means
//! "compile it": the cache has no errors.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use libseccomp::ScmpVersion;

use crate::sys::seccomp::{INSTRUCTION_BYTES, MAX_INSTRUCTIONS};

/// First bytes of an entry.
const MAGIC: &[u8; 8] = b"carobscf";
/// To be raised whenever the same profile compiles to another program.
const FORMAT: u32 = 3;
/// Magic, length of the program, length of the key, checksum of the program.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8;
/// Entries kept. A host has a handful of profiles; each takes about 20 KiB.
const MAX_ENTRIES: usize = 64;
/// The longest key that is worth keeping: ten times the default profile of the engines.
const MAX_KEY_BYTES: usize = 128 * 1024;

/// A place for one profile's program.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    dir: &'a Path,
    /// All but the profile that the program depends on.
    context: String,
    profile: &'a [u8],
}

impl<'a> Slot<'a> {
    /// `profile` is what the program is compiled from, in any encoding.
    pub(super) fn new(dir: &'a Path, profile: &'a [u8]) -> Option<Self> {
        let library = ScmpVersion::current().ok()?;
        let (arch, version) = (std::env::consts::ARCH, env!("CARGO_PKG_VERSION"));
        let context = format!("carob {version} format {FORMAT} libseccomp {library} {arch}\n");
        (context.len() + profile.len() <= MAX_KEY_BYTES).then_some(Self { dir, context, profile })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{:016x}", checksum(&[self.context.as_bytes(), self.profile])))
    }

    /// The program, if there is an entry that nobody else could have written.
    pub(super) fn load(&self) -> Option<Vec<u8>> {
        // Not blocking, lest the path is a fifo; not following a link to a file of somebody.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(self.path()).ok()?;
        let meta = file.metadata().ok()?;
        let ours = meta.is_file()
            && meta.uid() == nix::unistd::geteuid().as_raw()
            && meta.mode() & 0o022 == 0;
        let longest = HEADER_BYTES + MAX_INSTRUCTIONS * INSTRUCTION_BYTES + MAX_KEY_BYTES;
        let len = usize::try_from(meta.len()).ok().filter(|len| ours && *len <= longest)?;
        let mut entry = vec![0; len];
        file.read_exact(&mut entry).ok()?;
        self.decode(entry)
    }

    fn encode(&self, program: &[u8]) -> Option<Vec<u8>> {
        let key_len = self.context.len() + self.profile.len();
        let mut entry = Vec::with_capacity(HEADER_BYTES + program.len() + key_len);
        entry.extend_from_slice(MAGIC);
        entry.extend_from_slice(&u32::try_from(program.len()).ok()?.to_ne_bytes());
        entry.extend_from_slice(&u32::try_from(key_len).ok()?.to_ne_bytes());
        entry.extend_from_slice(&checksum(&[program]).to_ne_bytes());
        entry.extend_from_slice(program);
        entry.extend_from_slice(self.context.as_bytes());
        entry.extend_from_slice(self.profile);
        Some(entry)
    }

    fn decode(&self, mut entry: Vec<u8>) -> Option<Vec<u8>> {
        let rest = entry.strip_prefix(MAGIC)?;
        let (program_len, rest) = rest.split_first_chunk()?;
        let (key_len, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let program_len = usize::try_from(u32::from_ne_bytes(*program_len)).ok()?;
        let (program, key) = rest.split_at_checked(program_len)?;
        let valid = key.len() == usize::try_from(u32::from_ne_bytes(*key_len)).ok()?
            && key.strip_prefix(self.context.as_bytes()) == Some(self.profile)
            && !program.is_empty()
            && program_len.is_multiple_of(INSTRUCTION_BYTES)
            && program_len <= MAX_INSTRUCTIONS * INSTRUCTION_BYTES
            // A host that crashed may have kept the file's length and not its contents.
            && checksum(&[program]) == u64::from_ne_bytes(*sum);
        if !valid {
            return None;
        }
        entry.truncate(HEADER_BYTES + program_len);
        entry.drain(..HEADER_BYTES);
        Some(entry)
    }

    /// Keeps a program for the next container. A full disk or a read-only one is no reason to
    /// fail this container, so the outcome is not reported.
    pub(super) fn store(&self, program: &[u8]) {
        let Some(entry) = self.encode(program) else { return };
        if self.make_dir().is_err() {
            return;
        }
        prune(self.dir, MAX_ENTRIES - 1);
        let path = self.path();
        let temporary = path.with_extension(process::id().to_string());
        let written = write_new(&temporary, &entry).and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
    }

    fn make_dir(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Removes the oldest entries (and what crashed writers left) until `keep` are left.
fn prune(dir: &Path, keep: usize) {
    let Ok(list) = fs::read_dir(dir) else { return };
    let paths: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    if paths.len() <= keep {
        return;
    }
    let age = |path: &PathBuf| fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let mut aged: Vec<(SystemTime, PathBuf)> = paths
        .into_iter()
        .map(|path| (age(&path).unwrap_or(SystemTime::UNIX_EPOCH), path))
        .collect();
    aged.sort();
    let surplus = aged.len() - keep;
    for (_, path) in aged.into_iter().take(surplus) {
        drop(fs::remove_file(path));
    }
}

/// Against accidents, not against attackers: the directory belongs to us alone.
fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
