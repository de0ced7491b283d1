//! Pseudo-terminals: a pair in the container's own devpts, window size, raw mode.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{self, SetArg, Termios};

/// Rows and columns. Source: ioctl_tty(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Opens the slave of an open `ptmx` without using its path, which the container could exchange.
///
/// Unlocks it first.
///
/// # Errors
/// `ENOTTY` if it is no master, `EIO`; `EINVAL` before Linux 4.13. Source: TIOCGPTPEER.
pub fn open_slave(master: impl AsFd) -> nix::Result<OwnedFd> {
    let fd = master.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes its flags by value.
    super::fd::owned(unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) }.into())
}

/// The number of a master's slave in its devpts. Source: TIOCGPTN.
///
/// # Errors
/// `ENOTTY` if it is no master.
pub fn slave_number(master: impl AsFd) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int, which outlives the call.
    let ret = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    Errno::result(ret)?;
    Ok(number)
}

/// Makes a terminal the controlling one of this session leader. Source: TIOCSCTTY.
///
/// # Errors
/// `EPERM` if the process leads no session or has a terminal already.
pub fn make_controlling(terminal: impl AsFd) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer by value.
    let ret = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(ret).map(drop)
}

/// Reads the size of a terminal's window.
///
/// # Errors
/// `ENOTTY`.
pub fn window_size(terminal: impl AsFd) -> nix::Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which outlives the call.
    let ret = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(ret)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of a terminal's window; its foreground processes get SIGWINCH.
///
/// # Errors
/// `ENOTTY`.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> nix::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let ret =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(ret).map(drop)
}

/// Puts a terminal into raw mode until it is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal to raw mode.
    ///
    /// # Errors
    /// `ENOTTY`, `EIO` from the background.
    pub fn enter(terminal: impl AsFd) -> nix::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().or(Err(Errno::EMFILE))?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that has gone away.
        let _gone = termios::tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Clears the flag that turns `\n` into `\r\n`, which would garble output read by a program.
///
/// # Errors
/// `ENOTTY`.
pub fn disable_output_newline_translation(terminal: impl AsFd) -> nix::Result<()> {
    let mut settings = termios::tcgetattr(&terminal)?;
    settings.output_flags.remove(termios::OutputFlags::ONLCR);
    termios::tcsetattr(&terminal, SetArg::TCSANOW, &settings)
}
