//! The option words of a mount: one table, from word to what the kernel is told.
//!
//! A word that is not in the table is data for the filesystem. Nothing here looks at the kind
//! of the mount; `oci::validate` does.
//!
//! Source: runtime-spec `config.md`, *Linux mount options*; mount(2), mount_setattr(2).

use nix::mount::MsFlags;

/// What one word does.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// `defaults`: the word is known and changes nothing.
    Nothing,
    /// Adds a flag of mount(2).
    Set(MsFlags),
    /// Removes a flag of mount(2), and remembers that it was asked to be off.
    Clear(MsFlags),
    /// Adds `MOUNT_ATTR_*` bits to the whole tree.
    SetRecursive(u64),
    /// Removes `MOUNT_ATTR_*` bits from the whole tree.
    ClearRecursive(u64),
    /// Chooses how access times are kept in the whole tree (a field of attributes, not a bit).
    AtimeRecursive(u64),
    /// Takes that choice back.
    ClearAtimeRecursive(u64),
    /// Changes the propagation, with a mount(2) call of its own.
    Propagate(MsFlags),
    /// Makes it a bind mount.
    Bind(Bind),
    /// Changes an existing mount.
    Remount,
    /// Copies what the mount hides into the new tmpfs.
    TmpCopyUp,
    /// Maps the ids of the mount.
    Map(IdMap),
}

/// Whether the source is a path to attach instead of a filesystem to make, from less to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Bind {
    /// A new filesystem.
    #[default]
    No,
    /// `bind`: the mount at the source alone.
    Single,
    /// `rbind`: the source with everything mounted below it.
    Recursive,
}

/// Whether the mount's ids are mapped (`MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdMap {
    /// Not by an option; a mount with mappings of its own is mapped all the same.
    #[default]
    No,
    /// `idmap`: the mount alone.
    Single,
    /// `ridmap`: the whole tree.
    Recursive,
}

