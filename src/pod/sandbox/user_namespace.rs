//! Host ids for pods with a user namespace: blocks that no two pods share.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, OsContext, Result};

/// Ids in one block; container ids 0 to 65535.
pub const IDS: u32 = 65_536;

/// The right to choose a block below a state root: held until the choice is on disk. A lock of its
/// own, for others are held for as long as a volume takes to be removed.
///
/// # Errors
/// [`Error::Os`].
pub fn lock_bases(root: &Path) -> Result<Flock<File>> {
    let dir = File::open(root).os("open", || root.display())?;
    Flock::lock(dir, FlockArg::LockExclusive)
        .map_err(|(_dir, errno)| errno)
        .os("lock", || root.display())
}

/// The lowest block that none of `in_use` is in. The first block, the host's own ids, is never
/// given. Whoever calls it holds [`lock_bases`].
///
/// # Errors
/// [`Error::Unsupported`] if there is none: 65534 pods.
pub fn lowest_free_base(in_use: impl IntoIterator<Item = u32>) -> Result<u32> {
    let taken: BTreeSet<u32> = in_use.into_iter().map(|base| base / IDS).collect();
    // The last id of the last block would be -1, which means "none".
    (1..u32::MAX / IDS)
        .find(|block| !taken.contains(block))
        .map(|block| block * IDS)
        .ok_or_else(|| Error::Unsupported("no block of 65536 host ids is left for the pod".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_block_that_nobody_has() {
        for (in_use, expected) in [
            (vec![], 65_536),
            (vec![65_536], 131_072),
            (vec![131_072], 65_536),
            (vec![196_608, 65_536, 131_072], 262_144),
            // Not on a boundary: of another allocator.
            (vec![70_000], 131_072),
        ] {
            assert_eq!(lowest_free_base(in_use.clone()).unwrap(), expected, "{in_use:?}");
        }
        assert_eq!(lowest_free_base((1..65_534).map(|n| n * IDS)).unwrap(), 65_534 * IDS);
        assert!(lowest_free_base((1..65_535).map(|n| n * IDS)).is_err());
    }
}
