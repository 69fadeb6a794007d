#![allow(unsafe_code)]
//! The system calls the full-sync senders need and std does not offer: gathering sends without SIGPIPE,
//! `sendfile`, `poll`, and the thread's CPU clock.
//!
//! Why unsafe: each is one C call on memory that is borrowed for the call only. File descriptors come in as
//! [`BorrowedFd`], so they are open; slices give pointer and length together; the kernel keeps nothing after the return.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The most pieces one gathering send takes.
pub(crate) const MAX_PIECES: usize = 64;

fn check(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The most bytes one gathering send takes. The kernel copies, and on loopback delivers, within the call, and a thread
/// that serves clients may have to wait for its end: 2 MB in one call showed as milliseconds in their latency.
const MAX_SEND: usize = 128 << 10;

/// Sends up to [`MAX_PIECES`] slices and [`MAX_SEND`] bytes in one call. A closed peer is an error (EPIPE), never a signal.
pub(crate) fn send_slices<'a>(
    fd: BorrowedFd<'_>,
    slices: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
    let (mut count, mut room) = (0, MAX_SEND);
    for (piece, slice) in pieces.iter_mut().zip(slices) {
        if room == 0 {
            break;
        }
        let len = slice.len().min(room);
        *piece = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: len };
        room -= len;
        count += 1;
    }
    // SAFETY: an all-zero msghdr is valid (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = count as _;
    // SAFETY: `message` points at `count` initialised iovecs whose slices outlive the call; sendmsg only reads them.
    check(unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
}

/// `sendfile(2)`: from `file` at `*offset` to the socket, at most `count` bytes; advances `*offset`.
pub(crate) fn send_file(
    socket: BorrowedFd<'_>,
    file: RawFd,
    offset: &mut u64,
    count: usize,
) -> io::Result<usize> {
    let mut at = libc::off_t::try_from(*offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `at` is valid for the call. A `file` that is not open is an error of the call, no more.
    let sent = check(unsafe { libc::sendfile(socket.as_raw_fd(), file, &mut at, count) })?;
    *offset += sent as u64;
    Ok(sent)
}

/// What to wait for on a socket, and what came.
pub(crate) type PollFd = libc::pollfd;

/// A poll entry: for room to write if `writable`, and always for the peer going away.
pub(crate) fn poll_entry(fd: BorrowedFd<'_>, writable: bool) -> PollFd {
    let events = libc::POLLRDHUP | if writable { libc::POLLOUT } else { 0 };
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// Whether the peer of a polled socket is gone.
pub(crate) fn peer_gone(entry: &PollFd) -> bool {
    entry.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

/// `poll(2)`. An interruption counts as a time-out.
pub(crate) fn poll(entries: &mut [PollFd], timeout_ms: u64) -> io::Result<()> {
    let timeout = libc::c_int::try_from(timeout_ms).unwrap_or(libc::c_int::MAX);
    // SAFETY: pointer and length come from one slice.
    let n = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) };
    match check(n as isize) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

/// Makes a descriptor non-blocking.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: fcntl with F_GETFL and F_SETFL takes no pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) } as isize)? as libc::c_int;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } as isize)?;
    }
    Ok(())
}

/// Ends a connection for every holder of the socket, throwing away what is queued. Errors do not matter: the peer may be gone.
pub(crate) fn abort_connection(fd: BorrowedFd<'_>) {
    let fd: RawFd = fd.as_raw_fd();
    // SAFETY: an all-zero sockaddr has family AF_UNSPEC (0), which connect takes as "dissolve the association":
    // TCP sends a reset and purges its queue. The struct lives for the call.
    unsafe {
        let unspec: libc::sockaddr = MaybeUninit::zeroed().assume_init();
        libc::connect(fd, &unspec, size_of::<libc::sockaddr>() as libc::socklen_t);
        libc::shutdown(fd, libc::SHUT_RDWR);
    }
}

/// CPU time this thread has used, in microseconds.
pub(crate) fn thread_cpu_us() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}
