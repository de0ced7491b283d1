//! What archives of anybody become. Owners and devices need root: those tests are in tests/image.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ::tar::{Builder, EntryType, Header};

use super::*;
use crate::image::layer::skeleton::{Skeleton, rebuild};

/// A directory to unpack in, beside one that must stay as it is.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("carob-unpack-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(path.join("layer")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        fs::write(path.join("outside/kept"), "kept").unwrap();
        Self(path)
    }

    fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked> {
        self.unpack_over(archive, &[])
    }

    fn unpack_over(&self, archive: &[u8], below: &[OwnedFd]) -> Result<Unpacked> {
        let root = OwnedFd::from(File::open(self.layer()).unwrap());
        let target = Target { root: &root, below, style: Style::User };
        let skeleton = File::create_new(self.0.join(uuid::Uuid::new_v4().to_string())).unwrap();
        let mut entries = Entries::new(archive, Skeleton::new(skeleton));
        let unpacked = unpack(&mut entries, &target)?;
        entries.finish()?;
        Ok(unpacked)
    }

    fn check_outside(&self) {
        let outside: Vec<_> = fs::read_dir(self.0.join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1);
        assert_eq!(fs::read_to_string(self.0.join("outside/kept")).unwrap(), "kept");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// An archive in the making; whatever is asked for is put into it.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(path: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        // Not by `set_path`, which refuses what is to be tested.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(u64::from(nix::unistd::geteuid().as_raw()));
        header.set_gid(u64::from(nix::unistd::getegid().as_raw()));
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header
    }

    fn add(mut self, path: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = Self::header(path, kind, content.len() as u64);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        if kind == EntryType::Directory {
            header.set_mode(0o755);
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(path, EntryType::Regular, "", content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.add(path, EntryType::Directory, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Symlink, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Link, target, b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length = (body + 1..).find(|all| all.to_string().len() + body == *all).unwrap();
            text.extend(format!("{length} {key}=").as_bytes());
            text.extend(*value);
            text.push(b'\n');
        }
        self.add("pax", EntryType::XHeader, "", &text)
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn what_is_in_it_comes_out() {
    let place = Place::new();
    let long = format!("d/{}/{}", "n".repeat(120), "m".repeat(120));
    let archive = Archive::new()
        .dir("d/")
        .file("d/f", "content")
        .symlink("d/l", "/absolute/../anywhere")
        .hard_link("d/h", "d/f")
        .add("fifo", EntryType::Fifo, "", b"")
        .pax(&[("path", long.as_bytes()), ("mtime", b"1500000000.25")])
        .file("ignored", "long")
        .end();
    let unpacked = place.unpack(&archive).unwrap();
    assert!(unpacked.bytes > 0 && !unpacked.hides_all);
    let layer = place.layer();
    assert_eq!(fs::read_to_string(layer.join("d/f")).unwrap(), "content");
    assert_eq!(fs::read_link(layer.join("d/l")).unwrap(), Path::new("/absolute/../anywhere"));
    let (file, link) =
        (layer.join("d/f").metadata().unwrap(), layer.join("d/h").metadata().unwrap());
    assert_eq!(file.ino(), link.ino());
    assert_eq!(file.permissions().mode() & 0o7777, 0o644);
    assert_eq!(layer.join("d").metadata().unwrap().mtime(), 1_000_000_000);
    assert!(layer.join("fifo").metadata().unwrap().file_type().is_fifo());
    let named = layer.join(&long).metadata().unwrap();
    assert_eq!((named.mtime(), named.mtime_nsec()), (1_500_000_000, 250_000_000));
}

#[test]
fn nothing_is_written_outside() {
    let outside = |place: &Place, name: &str| format!("{}/outside/{name}", place.0.display());
    type Make = fn(&Place, &dyn Fn(&Place, &str) -> String) -> Archive;
    let table: &[(&str, Make)] = &[
        ("..", |_, _| Archive::new().file("../outside/x", "")),
        ("..", |_, _| Archive::new().dir("a").file("a/../../outside/x", "")),
        ("link", |place, outside| Archive::new().symlink("l", &outside(place, "")).file("l/x", "")),
        ("link", |_, _| Archive::new().symlink("l", "../outside").dir("l/sub").file("l/sub/x", "")),
        ("link", |_, _| Archive::new().dir("a").symlink("a/l", "..").file("a/l/l2", "")),
        ("hard link", |place, outside| Archive::new().hard_link("h", &outside(place, "kept"))),
        ("..", |_, _| Archive::new().hard_link("h", "../outside/kept")),
        ("hard link", |_, _| Archive::new().symlink("l", "../outside").hard_link("h", "l/kept")),
        ("link", |_, _| Archive::new().symlink("l", "../outside").file("l/.wh.kept", "")),
        ("link", |_, _| Archive::new().symlink("l", "../outside").file("l/.wh..wh..opq", "")),
        ("names none", |_, _| Archive::new().dir("a").file("a/.wh...", "")),
        ("root", |_, _| Archive::new().file(".", "x")),
        ("root", |_, _| Archive::new().dir("d").hard_link("d/h", ".")),
        ("directory", |_, _| Archive::new().dir("d").hard_link("h", "d")),
        ("overlayfs", |_, _| {
            Archive::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/x")]).dir("d")
        }),
        ("overlayfs", |_, _| {
            Archive::new().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).dir("d")
        }),
        ("uid", |_, _| Archive::new().pax(&[("uid", b"4294967295")]).file("f", "")),
        ("not known", |_, _| Archive::new().add("x", EntryType::new(b'Q'), "", b"")),
        ("sparse", |_, _| {
            Archive::new()
                .pax(&[("GNU.sparse.map", b"0,5,3,1"), ("GNU.sparse.size", b"9")])
                .file("f", "123456")
        }),
        ("sparse", |_, _| {
            Archive::new()
                .pax(&[("GNU.sparse.map", b"0,1,9223372036854775807,9223372036854775807")])
                .file("f", "1")
        }),
    ];
    for (word, make) in table {
        let place = Place::new();
        let archive = make(&place, &outside).end();
        let error = place.unpack(&archive).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        place.check_outside();
    }
}

#[test]
fn what_replaces_a_link_leaves_its_target_alone() {
    let place = Place::new();
    let archive = Archive::new()
        .symlink("l", "../outside/kept")
        .file("l", "mine")
        .symlink("m", "../outside")
        .dir("m")
        .file("m/x", "x")
        .dir("d")
        .file("d/f", "")
        .file("d", "a file now")
        .hard_link("l", "d")
        .end();
    place.unpack(&archive).unwrap();
    place.check_outside();
    let layer = place.layer();
    assert_eq!(fs::read_to_string(layer.join("l")).unwrap(), "a file now");
    assert_eq!(fs::read_to_string(layer.join("m/x")).unwrap(), "x");
}

#[test]
fn attributes_are_not_set_through_links() {
    let place = Place::new();
    let outside = place.0.join("outside");
    let kept = outside.join("kept");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    // Whatever is done to a file or directory changes one of these.
    let looks = |path: &Path| {
        let looks = path.metadata().unwrap();
        (looks.mode(), looks.uid(), looks.nlink(), looks.mtime(), looks.ctime(), looks.ctime_nsec())
    };
    let before = [looks(&outside), looks(&kept)];
    let (file, directory) = (kept.to_str().unwrap(), outside.to_str().unwrap());
    let archive = Archive::new()
        .symlink("l", file)
        .hard_link("h", "l")
        .symlink("d", directory)
        .hard_link("dh", "d")
        .pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"7.5")])
        .symlink("x", file)
        .symlink("p", file)
        .add("p", EntryType::Fifo, "", b"")
        .symlink("r", file)
        .file("r", "mine")
        .symlink("s", directory)
        .dir("s")
        .hard_link("again", "h")
        .file(".wh.l", "")
        .end();
    place.unpack(&archive).unwrap();
    assert_eq!([looks(&outside), looks(&kept)], before);
    for link in ["l", "h", "d", "dh", "x", "again"] {
        assert!(place.layer().join(link).is_symlink(), "{link}");
    }
    place.check_outside();
}

