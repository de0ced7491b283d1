//! The floor: what the kernel alone needs for the benchmark's container.
//!
//! It makes the container of `runc spec` without a terminal, and joins one, with nothing but the
//! system calls for it: no configuration is read, no state is kept, nothing is checked. It is a
//! yardstick and not a runtime: mount points must exist, and the paths are those of the benchmark.
//!
//! ```text
//! floor run  ROOTFS CGROUP CPUS MEMS HIERARCHY... -- PROGRAM [ARG...]
//! floor exec PID    CGROUP CPUS MEMS HIERARCHY... -- PROGRAM [ARG...]
//! floor probes COUNT PID -- PROGRAM [ARG...]    executes it COUNT times in a container, bare
//! floor rss  COMMAND [ARG...]     prints the peak RSS of the command and its children, KiB
//! floor reap COMMAND [ARG...]     reaps the containers that the command leaves, as init does
//! ```
//! `HIERARCHY` is a directory of `/sys/fs/cgroup`. `unified` is the cgroup v2 tree of a hybrid host
//! and `.` that of a pure v2 host, which has no device controller that could be written to; the
//! floor leaves devices out there, which makes it lower than it should be.
//!
//! It has no dependency and no runtime of its own, so that its start costs next to nothing.

#![no_main]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::ptr::{null, null_mut};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn write(fd: c_int, data: *const c_void, length: usize) -> isize;
    fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int;
    fn mknodat(dir: c_int, path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int;
    fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_char,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn chdir(path: *const c_char) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn setsid() -> c_int;
    fn setns(fd: c_int, flags: c_int) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn capset(header: *const [u32; 2], data: *const [u32; 6]) -> c_int;
    fn umask(mask: c_uint) -> c_uint;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> c_int;
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut [c_long; 18]) -> c_int;
    fn fork() -> c_int;
    fn _exit(status: c_int) -> !;
    fn perror(what: *const c_char);
    fn __errno_location() -> *mut c_int;
}

/// Memory is handed out once and never taken back: `malloc` would make system calls.
struct Bump(UnsafeCell<(usize, [u128; 4096])>);

// SAFETY: the program has one thread.
unsafe impl Sync for Bump {}

