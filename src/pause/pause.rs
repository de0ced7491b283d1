//! `carob-pause`: the first process of a pod. It holds the pod's namespaces, reaps the orphans that
//! come to it as the first process of a shared pid namespace, and ends at SIGTERM or SIGINT.
//!
//! No library and no allocation: a few kilobytes of file, and in memory what the kernel needs for
//! a process at all. It sleeps in one system call and nothing but a signal wakes it.

#![no_std]
#![no_main]

use core::arch::asm;
use core::ptr::null;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT: usize = 60;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT: usize = 93;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

/// The kernel's signal set. In memory: it is named to the kernel by its address.
static AWAITED: u64 = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);

const fn bit(signal: isize) -> u64 {
    1 << (signal - 1)
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let set = (&raw const AWAITED).addr();
    // Blocked, they reach even the first process of a namespace, and wait until they are asked for.
    call(number::RT_SIGPROCMASK, [SIG_BLOCK, set, null::<u64>().addr(), size_of::<u64>()]);
    loop {
        let forever = null::<u64>().addr();
        match call(number::RT_SIGTIMEDWAIT, [set, 0, forever, size_of::<u64>()]) {
            SIGINT | SIGTERM => exit(),
            // One SIGCHLD may stand for many.
            SIGCHLD => while call(number::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) > 0 {},
            // Stopped and continued.
            _ => {}
        }
    }
}

fn exit() -> ! {
    loop {
        call(number::EXIT, [0; 4]);
    }
}

/// A system call with four arguments; negative results are errors.
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the four calls above take integers, null, or the address of a static set, which the
    // kernel only reads; registers are those of the system call convention.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
            in("x3") d, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    exit()
}
