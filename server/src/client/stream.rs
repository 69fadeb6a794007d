//! What a client is connected by, and where from. Whatever differs between kinds of sockets is in here, so that
//! another kind is one more arm of each function and nothing elsewhere.

use bytes::BufMut;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected socket of a worker's runtime.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same on its way to the worker, which is where it becomes part of a runtime.
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

macro_rules! each {
    ($stream:expr, $s:ident => $what:expr) => {
        match $stream {
            Stream::Tcp($s) => $what,
            Stream::Unix($s) => $what,
        }
    };
}

impl Stream {
    /// Takes the socket into this thread's runtime.
    pub(crate) fn adopt(accepted: Accepted) -> io::Result<Stream> {
        Ok(match accepted {
            Accepted::Tcp(s) => Stream::Tcp(TcpStream::from_std(s)?),
            Accepted::Unix(s) => Stream::Unix(UnixStream::from_std(s)?),
        })
    }

    /// Reads what fits into `buf`; 0 at the end. Where less came than fits, the socket is known to be empty: the next
    /// try says so without asking the kernel.
    pub(crate) fn try_read(&self, buf: &mut impl BufMut) -> io::Result<usize> {
        let room = buf.chunk_mut().len();
        let n = each!(self, s => s.try_read_buf(buf))?;
        if n > 0 && n < room {
            // The runtime hears of what comes later, or came since, by an event of its own.
            let emptied = || Err::<(), _>(io::Error::from(ErrorKind::WouldBlock));
            let _ = each!(self, s => s.try_io(Interest::READABLE, emptied));
        }
        Ok(n)
    }

    /// Writes what the socket takes.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, s => s.try_write(bytes))
    }

    /// The same from several places.
    pub(crate) fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, s => s.try_write_vectored(parts))
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        each!(self, s => s.readable().await)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        each!(self, s => s.writable().await)
    }

    /// For the connection's own task alone: one waiter at a time is remembered.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_read_ready(cx))
    }

    /// See [`Stream::poll_read_ready`].
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_write_ready(cx))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, s => s.as_fd())
    }
}

/// One end of a connection as CLIENT LIST and the log name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Ip(SocketAddr),
    /// The path of the Unix socket, which stands for both ends.
    Unix(Arc<str>),
}

impl Address {
    /// Where there is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(addr) => Some(addr.ip()),
            Address::Unix(_) => None,
        }
    }

    /// Is it this machine's own?
    pub(crate) fn is_local(&self) -> bool {
        self.ip().is_none_or(crate::net::is_loopback)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(addr) => addr.fmt(f),
            Address::Unix(path) => write!(f, "{path}:0"),
        }
    }
}