// SAFETY: every block is aligned, inside of the array, and given to one caller only.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no reference outlives a call.
        let (used, memory) = unsafe { &mut *self.0.get() };
        let at = used.next_multiple_of(layout.align());
        *used = at + layout.size();
        if *used > size_of_val(memory) || layout.align() > align_of::<u128>() {
            return null_mut();
        }
        memory.as_mut_ptr().cast::<u8>().wrapping_add(at)
    }

    unsafe fn dealloc(&self, _memory: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump(UnsafeCell::new((0, [0; 4096])));

#[cfg(target_arch = "x86_64")]
const SYS_SETGROUPS: c_long = 116;
#[cfg(target_arch = "aarch64")]
const SYS_SETGROUPS: c_long = 159;
const SYS_CLONE3: c_long = 435;
const SYS_PIDFD_OPEN: c_long = 434;
const SYS_MOUNT_SETATTR: c_long = 442;
#[cfg(target_arch = "x86_64")]
const SYS_PIVOT_ROOT: c_long = 155;
#[cfg(target_arch = "aarch64")]
const SYS_PIVOT_ROOT: c_long = 41;
#[cfg(target_arch = "x86_64")]
const SYS_KEYCTL: c_long = 250;
#[cfg(target_arch = "aarch64")]
const SYS_KEYCTL: c_long = 219;

const AT_FDCWD: c_int = -100;
const AT_REMOVEDIR: c_int = 0x200;
const AT_RECURSIVE: c_uint = 0x8000;
const O_WRONLY: c_int = 1;
const O_PATH: c_int = 0o10_000_000;
const O_CLOEXEC: c_int = 0o2_000_000;
const ENOENT: c_int = 2;
const ENOTDIR: c_int = 20;

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;

const MS_RDONLY: c_ulong = 1;
const MS_NOSUID: c_ulong = 2;
const MS_NODEV: c_ulong = 4;
const MS_NOEXEC: c_ulong = 8;
const MS_BIND: c_ulong = 4096;
const MS_REC: c_ulong = 16384;
const MS_SLAVE: c_ulong = 1 << 19;
const MS_STRICTATIME: c_ulong = 1 << 24;
const NO: c_ulong = MS_NOSUID | MS_NODEV | MS_NOEXEC;
const MNT_DETACH: c_int = 2;
/// The same bits as attributes of mount_setattr(2).
const ATTR_RDONLY: u64 = 1;
const ATTR_NO: u64 = 2 | 4 | 8;

/// AUDIT_WRITE, KILL, NET_BIND_SERVICE.
const CAPABILITIES: u32 = 1 << 29 | 1 << 5 | 1 << 10;
const DEVICES: [(&CStr, u64, u64); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
/// What every runtime allows however the configuration reads.
const DEVICE_RULES: [&CStr; 10] = [
    c"c *:* m",
    c"b *:* m",
    c"c 1:3 rwm",
    c"c 1:5 rwm",
    c"c 1:7 rwm",
    c"c 1:8 rwm",
    c"c 1:9 rwm",
    c"c 5:0 rwm",
    c"c 5:2 rwm",
    c"c 136:* rwm",
];
const SYMLINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];
const MASKED: [&CStr; 10] = [
    c"proc/acpi",
    c"proc/asound",
    c"proc/kcore",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
    c"sys/firmware",
    c"proc/scsi",
];
const READ_ONLY: [&CStr; 5] =
    [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];
const ENV: [&CStr; 2] =
    [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"TERM=xterm"];

/// Ends the program, with the errno, unless the call went well.
fn check(result: impl Into<i64>, what: &CStr) -> c_int {
    let result = result.into();
    if result < 0 {
        // SAFETY: `what` is a C string.
        unsafe { perror(what.as_ptr()) };
        // SAFETY: does not return.
        unsafe { _exit(125) }
    }
    c_int::try_from(result).unwrap_or(c_int::MAX)
}

fn errno() -> c_int {
    // SAFETY: the C library's location is valid in every thread.
    unsafe { *__errno_location() }
}

/// The cgroup: its directory in each hierarchy, relative to `/sys/fs/cgroup`.
struct Cgroup {
    cpus: CString,
    mems: CString,
    /// Directory of the hierarchy, directory of the cgroup.
    v1: Vec<(CString, CString)>,
    unified: Option<CString>,
}

fn text(parts: &[&[u8]]) -> CString {
    CString::new(parts.concat()).unwrap_or_default()
}

impl Cgroup {
    fn new(args: &[&CStr]) -> Self {
        let name = args[0].to_bytes();
        let mut new =
            Self { cpus: args[1].into(), mems: args[2].into(), v1: Vec::new(), unified: None };
        for hierarchy in &args[3..] {
            let hierarchy = hierarchy.to_bytes();
            let dir = text(&[b"/sys/fs/cgroup/", hierarchy, b"/", name]);
            if matches!(hierarchy, b"unified" | b".") {
                new.unified = Some(dir);
            } else {
                new.v1.push((text(&[hierarchy]), dir));
            }
        }
        new
    }

    fn dirs(&self) -> impl Iterator<Item = &CString> {
        self.v1.iter().map(|(_, dir)| dir).chain(&self.unified)
    }

    fn make(&self) {
        for dir in self.dirs() {
            // SAFETY: a C string.
            check(unsafe { mkdirat(AT_FDCWD, dir.as_ptr(), 0o755) }, dir);
        }
        for (hierarchy, dir) in &self.v1 {
            match hierarchy.to_bytes() {
                b"cpuset" => {
                    put(dir, b"/cpuset.cpus", &[&self.cpus]);
                    put(dir, b"/cpuset.mems", &[&self.mems]);
                }
                b"devices" => {
                    put(dir, b"/devices.deny", &[c"a"]);
                    put(dir, b"/devices.allow", &DEVICE_RULES);
                }
                _ => {}
            }
        }
    }

    fn enter(&self) {
        for (_, dir) in &self.v1 {
            put(dir, b"/tasks", &[c"0"]);
        }
    }

    fn remove(&self) {
        for dir in self.dirs() {
            // SAFETY: a C string.
            check(unsafe { unlinkat(AT_FDCWD, dir.as_ptr(), AT_REMOVEDIR) }, dir);
        }
    }

    /// Clones a child into the unified cgroup; 0 in the child.
    fn clone(&self, flags: u64) -> c_int {
        // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        // set_tid_size, cgroup
        let mut args: [u64; 11] = [flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0];
        if let Some(dir) = &self.unified {
            // SAFETY: a C string.
            let fd = check(unsafe { openat(AT_FDCWD, dir.as_ptr(), O_PATH | O_CLOEXEC) }, dir);
            args[0] |= CLONE_INTO_CGROUP;
            args[10] = u64::from(fd.cast_unsigned());
        }
        // SAFETY: clone_args of the size given; without CLONE_VM the child has its own memory.
        check(unsafe { syscall(SYS_CLONE3, args.as_ptr(), size_of_val(&args)) }, c"clone3")
    }
}

/// Opens a file and writes each value; the descriptor stays open, which costs less than a close.
fn put(dir: &CStr, file: &[u8], values: &[&CStr]) {
    let path = text(&[dir.to_bytes(), file]);
    // SAFETY: a C string.
    let fd = check(unsafe { openat(AT_FDCWD, path.as_ptr(), O_WRONLY | O_CLOEXEC) }, &path);
    for value in values {
        let value = value.to_bytes();
        // SAFETY: pointer and length of a live slice.
        check(unsafe { write(fd, value.as_ptr().cast(), value.len()) } as i64, &path);
    }
}

/// mount(2); an empty string is a null pointer.
fn mount_on(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) -> c_int {
    let data = if data.is_empty() { null() } else { data.as_ptr() };
    // SAFETY: C strings, or null where the kernel takes none.
    unsafe { mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data) }
}

