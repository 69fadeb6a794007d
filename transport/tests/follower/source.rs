//! The socket to the primary, and the payload on it as a source for the RDB decoder.

use sluice_persistence::rdb::source::Source;
use sluice_transport::replica::{Action, Level, ReplicaLink};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes read from the socket at once.
const READ_BYTES: usize = 256 << 10;
/// How long a read waits before the timers are looked at.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Log bytes that may wait for the end of an entry in a framed payload. A primary that keeps the order rule never sends
/// any there.
const MAX_EARLY_LOG: usize = 64 << 20;

/// A connection to a primary: socket, state machine and what was read but not yet taken.
pub(crate) struct Connection<'a> {
    stream: TcpStream,
    pub(crate) link: ReplicaLink,
    input: Vec<u8>,
    start: usize,
    end: usize,
    epoch: Instant,
    stop: &'a dyn Fn() -> bool,
    pub(crate) log: &'a mut dyn FnMut(Level, &str),
    /// Bytes received, for INFO.
    pub(crate) received: u64,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(
        stream: TcpStream,
        link: ReplicaLink,
        epoch: Instant,
        stop: &'a dyn Fn() -> bool,
        log: &'a mut dyn FnMut(Level, &str),
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(READ_WAIT))?;
        let mut c = Self {
            stream,
            link,
            input: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            epoch,
            stop,
            log,
            received: 0,
        };
        let now = c.now();
        c.link.connected(now);
        c.flush()?;
        Ok(c)
    }

    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    /// Writes what the link has to say.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let out = self.link.output();
        if !out.is_empty() {
            let bytes = std::mem::take(out);
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Reads once, if everything read before is taken, and lets time pass. Errors end the link.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        if (self.stop)() {
            return Err(io::Error::other("stopped"));
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            match self.stream.read(&mut self.input) {
                Ok(0) => {
                    return Err(over(self.link.disconnected("the connection was closed by the primary")));
                }
                Ok(n) => {
                    self.end = n;
                    self.received += n as u64;
                }
                Err(e) if is_quiet(&e) => {}
                Err(e) => return Err(over(self.link.disconnected(&e.to_string()))),
            }
        }
        let now = self.now();
        if self.end == 0
            && let Some(action) = self.link.tick(now)
        {
            return Err(over(action));
        }
        self.flush()
    }

    /// Passes what was read to the link, whose actions go to `act`, until `act` returns false or all is taken.
    /// Returns false in the former case. An abort is an error.
    pub(crate) fn actions(&mut self, mut act: impl FnMut(Action<'_>) -> bool) -> io::Result<bool> {
        let now = self.now();
        let mut input = &self.input[self.start..self.end];
        let mut go_on = true;
        let mut failed = None;
        while go_on {
            match self.link.next(&mut input, now) {
                None => break,
                Some(Action::Log(level, text)) => (self.log)(level, &text),
                Some(Action::Abort { reason }) => {
                    failed = Some(reason);
                    break;
                }
                Some(action) => go_on = act(action),
            }
        }
        self.start = self.end - input.len();
        match failed {
            Some(reason) => Err(io::Error::other(reason)),
            None => Ok(go_on),
        }
    }
}

fn is_quiet(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn over(action: Action<'_>) -> io::Error {
    match action {
        Action::Abort { reason } => io::Error::other(reason),
        other => io::Error::other(format!("{other:?}")),
    }
}

/// The payload of a full sync, read from the connection as the decoder needs it.
pub(crate) struct PayloadSource<'a, 'c> {
    pub(crate) connection: &'c mut Connection<'a>,
    window: Vec<u8>,
    from: usize,
    /// Bytes of the cut that ever were in the window.
    total: u64,
    /// Log bytes of a framed payload, to be applied before more is decoded.
    pub(crate) early_log: Vec<u8>,
    /// The end of the payload, and the offset it names.
    pub(crate) ended: Option<u64>,
}

impl<'a, 'c> PayloadSource<'a, 'c> {
    pub(crate) fn new(connection: &'c mut Connection<'a>) -> Self {
        Self { connection, window: Vec::new(), from: 0, total: 0, early_log: Vec::new(), ended: None }
    }

    /// Takes one more piece into the window, or waits a little for one.
    pub(crate) fn pull(&mut self) -> io::Result<()> {
        if self.from > 0 {
            self.window.drain(..self.from);
            self.from = 0;
        }
        let now = self.connection.now();
        self.connection.link.loading(now);
        self.connection.receive()?;
        let (window, total) = (&mut self.window, &mut self.total);
        let (early, ended) = (&mut self.early_log, &mut self.ended);
        self.connection.actions(|action| {
            match action {
                Action::Payload { bytes, .. } => {
                    *total += bytes.len() as u64;
                    window.extend_from_slice(bytes);
                }
                Action::LogBytes(bytes) => early.extend_from_slice(bytes),
                Action::PayloadEnd { offset } => *ended = Some(offset),
                _ => {}
            }
            // Stop at log bytes: they come before whatever of the cut follows them.
            early.is_empty()
        })?;
        if self.early_log.len() > MAX_EARLY_LOG {
            return Err(io::Error::other("too many log bytes within one entry of a framed payload"));
        }
        Ok(())
    }
}

impl PayloadSource<'_, '_> {
    /// When `decoded` bytes are decoded and no more are wanted (for now): there must be no others.
    pub(crate) fn check_read(&self, decoded: u64) -> io::Result<()> {
        match self.total - decoded {
            0 => Ok(()),
            n => Err(io::Error::other(format!("{n} bytes follow the end of the RDB payload"))),
        }
    }
}

impl Source for PayloadSource<'_, '_> {
    #[inline]
    fn window(&self) -> &[u8] {
        &self.window[self.from..]
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.window.len() - self.from < want {
            // Between two items log bytes get their turn first: the decoder is told "nothing for now".
            let between_items = self.window.len() == self.from && want == 1;
            if self.ended.is_some() || (between_items && !self.early_log.is_empty()) {
                return Ok(false);
            }
            self.pull()?;
        }
        Ok(true)
    }

    fn consume(&mut self, n: usize) {
        self.from += n;
        debug_assert!(self.from <= self.window.len());
    }
}