#[test]
fn a_long_list_of_names_does_not_come_into_memory() {
    let place = Place::new();
    let mut header = Archive::header("././@LongLink", EntryType::GNULongName, 4 << 30);
    header.set_cksum();
    let endless = std::io::Read::chain(header.as_bytes().as_slice(), std::io::repeat(b'a'));
    let root = OwnedFd::from(File::open(place.layer()).unwrap());
    let target = Target { root: &root, below: &[], style: Style::User };
    let mut entries = Entries::new(endless, Skeleton::none());
    let error = unpack(&mut entries, &target).unwrap_err().to_string();
    assert!(error.contains("at most 1048576 are read"), "{error}");
}

#[test]
fn what_fills_the_last_block_may_be_missing() {
    let whole = Archive::new().file("f", &"x".repeat(2000)).end();
    for length in [2512, 2530, 2560, 3072] {
        let place = Place::new();
        place.unpack(&whole[..length]).unwrap();
        assert_eq!(fs::read_to_string(place.layer().join("f")).unwrap().len(), 2000, "{length}");
    }
}

#[test]
fn what_is_cut_off_or_no_tar_is_refused() {
    let place = Place::new();
    let whole = Archive::new().file("f", &"x".repeat(2000)).end();
    for length in [100, 512, 1000, 2500] {
        let error = place.unpack(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{length}: {error}");
    }
    let error = place.unpack(&[b'x'; 2048]).unwrap_err().to_string();
    assert!(error.contains("not a tar archive"), "{error}");
}

#[test]
fn sparse_files_have_holes() {
    let place = Place::new();
    let mut map = b"2\n0\n3\n8192\n3\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abcxyz");
    let sparse = [
        ("GNU.sparse.major", b"1".as_slice()),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"10000"),
    ];
    let archive =
        Archive::new().pax(&sparse).add("x", EntryType::Regular, "", &map).file("next", "n").end();
    place.unpack(&archive).unwrap();
    let content = fs::read(place.layer().join("real")).unwrap();
    assert_eq!(content.len(), 10_000);
    assert_eq!((&content[..3], &content[8192..8195], content[5000]), (&b"abc"[..], &b"xyz"[..], 0));
    assert_eq!(fs::read_to_string(place.layer().join("next")).unwrap(), "n");
}

