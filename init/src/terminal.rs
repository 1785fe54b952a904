//! Terminals of the sandbox's own: the pair is made inside, so that no ioctl of a task reaches a terminal of the
//! host. The master side travels to the host, the slave side becomes the command's controlling terminal.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Both sides of a terminal.
pub struct Terminal {
    /// The host's side.
    pub master: OwnedFd,
    /// The command's side.
    pub slave: OwnedFd,
}

/// Makes a terminal of this size.
pub fn make(rows: u16, columns: u16) -> nix::Result<Terminal> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open("/dev/ptmx", flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    // The peer is opened through the master and not by a path, which a task's mount tree could not be trusted for.
    // SAFETY: the request takes open flags and returns a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    let slave = Errno::result(slave)?;
    // SAFETY: the kernel just made it; nothing else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one `winsize`, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(Terminal { master, slave })
}

/// Makes a terminal the controlling one of the calling process, which must lead a session without one.
pub fn take_control(slave: &OwnedFd) -> nix::Result<()> {
    // SAFETY: the request takes an int by value.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}