fn new_mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) {
    check(mount_on(source, target, kind, flags, data), target);
}

fn set_attributes(path: &CStr, set: u64, flags: c_uint) {
    let attr: [u64; 4] = [set, 0, 0, 0];
    let size = size_of_val(&attr);
    // SAFETY: a C string and a mount_attr of the size given.
    let done =
        unsafe { syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.as_ptr(), flags, attr.as_ptr(), size) };
    check(done, path);
}

fn make_dir(path: &CStr) {
    // SAFETY: a C string.
    check(unsafe { mkdirat(AT_FDCWD, path.as_ptr(), 0o755) }, path);
}

/// The mounts of `runc spec`; the working directory is the rootfs.
fn mounts(cgroup: &Cgroup) {
    let dev_flags = MS_NOSUID | MS_STRICTATIME;
    new_mount(c"proc", c"proc", c"proc", 0, c"");
    new_mount(c"tmpfs", c"dev", c"tmpfs", dev_flags, c"mode=755,size=65536k");
    make_dir(c"dev/pts");
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    new_mount(c"devpts", c"dev/pts", c"devpts", MS_NOSUID | MS_NOEXEC, pts);
    make_dir(c"dev/shm");
    new_mount(c"shm", c"dev/shm", c"tmpfs", NO, c"mode=1777,size=65536k");
    make_dir(c"dev/mqueue");
    new_mount(c"mqueue", c"dev/mqueue", c"mqueue", NO, c"");
    new_mount(c"sysfs", c"sys", c"sysfs", NO | MS_RDONLY, c"");
    if cgroup.v1.is_empty() {
        let Some(unified) = &cgroup.unified else { return };
        new_mount(unified, c"sys/fs/cgroup", c"", MS_BIND, c"");
    } else {
        new_mount(c"tmpfs", c"sys/fs/cgroup", c"tmpfs", NO, c"mode=755");
        for (hierarchy, dir) in &cgroup.v1 {
            let point = text(&[b"sys/fs/cgroup/", hierarchy.to_bytes()]);
            make_dir(&point);
            new_mount(dir, &point, c"", MS_BIND, c"");
        }
    }
    set_attributes(c"sys/fs/cgroup", ATTR_RDONLY | ATTR_NO, AT_RECURSIVE);
}

fn devices() {
    for (path, major, minor) in DEVICES {
        // SAFETY: a C string.
        let made = unsafe { mknodat(AT_FDCWD, path.as_ptr(), 0o020_666, major << 8 | minor) };
        check(made, path);
    }
    for (target, link) in SYMLINKS {
        // SAFETY: C strings.
        check(unsafe { symlinkat(target.as_ptr(), AT_FDCWD, link.as_ptr()) }, link);
    }
}

fn protect_paths() {
    for path in READ_ONLY {
        if mount_on(path, path, c"", MS_BIND | MS_REC, c"") == 0 {
            set_attributes(path, ATTR_RDONLY, 0);
        }
    }
    let mut empty: Option<&CStr> = None;
    for path in MASKED {
        if mount_on(c"/dev/null", path, c"", MS_BIND, c"") == 0 || errno() == ENOENT {
            continue;
        }
        if errno() != ENOTDIR {
            check(-1, path);
        }
        match empty {
            Some(empty) => new_mount(empty, path, c"", MS_BIND, c""),
            None => new_mount(c"tmpfs", path, c"tmpfs", MS_RDONLY, c"nr_blocks=1,nr_inodes=1"),
        }
        empty = Some(path);
    }
}

