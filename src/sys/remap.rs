//! Exchanges the file that this process runs from, without executing it again.
//!
//! The kernel lets a process change its `/proc/<pid>/exe` once nothing of the old file is mapped
//! (prctl(2), PR_SET_MM_EXE_FILE). So each segment is mapped again over itself: what is only read,
//! from the new file; what is written, from an anonymous copy. That costs a tenth of an execve.
//!
//! Nothing here may write to a static between a copy and its place, and nothing does: only system
//! calls are made there, and the C library's errno is not in the segments.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const PAGE: usize = 4096;

/// One part of the program in memory, in whole pages.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: usize,
    length: usize,
    file_offset: i64,
    protection: i32,
}

/// Maps this program from `file`, which has the same content, and makes it `/proc/<pid>/exe`.
///
/// # Errors
/// `EPERM` without CAP_SYS_RESOURCE where the kernel has no checkpoint support, which asks for
/// CAP_SYS_ADMIN only; `ENOSYS` where the program's layout is not as expected. The program is
/// intact then.
pub(super) fn exchange(file: BorrowedFd) -> nix::Result<()> {
    // SAFETY: getauxval takes an integer by value.
    if unsafe { libc::getauxval(libc::AT_PAGESZ) } != PAGE as u64 {
        return Err(Errno::ENOSYS);
    }
    let (headers, bias) = program_headers().ok_or(Errno::ENOSYS)?;
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let segment = Segment::new(header, bias).ok_or(Errno::ENOSYS)?;
        if header.p_flags & libc::PF_W == 0 {
            segment.map_from(file)?;
        } else {
            segment.make_anonymous()?;
        }
    }
    for header in headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
        protect_relocated(header, bias)?;
    }
    set_exe_file(file)
}

/// The program headers in memory, and by how much the program lies above its link address.
fn program_headers() -> Option<(&'static [libc::Elf64_Phdr], usize)> {
    // SAFETY: getauxval takes an integer by value.
    let address = usize::try_from(unsafe { libc::getauxval(libc::AT_PHDR) }).ok()?;
    // SAFETY: as above.
    let count = usize::try_from(unsafe { libc::getauxval(libc::AT_PHNUM) }).ok()?;
    let first = std::ptr::with_exposed_provenance::<libc::Elf64_Phdr>(address);
    if first.is_null() || !first.is_aligned() {
        return None;
    }
    // SAFETY: the kernel has put the table's address and length there; it is mapped read-only for
    // as long as the program runs.
    let headers = unsafe { std::slice::from_raw_parts(first, count) };
    let with = |kind| headers.iter().find(move |header| header.p_type == kind);
    let own = match with(libc::PT_PHDR) {
        Some(own) => own.p_vaddr,
        // GNU's linker says it only to an interpreter: the table follows the file's header.
        None => with(libc::PT_LOAD)?.p_vaddr + size_of::<libc::Elf64_Ehdr>() as u64,
    };
    Some((headers, address.checked_sub(usize::try_from(own).ok()?)?))
}

impl Segment {
    fn new(header: &libc::Elf64_Phdr, bias: usize) -> Option<Self> {
        let address = bias.checked_add(usize::try_from(header.p_vaddr).ok()?)?;
        let start = address & !(PAGE - 1);
        let end = address.checked_add(usize::try_from(header.p_filesz).ok()?)?;
        let length = end.checked_next_multiple_of(PAGE)? - start;
        let file_offset = i64::try_from(header.p_offset & !(PAGE as u64 - 1)).ok()?;
        let bit = |flag, protection| if header.p_flags & flag != 0 { protection } else { 0 };
        let protection = bit(libc::PF_R, libc::PROT_READ)
            | bit(libc::PF_W, libc::PROT_WRITE)
            | bit(libc::PF_X, libc::PROT_EXEC);
        Some(Self { start, length, file_offset, protection })
    }

    fn address(self) -> *mut c_void {
        std::ptr::with_exposed_provenance_mut(self.start)
    }

    /// Read-only and executable parts: the same pages of the page cache, by another mount.
    fn map_from(self, file: BorrowedFd) -> nix::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let fd = file.as_raw_fd();
        let (address, length) = (self.address(), self.length);
        // SAFETY: replaces pages of this program by the same content with the same protection, in
        // one step; code that runs there, this included, sees no difference.
        let mapped =
            unsafe { libc::mmap(address, length, self.protection, flags, fd, self.file_offset) };
        if mapped == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }

    /// Written parts: a copy takes their place.
    fn make_anonymous(self) -> nix::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let length = self.length;
        // SAFETY: new memory at an address that the kernel chooses.
        let copy = unsafe { libc::mmap(std::ptr::null_mut(), length, writable, flags, -1, 0) };
        if copy == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: both are mapped and readable for `length` bytes, and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.address(), copy, length) };
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: moves the copy over the original in one step. Nobody has written to the
        // original meanwhile: there is one thread, and it was in this function.
        let moved = unsafe { libc::mremap(copy, length, length, flags, self.address()) };
        if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }
}

/// What the C library made read-only after start-up is so again.
fn protect_relocated(header: &libc::Elf64_Phdr, bias: usize) -> nix::Result<()> {
    let number = |value: u64| usize::try_from(value).or(Err(Errno::ENOSYS));
    let first = bias + number(header.p_vaddr)?;
    let start = first & !(PAGE - 1);
    let end = (first + number(header.p_memsz)?) & !(PAGE - 1);
    let address = std::ptr::with_exposed_provenance_mut::<c_void>(start);
    // SAFETY: the linker has padded this range to whole pages that nothing writes to any more.
    let ret = unsafe { libc::mprotect(address, end.saturating_sub(start), libc::PROT_READ) };
    Errno::result(ret).map(drop)
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
#[derive(Debug, Default)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

fn set_exe_file(file: BorrowedFd) -> nix::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: takes the descriptor by value.
    let ret = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_EXE_FILE, fd, 0, 0) };
    match Errno::result(ret) {
        // Not all of root has CAP_SYS_RESOURCE; the other way describes all of the memory anew.
        Err(Errno::EPERM) => {}
        other => return other.map(drop),
    }
    let map = current_map(fd.cast_unsigned()).ok_or(Errno::ENOSYS)?;
    let size = size_of::<MemoryMap>();
    // SAFETY: `map` is a prctl_mm_map of the size given that lives during the call; it repeats
    // what is in force, so nothing but the file changes.
    let ret = unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size, 0 as libc::c_ulong)
    };
    Errno::result(ret).map(drop)
}

/// The bounds as they are. Source: proc_pid_stat(5).
fn current_map(exe_fd: u32) -> Option<MemoryMap> {
    let text = super::fd::read_page("/proc/self/stat").ok()?;
    let (_name, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in the manual, which counts from 1 and the two before the parenthesis.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // SAFETY: asks for the present break and changes nothing.
    let brk = unsafe { libc::sbrk(0) }.addr();
    Some(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        brk: u64::try_from(brk).ok()?,
        exe_fd,
        ..MemoryMap::default()
    })
}
