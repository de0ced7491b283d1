//! The numbers that the calls of a profile have on an architecture.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSyscall};

/// Where ARM's own calls (`cacheflush`, `set_tls`) start, far above the common table.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// `socketcall` and `ipc` of 32-bit x86.
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// The numbers that the calls of `socketcall` have had of their own since Linux 4.3; in the order of
/// `SYS_SOCKET` and so on in `linux/net.h`.
const DIRECT_SOCKET: [Option<u32>; 20] = [
    Some(359), // socket
    Some(361), // bind
    Some(362), // connect
    Some(363), // listen
    None,      // accept
    Some(367), // getsockname
    Some(368), // getpeername
    Some(360), // socketpair
    None,      // send
    None,      // recv
    Some(369), // sendto
    Some(371), // recvfrom
    Some(373), // shutdown
    Some(366), // setsockopt
    Some(365), // getsockopt
    Some(370), // sendmsg
    Some(372), // recvmsg
    Some(364), // accept4
    Some(337), // recvmmsg
    Some(345), // sendmmsg
];

/// The calls of `ipc` by their number in `linux/ipc.h`, and the ones of their own since Linux 5.1.
const DIRECT_IPC: [(u32, Option<u32>); 12] = [
    (1, None),       // semop
    (2, Some(393)),  // semget
    (3, Some(394)),  // semctl
    (4, None),       // semtimedop
    (11, Some(400)), // msgsnd
    (12, Some(401)), // msgrcv
    (13, Some(399)), // msgget
    (14, Some(402)), // msgctl
    (21, Some(397)), // shmat
    (22, Some(398)), // shmdt
    (23, Some(395)), // shmget
    (24, Some(396)), // shmctl
];

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// By its number.
    Number(u32),
    /// By another call's number with a selector as first argument, or by one of its own.
    Through { number: u32, selector: u32, direct: Option<u32> },
}

/// The calls of each entry of a profile, on one architecture.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) name: Arch,
    pub(super) arch: ScmpArch,
    pub(super) calls: Vec<Vec<Call>>,
}

impl Numbers {
    /// Looks all names up. What the architecture does not have is left out: profiles are written
    /// for all of them.
    pub(super) fn new(syscalls: &[LinuxSyscall], (name, arch): (Arch, ScmpArch)) -> Self {
        let find = |name: &String| {
            let found = ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall();
            call(found, arch)
        };
        let calls = syscalls.iter().map(|rule| rule.names().iter().filter_map(find).collect());
        Self { name, arch, calls: calls.collect() }
    }

    /// The highest number that the profile names; `None` if it has none of them.
    pub(super) fn newest(&self) -> Option<u32> {
        let number = |call: &Call| match *call {
            Call::Number(number) => Some(number),
            // Which of the two ways the author knew cannot be told.
            Call::Through { .. } => None,
        };
        let numbers = self.calls.iter().flatten().filter_map(number);
        // A profile that allows ARM's own calls says nothing about how new it is.
        numbers.filter(|nr| self.arch != ScmpArch::Arm || *nr < ARM_PRIVATE).max()
    }
}

/// Negative numbers are libseccomp's own: for calls of other architectures, and on 32-bit x86 for
/// those that go through another one, 100 or 200 and the selector.
fn call(found: i32, arch: ScmpArch) -> Option<Call> {
    if let Ok(number) = u32::try_from(found) {
        return Some(Call::Number(number));
    }
    if arch != ScmpArch::X86 {
        return None;
    }
    let selector = found.unsigned_abs();
    match (selector / 100, selector % 100) {
        (1, selector) => {
            let index = usize::try_from(selector).ok()?.checked_sub(1)?;
            let direct = *DIRECT_SOCKET.get(index)?;
            Some(Call::Through { number: SOCKETCALL, selector, direct })
        }
        (2, selector) => {
            let (_, direct) = *DIRECT_IPC.iter().find(|(known, _)| *known == selector)?;
            Some(Call::Through { number: IPC, selector, direct })
        }
        _ => None,
    }
}
