//! What is on its way to a client, in order: its own replies, and frames that others put in.
//!
//! ```text
//!  others --push--> [Inlet: shared frames] --+
//!                                            v
//!  own replies --> tail --seal--> [frame | frame | ...] --> socket
//! ```
//!
//! The [`Outbox`] is the connection task's own; the [`Inlet`] is part of the client's entry in the registry, where
//! anyone reaches it, on any thread. A frame is shared by all who receive it, and never breaks into a reply.
//! A client may send as much as it likes before it reads: what it is owed waits here, within
//! `client-output-buffer-limit`. At the limit the client is closed.

use crate::client::registry::{Client, kind};
use crate::client::stream::Stream;
use crate::config::ClientClass;
use crate::server::Server;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// Replies up to this size are no burden: the limits count what lies beyond, as Redis counts what its fixed buffer of
/// this size does not hold.
pub(crate) const FREE: usize = 16 << 10;
/// A tail that has to wait becomes a frame of its own from this size on; a smaller one goes on growing.
const SEAL_AT: usize = 16 << 10;
/// Bytes written before others of the worker get their turn.
const WRITE_TURN: usize = 128 << 10;
/// Frames handed to the kernel at once.
const GATHER: usize = 32;
/// A frame up to this size is copied behind the replies that wait rather than queued.
const SMALL: usize = 512;
/// A tail with more room than this is given back when it is empty.
const KEEP: usize = 64 << 10;
/// Room a tail begins with.
const TAIL: usize = 16 << 10;

/// What an attempt to send came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// Nothing waits any more.
    All,
    /// There is more, and the socket may take it: after the others had their turn.
    Turn,
    /// The socket takes no more for now.
    Blocked,
}

/// The connection's own half.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Oldest first; of the first, what is not sent yet.
    frames: VecDeque<Bytes>,
    /// Bytes in `frames`.
    queued: usize,
    /// Replies behind them, still growing.
    tail: Vec<u8>,
}