#[test]
fn directories_that_are_not_described_look_as_below() {
    let (below, place) = (Place::new(), Place::new());
    let mut header = Archive::header("a", EntryType::Directory, 0);
    header.set_mode(0o1777);
    header.set_cksum();
    let mut archive = Archive::new();
    archive.0.append(&header, std::io::empty()).unwrap();
    below.unpack(&archive.end()).unwrap();
    let lower = OwnedFd::from(File::open(below.layer()).unwrap());
    place.unpack_over(&Archive::new().file("a/b/f", "").end(), &[lower]).unwrap();
    let mode = |path: &str| place.layer().join(path).metadata().unwrap().permissions().mode();
    assert_eq!(mode("a") & 0o7777, 0o1777);
    assert_eq!(mode("a/b") & 0o7777, 0o755);
}

#[test]
fn the_same_archive_comes_back() {
    let place = Place::new();
    let mut archive = Archive::new()
        .dir("d")
        .file("d/f", &"content ".repeat(1000))
        .file("empty", "")
        .hard_link("h", "d/f")
        .pax(&[("path", b"long/name"), ("comment", b"kept")])
        .file("x", "y")
        .end();
    archive.write_all(b"what follows the end belongs to it").unwrap();
    let root = OwnedFd::from(File::open(place.layer()).unwrap());
    let target = Target { root: &root, below: &[], style: Style::User };
    let path = place.0.join("skeleton");
    let skeleton = Skeleton::new(File::create_new(&path).unwrap());
    let mut entries = Entries::new(archive.as_slice(), skeleton);
    unpack(&mut entries, &target).unwrap();
    entries.finish().unwrap();

    let mut again = Vec::new();
    rebuild(File::open(&path).unwrap(), root.as_fd(), &mut again).unwrap();
    assert!(again == archive, "{} bytes, not {}", again.len(), archive.len());

    fs::write(place.layer().join("d/f"), "changed").unwrap();
    let error = rebuild(File::open(&path).unwrap(), root.as_fd(), &mut again).unwrap_err();
    assert!(error.to_string().contains("no longer"), "{error}");
}
