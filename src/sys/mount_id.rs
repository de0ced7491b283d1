//! Which mount is which: the numbers that the kernel gives them.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// nix and libc have no name for it everywhere. Linux 6.8.
const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;

/// The numbers of one mount, the same while it is detached and once it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountId {
    /// As in mountinfo. The next mount may get it when this one has gone.
    pub number: u64,
    /// Given to no other mount until the next boot; only Linux 6.8 and later tell.
    pub unique: Option<u64>,
}

impl MountId {
    /// The mount that an open file or directory lies in.
    ///
    /// # Errors
    /// `EOPNOTSUPP` before Linux 5.8. Source: statx(2), STATX_MNT_ID.
    pub fn of(file: impl AsFd) -> nix::Result<Self> {
        let number = statx(&file, libc::STATX_MNT_ID)?.ok_or(Errno::EOPNOTSUPP)?;
        Ok(Self { number, unique: statx(&file, STATX_MNT_ID_UNIQUE)? })
    }
}

/// One of the two numbers, if this kernel knows what is asked.
fn statx(file: &impl AsFd, what: libc::c_uint) -> nix::Result<Option<u64>> {
    // SAFETY: all-zero is a valid statx.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (fd, out) = (file.as_fd().as_raw_fd(), &raw mut stat);
    // SAFETY: the path is an empty C string, `out` one statx that lives during the call.
    let ret = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, what, out) };
    Errno::result(ret)?;
    Ok((stat.stx_mask & what != 0).then_some(stat.stx_mnt_id))
}