/// What the options of one mount ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Flags of mount(2) that are on: neither `MS_BIND`, `MS_REC`, `MS_REMOUNT` nor propagation.
    pub flags: MsFlags,
    /// Flags of mount(2) that a word turned off and no later word turned on.
    pub cleared: MsFlags,
    /// `MOUNT_ATTR_*` bits to set on the whole tree with mount_setattr(2).
    pub recursive_set: u64,
    /// `MOUNT_ATTR_*` bits to clear on the whole tree; all of `MOUNT_ATTR__ATIME` or none of it.
    pub recursive_clear: u64,
    /// Propagation changes in the order of their words, each one call, some with `MS_REC`.
    pub propagation: Vec<MsFlags>,
    /// Bind mount or new filesystem.
    pub bind: Bind,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`.
    pub tmpcopyup: bool,
    /// `idmap` or `ridmap`.
    pub idmap: IdMap,
    /// The words that are not in the table, in order: options of the filesystem.
    pub data: Vec<String>,
}

/// The access time flags exclude each other.
const ATIME: MsFlags =
    MsFlags::MS_NOATIME.union(MsFlags::MS_RELATIME).union(MsFlags::MS_STRICTATIME);
/// nix has no name for it. Linux 5.10.
const MS_NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW);

/// Every option word, sorted (the search depends on it). `carob features` prints this table, so
/// a new row is the whole change.
const OPTIONS: &[(&str, Effect)] = {
    use Effect::{
        AtimeRecursive, Clear, ClearAtimeRecursive, ClearRecursive, Map, Nothing, Propagate,
        Remount, Set, SetRecursive, TmpCopyUp,
    };
    &[
        ("async", Clear(MsFlags::MS_SYNCHRONOUS)),
        ("atime", Clear(MsFlags::MS_NOATIME)),
        ("bind", Effect::Bind(Bind::Single)),
        ("defaults", Nothing),
        ("dev", Clear(MsFlags::MS_NODEV)),
        ("diratime", Clear(MsFlags::MS_NODIRATIME)),
        ("dirsync", Set(MsFlags::MS_DIRSYNC)),
        ("exec", Clear(MsFlags::MS_NOEXEC)),
        ("idmap", Map(IdMap::Single)),
        ("iversion", Set(MsFlags::MS_I_VERSION)),
        ("lazytime", Set(MsFlags::MS_LAZYTIME)),
        ("loud", Clear(MsFlags::MS_SILENT)),
        ("mand", Set(MsFlags::MS_MANDLOCK)),
        ("noatime", Set(MsFlags::MS_NOATIME)),
        ("nodev", Set(MsFlags::MS_NODEV)),
        ("nodiratime", Set(MsFlags::MS_NODIRATIME)),
        ("noexec", Set(MsFlags::MS_NOEXEC)),
        ("noiversion", Clear(MsFlags::MS_I_VERSION)),
        ("nolazytime", Clear(MsFlags::MS_LAZYTIME)),
        ("nomand", Clear(MsFlags::MS_MANDLOCK)),
        ("norelatime", Clear(MsFlags::MS_RELATIME)),
        ("nostrictatime", Clear(MsFlags::MS_STRICTATIME)),
        ("nosuid", Set(MsFlags::MS_NOSUID)),
        ("nosymfollow", Set(MS_NOSYMFOLLOW)),
        ("private", Propagate(MsFlags::MS_PRIVATE)),
        ("ratime", ClearAtimeRecursive(libc::MOUNT_ATTR_NOATIME)),
        ("rbind", Effect::Bind(Bind::Recursive)),
        ("rdev", ClearRecursive(libc::MOUNT_ATTR_NODEV)),
        ("rdiratime", ClearRecursive(libc::MOUNT_ATTR_NODIRATIME)),
        ("relatime", Set(MsFlags::MS_RELATIME)),
        ("remount", Remount),
        ("rexec", ClearRecursive(libc::MOUNT_ATTR_NOEXEC)),
        ("ridmap", Map(IdMap::Recursive)),
        ("rnoatime", AtimeRecursive(libc::MOUNT_ATTR_NOATIME)),
        ("rnodev", SetRecursive(libc::MOUNT_ATTR_NODEV)),
        ("rnodiratime", SetRecursive(libc::MOUNT_ATTR_NODIRATIME)),
        ("rnoexec", SetRecursive(libc::MOUNT_ATTR_NOEXEC)),
        ("rnorelatime", ClearAtimeRecursive(libc::MOUNT_ATTR_RELATIME)),
        ("rnostrictatime", ClearAtimeRecursive(libc::MOUNT_ATTR_STRICTATIME)),
        ("rnosuid", SetRecursive(libc::MOUNT_ATTR_NOSUID)),
        ("rnosymfollow", SetRecursive(libc::MOUNT_ATTR_NOSYMFOLLOW)),
        ("ro", Set(MsFlags::MS_RDONLY)),
        ("rprivate", Propagate(MsFlags::MS_PRIVATE.union(MsFlags::MS_REC))),
        ("rrelatime", AtimeRecursive(libc::MOUNT_ATTR_RELATIME)),
        ("rro", SetRecursive(libc::MOUNT_ATTR_RDONLY)),
        ("rrw", ClearRecursive(libc::MOUNT_ATTR_RDONLY)),
        ("rshared", Propagate(MsFlags::MS_SHARED.union(MsFlags::MS_REC))),
        ("rslave", Propagate(MsFlags::MS_SLAVE.union(MsFlags::MS_REC))),
        ("rstrictatime", AtimeRecursive(libc::MOUNT_ATTR_STRICTATIME)),
        ("rsuid", ClearRecursive(libc::MOUNT_ATTR_NOSUID)),
        ("rsymfollow", ClearRecursive(libc::MOUNT_ATTR_NOSYMFOLLOW)),
        ("runbindable", Propagate(MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC))),
        ("rw", Clear(MsFlags::MS_RDONLY)),
        ("shared", Propagate(MsFlags::MS_SHARED)),
        ("silent", Set(MsFlags::MS_SILENT)),
        ("slave", Propagate(MsFlags::MS_SLAVE)),
        ("strictatime", Set(MsFlags::MS_STRICTATIME)),
        ("suid", Clear(MsFlags::MS_NOSUID)),
        ("symfollow", Clear(MS_NOSYMFOLLOW)),
        ("sync", Set(MsFlags::MS_SYNCHRONOUS)),
        ("tmpcopyup", TmpCopyUp),
        ("unbindable", Propagate(MsFlags::MS_UNBINDABLE)),
    ]
};

/// The flags of mount(2) that belong to one mount, and their `MOUNT_ATTR_*` bit.
const ATTRIBUTES: &[(MsFlags, u64)] = &[
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
    (MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// The flags of mount(2) that belong to the filesystem, and their words for fsconfig(2).
const SUPERBLOCK: &[(MsFlags, &str)] = &[
    (MsFlags::MS_RDONLY, "ro"),
    (MsFlags::MS_SYNCHRONOUS, "sync"),
    (MsFlags::MS_DIRSYNC, "dirsync"),
    (MsFlags::MS_MANDLOCK, "mand"),
    (MsFlags::MS_LAZYTIME, "lazytime"),
];

/// Every word of the table, sorted.
pub fn words() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(word, _)| *word)
}

/// Reads the options of one mount; a later word overrides an earlier one.
pub fn parse(options: &[String]) -> MountOptions {
    let mut parsed = MountOptions::default();
    for word in options {
        match OPTIONS.binary_search_by(|(known, _)| (*known).cmp(word)) {
            Ok(row) => parsed.apply(OPTIONS[row].1),
            Err(_) => parsed.data.push(word.clone()),
        }
    }
    parsed
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            flags: MsFlags::empty(),
            cleared: MsFlags::empty(),
            recursive_set: 0,
            recursive_clear: 0,
            propagation: Vec::new(),
            bind: Bind::No,
            remount: false,
            tmpcopyup: false,
            idmap: IdMap::No,
            data: Vec::new(),
        }
    }
}

impl MountOptions {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Set(flag) => {
                if ATIME.contains(flag) {
                    self.flags.remove(ATIME);
                }
                self.flags.insert(flag);
                self.cleared.remove(flag);
            }
            Effect::Clear(flag) => {
                self.flags.remove(flag);
                self.cleared.insert(flag);
            }
            Effect::SetRecursive(bits) => {
                self.recursive_set |= bits;
                self.recursive_clear &= !bits;
            }
            Effect::ClearRecursive(bits) => {
                self.recursive_set &= !bits;
                self.recursive_clear |= bits;
            }
            Effect::AtimeRecursive(mode) => {
                self.recursive_set = (self.recursive_set & !libc::MOUNT_ATTR__ATIME) | mode;
                self.recursive_clear |= libc::MOUNT_ATTR__ATIME;
            }
            Effect::ClearAtimeRecursive(mode) => {
                // The field then holds 0, relatime, which is the kernel's default.
                if self.recursive_set & libc::MOUNT_ATTR__ATIME == mode {
                    self.recursive_set &= !libc::MOUNT_ATTR__ATIME;
                }
                self.recursive_clear |= libc::MOUNT_ATTR__ATIME;
            }
            Effect::Propagate(flags) => self.propagation.push(flags),
            // CRI-O puts `bind` after its own `rbind`, and wants what is mounted below.
            Effect::Bind(bind) => self.bind = self.bind.max(bind),
            Effect::Remount => self.remount = true,
            Effect::TmpCopyUp => self.tmpcopyup = true,
            Effect::Map(idmap) => self.idmap = idmap,
        }
    }

    /// `flags` as `MOUNT_ATTR_*` bits, for fsmount(2) or as `attr_set` of mount_setattr(2).
    pub fn attributes(&self) -> u64 {
        let atime = if self.flags.contains(MsFlags::MS_STRICTATIME) {
            libc::MOUNT_ATTR_STRICTATIME
        } else if self.flags.contains(MsFlags::MS_NOATIME) {
            libc::MOUNT_ATTR_NOATIME
        } else {
            libc::MOUNT_ATTR_RELATIME
        };
        bits_of(self.flags) | atime
    }

    /// What mount_setattr(2) has to clear so that an existing mount gets [`Self::attributes`]
    /// and loses what was `cleared`. Only what a word named is touched.
    pub fn attributes_cleared(&self) -> u64 {
        let atime = if self.flags.union(self.cleared).intersects(ATIME) {
            libc::MOUNT_ATTR__ATIME
        } else {
            0
        };
        bits_of(self.cleared) | atime
    }

    /// What mount_setattr(2) has to set and to clear of a bind mount: as with a remount by mount(2),
    /// any word for a flag says all of them but those of access times, which stay as they are at
    /// the source until a word turns one on. `None` if no word is for a flag.
    pub fn replacement(&self) -> Option<(u64, u64)> {
        let named = self.flags.union(self.cleared);
        if bits_of(named) == 0 && !named.intersects(ATIME) {
            return None;
        }
        let atime = ATIME.union(MsFlags::MS_NODIRATIME);
        let plain = ATTRIBUTES.iter().filter(|(flag, _)| *flag != MsFlags::MS_NODIRATIME);
        let clear = plain.fold(0, |all, (_, bit)| all | bit);
        Some(if self.flags.intersects(atime) {
            let clear = clear | libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
            (self.attributes(), clear)
        } else {
            (bits_of(self.flags), clear)
        })
    }

    /// As [`Self::replacement`], in a user namespace that is not the mount's: of the flags at the
    /// source, which are locked there, those stay that no word turns off.
    pub fn replacement_of_locked(&self) -> Option<(u64, u64)> {
        const NEVER_LOCKED: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
        let (set, clear) = self.replacement()?;
        let atime = clear & (libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME);
        let cleared = self.cleared.difference(MsFlags::MS_NODIRATIME);
        Some((set, bits_of(cleared) | NEVER_LOCKED | atime))
    }

    /// The flags of the filesystem itself, as words for fsconfig(2) `FSCONFIG_SET_FLAG`.
    pub fn superblock_flags(&self) -> impl Iterator<Item = &'static str> + use<> {
        let flags = self.flags;
        SUPERBLOCK.iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, word)| *word)
    }

    /// Whether the tree needs a mount_setattr(2) with `AT_RECURSIVE`.
    pub fn is_recursive(&self) -> bool {
        self.recursive_set | self.recursive_clear != 0
    }
}

fn bits_of(flags: MsFlags) -> u64 {
    ATTRIBUTES.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |all, (_, bit)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_words(words: &str) -> MountOptions {
        parse(&words.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_sorted_and_has_no_word_twice() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(words().count(), OPTIONS.len());
    }

    #[test]
    fn a_word_for_one_flag_of_a_bind_mount_is_for_all() {
        use libc::{
            MOUNT_ATTR__ATIME as ATIME_FIELD, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV,
            MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW,
            MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
        };
        let plain = MOUNT_ATTR_RDONLY
            | MOUNT_ATTR_NOSUID
            | MOUNT_ATTR_NODEV
            | MOUNT_ATTR_NOEXEC
            | MOUNT_ATTR_NOSYMFOLLOW;
        let all = plain | ATIME_FIELD | MOUNT_ATTR_NODIRATIME;
        let atime = ATIME_FIELD | MOUNT_ATTR_NODIRATIME;
        let kept = MOUNT_ATTR_NOSYMFOLLOW;
        for (words, replacement, of_locked) in [
            ("bind rprivate rro idmap", None, None),
            ("bind dev", Some((0, plain)), Some((0, MOUNT_ATTR_NODEV | kept))),
            ("ro", Some((MOUNT_ATTR_RDONLY, plain)), Some((MOUNT_ATTR_RDONLY, kept))),
            ("atime", Some((0, plain)), Some((0, kept))),
            ("noatime", Some((MOUNT_ATTR_NOATIME, all)), Some((MOUNT_ATTR_NOATIME, kept | atime))),
            (
                "nodiratime",
                Some((MOUNT_ATTR_NODIRATIME, all)),
                Some((MOUNT_ATTR_NODIRATIME, kept | atime)),
            ),
            (
                "nodev strictatime",
                Some((MOUNT_ATTR_NODEV | MOUNT_ATTR_STRICTATIME, all)),
                Some((MOUNT_ATTR_NODEV | MOUNT_ATTR_STRICTATIME, kept | atime)),
            ),
        ] {
            let options = parse_words(words);
            assert_eq!(options.replacement(), replacement, "{words}");
            assert_eq!(options.replacement_of_locked(), of_locked, "{words}");
        }
    }

    #[test]
    fn flags_follow_the_last_word() {
        use MsFlags as F;
        let cases = [
            ("", F::empty(), F::empty()),
            ("defaults", F::empty(), F::empty()),
            ("ro nosuid", F::MS_RDONLY | F::MS_NOSUID, F::empty()),
            ("ro rw", F::empty(), F::MS_RDONLY),
            ("rw ro", F::MS_RDONLY, F::empty()),
            ("noexec exec noexec", F::MS_NOEXEC, F::empty()),
            ("suid dev", F::empty(), F::MS_NOSUID | F::MS_NODEV),
            ("noatime strictatime", F::MS_STRICTATIME, F::empty()),
            ("strictatime relatime", F::MS_RELATIME, F::empty()),
            ("noatime atime", F::empty(), F::MS_NOATIME),
            ("sync async dirsync", F::MS_DIRSYNC, F::MS_SYNCHRONOUS),
            ("silent loud", F::empty(), F::MS_SILENT),
            ("nosymfollow", MS_NOSYMFOLLOW, F::empty()),
        ];
        for (words, flags, cleared) in cases {
            let parsed = parse_words(words);
            assert_eq!((parsed.flags, parsed.cleared), (flags, cleared), "{words}");
        }
    }

    #[test]
    fn recursive_words_become_attributes() {
        const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
        let cases = [
            ("rro", libc::MOUNT_ATTR_RDONLY, 0),
            ("rro rrw", 0, libc::MOUNT_ATTR_RDONLY),
            ("rnosuid rnodev", libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, 0),
            ("rnoatime", libc::MOUNT_ATTR_NOATIME, ATIME),
            ("rnoatime rstrictatime", libc::MOUNT_ATTR_STRICTATIME, ATIME),
            ("rstrictatime rrelatime", 0, ATIME),
            ("rnoatime ratime", 0, ATIME),
            ("rnoatime rnostrictatime", libc::MOUNT_ATTR_NOATIME, ATIME),
            ("rnoatime rnorelatime", libc::MOUNT_ATTR_NOATIME, ATIME),
            ("rnodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
            ("rnosymfollow rsymfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
        ];
        for (words, set, clear) in cases {
            let parsed = parse_words(words);
            assert_eq!((parsed.recursive_set, parsed.recursive_clear), (set, clear), "{words}");
            assert!(parsed.is_recursive(), "{words}");
            assert!(parsed.flags.is_empty(), "{words}");
        }
    }

    #[test]
    fn words_that_are_not_flags() {
        let parsed = parse_words("rbind rprivate slave mode=755 idmap size=64k tmpcopyup remount");
        assert_eq!(parsed.bind, Bind::Recursive);
        assert_eq!(
            parsed.propagation,
            [MsFlags::MS_PRIVATE | MsFlags::MS_REC, MsFlags::MS_SLAVE],
            "in the order of the words"
        );
        assert_eq!(parsed.data, ["mode=755", "size=64k"]);
        assert_eq!(parsed.idmap, IdMap::Single);
        assert!(parsed.tmpcopyup && parsed.remount);
        assert!(parsed.flags.is_empty());
        assert_eq!(parse_words("rbind bind").bind, Bind::Recursive, "nothing takes `rbind` back");
        assert_eq!(parse_words("bind rbind").bind, Bind::Recursive);
        assert_eq!(parse_words("idmap ridmap").idmap, IdMap::Recursive);
    }

    #[test]
    fn attributes_for_the_fd_based_calls() {
        let parsed = parse_words("ro nosuid nodev noexec noatime suid lazytime");
        assert_eq!(
            parsed.attributes(),
            libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC
                | libc::MOUNT_ATTR_NOATIME
        );
        assert_eq!(parsed.attributes_cleared(), libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR__ATIME);
        assert_eq!(parsed.superblock_flags().collect::<Vec<_>>(), ["ro", "lazytime"]);
        assert_eq!(parse_words("nosuid").attributes_cleared(), 0, "atime was not named");
    }

    proptest! {
        #[test]
        fn kernel_rules_hold_for_any_words(
            picks in prop::collection::vec(0..OPTIONS.len() + 1, 0..12)
        ) {
            let words: Vec<String> = picks
                .iter()
                .map(|i| OPTIONS.get(*i).map_or("uid=0", |row| row.0).to_owned())
                .collect();
            let parsed = parse(&words);
            let atime = parsed.recursive_clear & libc::MOUNT_ATTR__ATIME;
            prop_assert!(atime == 0 || atime == libc::MOUNT_ATTR__ATIME);
            let others = !libc::MOUNT_ATTR__ATIME;
            prop_assert_eq!(parsed.recursive_set & parsed.recursive_clear & others, 0);
            prop_assert!((parsed.flags & parsed.cleared).is_empty());
            prop_assert!((parsed.flags & ATIME).iter().count() <= 1);
            prop_assert_eq!(parsed.data.len(), words.iter().filter(|w| *w == "uid=0").count());
        }
    }
}
