//! A file that takes the place of another one.

use std::fs;
use std::io;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;

/// Puts `new` in the place of `old`, if there is one: whoever opens `old` gets the one or the other.
/// For what need not outlive a loss of power. Killed in the middle, it leaves the old content in `new`,
/// which somebody may be reading.
///
/// ext4 writes a file to the disk when rename(2) lets it replace another one (`auto_da_alloc`), and
/// frees the blocks again when it is removed; two names that are exchanged cost neither.
///
/// # Errors
/// What rename(2) says; nothing is replaced then.
pub fn replace(new: &Path, old: &Path) -> io::Result<()> {
    match exchange(new, old) {
        // Done, whatever becomes of what was replaced.
        Ok(()) => {
            let _left = fs::remove_file(new);
            Ok(())
        }
        // There is none yet, or the file system cannot; whatever else it is, this tells.
        Err(_) => fs::rename(new, old),
    }
}

fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    let done = one.with_nix_path(|one| {
        other.with_nix_path(|other| {
            let (here, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
            let (one, other) = (one.as_ptr(), other.as_ptr());
            // Not in the C library that carob is linked with.
            // SAFETY: both are paths that end with a zero byte.
            unsafe { libc::syscall(libc::SYS_renameat2, here, one, here, other, flags) }
        })
    })??;
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_one_is_where_the_old_one_was_or_was_not() {
        let dir = std::env::temp_dir().join(format!("carob-replace-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        let (new, old) = (dir.join("new"), dir.join("old"));
        for text in ["first", "second", "third"] {
            fs::write(&new, text).unwrap();
            replace(&new, &old).unwrap();
            assert_eq!(fs::read_to_string(&old).unwrap(), text);
            assert!(!new.exists(), "{text}");
        }
        let error = replace(&new, &old).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_to_string(&old).unwrap(), "third");
        fs::remove_dir_all(dir).unwrap();
    }
}