impl Outbox {
    /// The buffer that replies are written to; [`Outbox::put_tail`] brings it back.
    pub(crate) fn take_tail(&mut self) -> Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail.reserve(TAIL);
        }
        std::mem::take(&mut self.tail)
    }

    /// See [`Outbox::take_tail`].
    pub(crate) fn put_tail(&mut self, tail: Vec<u8>) {
        self.tail = tail;
    }

    /// Adds a shared frame behind everything there is.
    fn frame(&mut self, frame: Bytes) {
        if frame.len() <= SMALL && self.tail.len() < SEAL_AT {
            return self.tail.extend_from_slice(&frame);
        }
        self.seal();
        self.queued += frame.len();
        self.frames.push_back(frame);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let mut tail = std::mem::take(&mut self.tail);
            tail.shrink_to_fit();
            self.queued += tail.len();
            self.frames.push_back(tail.into());
        }
    }

    /// Takes over what others put in.
    pub(crate) fn take_in(&mut self, inlet: &Inlet) {
        if inlet.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let frames = {
            let mut frames = inlet.frames.lock();
            inlet.waiting.store(0, Ordering::Release);
            std::mem::take(&mut *frames)
        };
        frames.into_iter().for_each(|frame| self.frame(frame));
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames that wait.
    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Room of the buffer that replies are written to.
    pub(crate) fn tail_capacity(&self) -> usize {
        self.tail.capacity()
    }

    /// Sends what the socket takes, up to one turn's share; returns the bytes as well.
    pub(crate) fn send(&mut self, stream: &Stream) -> io::Result<(usize, Sent)> {
        let mut total = 0;
        let sent = loop {
            let wrote = if !self.frames.is_empty() {
                self.write_frames(stream, WRITE_TURN - total)
            } else if !self.tail.is_empty() {
                let most = self.tail.len().min(WRITE_TURN - total);
                stream.try_write(&self.tail[..most])
            } else {
                break Sent::All;
            };
            match wrote {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent(n);
                    total += n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break Sent::Blocked,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if total >= WRITE_TURN && !self.is_empty() {
                break Sent::Turn;
            }
        };
        match sent {
            Sent::All if self.tail.capacity() > KEEP => self.tail = Vec::new(),
            Sent::All => {}
            // What waits takes no more room than it has to, and is not moved again.
            _ if self.tail.len() >= SEAL_AT => self.seal(),
            _ => {}
        }
        Ok((total, sent))
    }

    fn write_frames(&self, stream: &Stream, most: usize) -> io::Result<usize> {
        let mut left = most;
        let mut parts = [IoSlice::new(&[]); GATHER];
        let mut count = 0;
        for frame in self.frames.iter().take(GATHER) {
            let part = &frame[..frame.len().min(left)];
            parts[count] = IoSlice::new(part);
            (count, left) = (count + 1, left - part.len());
            if left == 0 {
                break;
            }
        }
        stream.try_write_vectored(&parts[..count])
    }

    /// So many bytes of the front are gone.
    fn sent(&mut self, mut n: usize) {
        if self.frames.is_empty() {
            if n == self.tail.len() {
                self.tail.clear();
            } else if self.tail.len() - n >= SEAL_AT {
                self.seal();
                self.sent(n);
            } else {
                self.tail.drain(..n);
            }
            return;
        }
        self.queued -= n;
        while let Some(front) = self.frames.front_mut() {
            if n < front.len() {
                front.advance(n);
                break;
            }
            n -= front.len();
            self.frames.pop_front();
        }
    }
}

/// The half that others reach.
#[derive(Default)]
pub(crate) struct Inlet {
    frames: Mutex<VecDeque<Bytes>>,
    /// Bytes in `frames`.
    waiting: AtomicUsize,
    /// The connection's task, which nothing else can wake for what happens here.
    task: OnceLock<Waker>,
    /// Milliseconds after the connection began since when the soft limit is overcome, plus one; 0 where it is not.
    soft_since: AtomicU64,
}

impl Inlet {
    /// The task that takes what is put in.
    pub(crate) fn belongs_to(&self, task: Waker) {
        let _ = self.task.set(task);
    }

    fn push(&self, frame: Bytes) {
        let mut frames = self.frames.lock();
        self.waiting.fetch_add(frame.len(), Ordering::Release);
        frames.push_back(frame);
    }

    /// Has the task look.
    pub(crate) fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Client {
    /// Puts a frame into the client's outbox, behind what is there. Its limit is kept: at it the client is closed.
    #[expect(dead_code, reason = "messages, tracking and MONITOR are what pushes")]
    pub(crate) fn push(&self, server: &Server, frame: Bytes) {
        if self.is(kind::CLOSING) {
            return;
        }
        self.inlet.push(frame);
        if !self.keep_output_limit(server) {
            self.inlet.wake();
        }
    }

    /// Bytes on their way to the client.
    pub(crate) fn output(&self) -> usize {
        self.output_bytes.load(Ordering::Relaxed) + self.inlet.waiting.load(Ordering::Relaxed)
    }

    /// The frames they are in.
    pub(crate) fn frames(&self) -> usize {
        match self.is(kind::REPLICA) {
            true => self.output().div_ceil(FREE),
            false => self.output_frames.load(Ordering::Relaxed),
        }
    }

    /// What the connection takes of memory. What is on its way to a replica is the log's.
    pub(crate) fn memory(&self) -> usize {
        let output = if self.is(kind::REPLICA) { 0 } else { self.output() };
        size_of::<Client>()
            + size_of::<crate::client::conn::Conn>()
            + self.input_bytes.load(Ordering::Relaxed)
            + self.input_room.load(Ordering::Relaxed)
            + output.max(self.reply_room.load(Ordering::Relaxed))
    }

    /// The part of it that counts for the limit.
    pub(crate) fn output_beyond_free(&self) -> usize {
        let free = if self.is(kind::REPLICA) { 0 } else { FREE };
        self.output().saturating_sub(free)
    }

    /// Closes the client, and returns true, where what waits for it overcomes the limit of its class. A replica's log is
    /// looked at by its own task.
    pub(crate) fn keep_output_limit(&self, server: &Server) -> bool {
        let waits = self.output_beyond_free();
        if waits == 0 {
            self.inlet.soft_since.store(0, Ordering::Relaxed);
            return false;
        }
        if self.is(kind::REPLICA) || self.is(kind::CLOSING) {
            return false;
        }
        let limit = server.config.load().client_output_buffer_limit.of(ClientClass::Normal);
        let over = |limit: u64| limit > 0 && waits as u64 >= limit;
        let soft = over(limit.soft) && {
            let now = self.created.elapsed().as_millis() as u64 + 1;
            let since = &self.inlet.soft_since;
            let first =
                since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|at| at);
            first != 0 && (now - first) / 1000 > limit.seconds
        };
        if !over(limit.soft) {
            self.inlet.soft_since.store(0, Ordering::Relaxed);
        }
        if !over(limit.hard) && !soft {
            return false;
        }
        let shown = crate::admin::describe_client(server, self);
        self.kill();
        crate::log!(
            Warning,
            "Client {shown} scheduled to be closed ASAP for overcoming of output buffer limits."
        );
        true
    }
}

/// Looks at the limits of all who do nothing themselves; called every second.
pub(crate) fn cron(server: &Server) {
    for client in server.clients.all() {
        client.keep_output_limit(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pair() -> (Stream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        (Stream::adopt(crate::client::stream::Accepted::Unix(ours)).expect("in the runtime"), theirs)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn replies(outbox: &mut Outbox, text: &str) {
        let mut tail = outbox.take_tail();
        tail.extend_from_slice(text.as_bytes());
        outbox.put_tail(tail);
    }

    #[test]
    fn frames_of_others_leave_in_order_and_behind_the_replies_there_are() {
        runtime().block_on(async {
            let (stream, mut peer) = pair();
            let (mut outbox, inlet) = (Outbox::default(), Inlet::default());
            let big = "b".repeat(40_000);
            let mut wanted = String::new();
            for (n, small) in ["one", "two", "three"].iter().enumerate() {
                replies(&mut outbox, &format!("<{n}>"));
                inlet.push(Bytes::from_static(small.as_bytes()));
                inlet.push(Bytes::from(big.clone()));
                outbox.take_in(&inlet);
                wanted += &format!("<{n}>{small}{big}");
            }
            assert_eq!(outbox.len(), wanted.len());
            let mut got = vec![0; wanted.len()];
            let mut at = 0;
            while !outbox.is_empty() {
                stream.writable().await.expect("open");
                let (n, _) = outbox.send(&stream).expect("sent");
                peer.read_exact(&mut got[at..at + n]).expect("read");
                at += n;
            }
            assert!(got == wanted.as_bytes());
            assert_eq!(inlet.waiting.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn what_a_blocked_socket_holds_up_is_sent_from_where_it_stood() {
        runtime().block_on(async {
            let (stream, mut peer) = pair();
            let mut outbox = Outbox::default();
            let mut wanted = String::new();
            let mut blocked = false;
            for n in 0..20_000 {
                let text = format!("{n} {}\r\n", "x".repeat(n % 300));
                replies(&mut outbox, &text);
                wanted += &text;
                blocked |= outbox.send(&stream).expect("sent").1 == Sent::Blocked;
            }
            assert!(blocked && outbox.frames() > 1 && outbox.frames() < 1000, "{} frames", outbox.frames());
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                peer.read_to_end(&mut got).expect("read");
                got
            });
            while !outbox.is_empty() {
                stream.writable().await.expect("open");
                outbox.send(&stream).expect("sent");
            }
            drop(stream);
            assert!(reader.join().expect("reads") == wanted.as_bytes());
        });
    }
}