fn loopback_up() {
    const SIOCSIFFLAGS: c_ulong = 0x8914;
    // SAFETY: integers.
    let fd = check(unsafe { socket(2, 2 | O_CLOEXEC, 0) }, c"socket");
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1; // IFF_UP
    // SAFETY: an ifreq, which has 40 bytes.
    check(unsafe { ioctl(fd, SIOCSIFFLAGS, request.as_ptr()) }, c"lo");
}

/// The steps of `run` in the child up to the credentials.
fn build(rootfs: &CStr, cgroup: &Cgroup) {
    // SAFETY: no arguments.
    check(unsafe { setsid() }, c"setsid");
    cgroup.enter();
    loopback_up();
    // SAFETY: the name is a C string; the other four arguments are not used.
    check(unsafe { syscall(SYS_KEYCTL, 1, c"_ses.floor".as_ptr()) }, c"keyctl");
    new_mount(c"", c"/", c"", MS_SLAVE | MS_REC, c"");
    new_mount(rootfs, rootfs, c"", MS_BIND | MS_REC, c"");
    // SAFETY: a C string.
    check(unsafe { chdir(rootfs.as_ptr()) }, rootfs);
    // SAFETY: an integer.
    unsafe { umask(0) };
    mounts(cgroup);
    devices();
    // SAFETY: pointer and length of a live string.
    check(unsafe { sethostname(c"runc".as_ptr(), 4) }, c"sethostname");
    protect_paths();
    set_attributes(c".", ATTR_RDONLY, 0);
    // SAFETY: C strings.
    let switched = unsafe { syscall(SYS_PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()) };
    check(switched, c"pivot_root");
    // SAFETY: a C string.
    check(unsafe { umount2(c".".as_ptr(), MNT_DETACH) }, c"umount2");
}

/// Becomes the program, as the container's user with its rights.
fn become_program(args: &[&CStr]) -> ! {
    const PR_SET_NO_NEW_PRIVS: c_int = 38;
    const PR_CAPBSET_DROP: c_int = 24;
    let zero: c_ulong = 0;
    // SAFETY: integers.
    check(unsafe { prctl(PR_SET_NO_NEW_PRIVS, 1 as c_ulong, zero, zero, zero) }, c"prctl");
    for cap in (0..64).filter(|cap| *cap > 31 || CAPABILITIES & (1 << cap) == 0) {
        // SAFETY: integers.
        if unsafe { prctl(PR_CAPBSET_DROP, cap as c_ulong, zero, zero, zero) } < 0 {
            break;
        }
    }
    let nobody: *const c_uint = null();
    // SAFETY: an empty list. Not the C library's: musl's tells other threads, and there are none.
    check(unsafe { syscall(SYS_SETGROUPS, 0, nobody) }, c"setgroups");
    // SAFETY: two 64-bit words.
    check(unsafe { setrlimit(7, &[1024, 1024]) }, c"setrlimit");
    let sets = [CAPABILITIES, CAPABILITIES, 0, 0, 0, 0];
    // SAFETY: header and data of version 3.
    check(unsafe { capset(&[0x2008_0522, 0], &sets) }, c"capset");
    // SAFETY: a C string.
    check(unsafe { chdir(c"/".as_ptr()) }, c"/");
    // SAFETY: an integer.
    unsafe { umask(0o022) };
    execute(args, ENV.iter().map(|entry| entry.as_ptr()).chain([null()]).collect())
}

fn execute(args: &[&CStr], env: Vec<*const c_char>) -> ! {
    let argv: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).chain([null()]).collect();
    // SAFETY: both lists are null-terminated lists of C strings.
    check(unsafe { execve(args[0].as_ptr(), argv.as_ptr(), env.as_ptr()) }, args[0]);
    // SAFETY: does not return.
    unsafe { _exit(125) }
}

/// Exit code of the child, 128+n for signal n, and its peak RSS in KiB.
fn wait(pid: c_int) -> (c_int, c_long) {
    let mut status = 0;
    let mut usage = [0; 18];
    // SAFETY: an int and a struct rusage, which is 18 longs.
    check(unsafe { wait4(pid, &raw mut status, 0, &raw mut usage) }, c"wait4");
    let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
    (code, usage[4])
}

fn run(rootfs: &CStr, cgroup: &Cgroup, program: &[&CStr]) -> c_int {
    cgroup.make();
    let namespaces = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;
    match cgroup.clone(namespaces) {
        0 => {
            build(rootfs, cgroup);
            become_program(program)
        }
        pid => {
            let (code, _) = wait(pid);
            cgroup.remove();
            code
        }
    }
}

fn exec(pid: &CStr, cgroup: &Cgroup, program: &[&CStr]) -> c_int {
    let pid = decimal(pid);
    // SAFETY: integers.
    let pidfd = check(unsafe { syscall(SYS_PIDFD_OPEN, pid, 0) }, c"pidfd_open");
    let join = |namespaces: u64| {
        // SAFETY: integers.
        check(unsafe { setns(pidfd, namespaces as c_int) }, c"setns");
    };
    join(CLONE_NEWPID);
    match cgroup.clone(0) {
        0 => {
            // SAFETY: no arguments.
            check(unsafe { setsid() }, c"setsid");
            cgroup.enter();
            join(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS);
            become_program(program)
        }
        pid => wait(pid).0,
    }
}

fn decimal(text: &CStr) -> c_int {
    text.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(-1)
}

/// What an exec probe cannot do without: a process in the container's namespaces that becomes the
/// program. No cgroup, no credentials, no output.
fn probes(count: c_int, pid: c_int, program: &[&CStr]) -> c_int {
    // SAFETY: integers.
    let pidfd = check(unsafe { syscall(SYS_PIDFD_OPEN, pid, 0) }, c"pidfd_open");
    let join = |namespaces: u64| {
        // SAFETY: integers.
        check(unsafe { setns(pidfd, namespaces as c_int) }, c"setns");
    };
    join(CLONE_NEWPID);
    let args: [u64; 11] = [0, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0];
    for _ in 0..count {
        // SAFETY: clone_args of the size given; without CLONE_VM the child has its own memory.
        let cloned = unsafe { syscall(SYS_CLONE3, args.as_ptr(), size_of_val(&args)) };
        match check(cloned, c"clone3") {
            0 => {
                join(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS);
                execute(program, vec![null()])
            }
            child => match wait(child).0 {
                0 => {}
                code => return code,
            },
        }
    }
    0
}

/// Starts a command with the environment of this process.
fn spawn(command: &[&CStr], env: *const *const c_char) -> c_int {
    // SAFETY: this process has one thread.
    let pid = check(unsafe { fork() }, c"fork");
    if pid != 0 {
        return pid;
    }
    let mut list = Vec::new();
    let mut at = env;
    // SAFETY: `env` is the null-terminated list that main was given.
    while !unsafe { *at }.is_null() {
        // SAFETY: as above.
        list.push(unsafe { *at });
        // SAFETY: the entry was not the last.
        at = unsafe { at.add(1) };
    }
    list.push(null());
    execute(command, list)
}

/// Measured from here because the peak of a child starts with that of its parent.
fn rss(command: &[&CStr], env: *const *const c_char) -> c_int {
    let (code, kib) = wait(spawn(command, env));
    println!("{kib}");
    code
}

/// Orphans become children of this process. Whoever measures cannot reap them itself in time, and
/// a runtime waits for zombies.
fn reap(command: &[&CStr], env: *const *const c_char) -> c_int {
    const PR_SET_CHILD_SUBREAPER: c_int = 36;
    let zero: c_ulong = 0;
    // SAFETY: integers.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong, zero, zero, zero) }, c"prctl");
    let child = spawn(command, env);
    loop {
        let mut status = 0;
        // SAFETY: an int; usage is not asked for.
        let pid = check(unsafe { wait4(-1, &raw mut status, 0, null_mut()) }, c"wait4");
        if pid == child {
            return if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
        }
    }
}

/// Entry point of the C library: the one of Rust makes a dozen system calls of its own.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, args: *mut *mut c_char, env: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the C library gives `count` C strings that live as long as the process.
    let args: Vec<&CStr> = (0..count).map(|i| unsafe { CStr::from_ptr(*args.add(i)) }).collect();
    let usage = || {
        eprintln!("usage: floor run|exec ROOTFS|PID CGROUP CPUS MEMS HIERARCHY... -- PROGRAM");
        2
    };
    let Some((&verb, rest)) = args.get(1..).and_then(<[_]>::split_first) else { return usage() };
    match verb.to_bytes() {
        b"rss" if !rest.is_empty() => return rss(rest, env),
        b"reap" if !rest.is_empty() => return reap(rest, env),
        _ => {}
    }
    let Some(end) = rest.iter().position(|arg| *arg == c"--") else { return usage() };
    let (what, program) = (&rest[..end], &rest[end + 1..]);
    if verb == c"probes" && what.len() == 2 && !program.is_empty() {
        return probes(decimal(what[0]), decimal(what[1]), program);
    }
    if what.len() < 5 || program.is_empty() {
        return usage();
    }
    let cgroup = Cgroup::new(&what[1..]);
    match verb.to_bytes() {
        b"run" => run(what[0], &cgroup, program),
        b"exec" => exec(what[0], &cgroup, program),
        _ => usage(),
    }
}
