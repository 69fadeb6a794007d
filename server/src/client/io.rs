//! What a connection does with its socket while it runs nothing: it reads, sends, and notices its end.
//!
//! Whatever a connection waits for (more input, a key, the end of a pause, another thread's answer), it goes on reading
//! and sending meanwhile ([`Conn::attend`]). So a client that has gone is noticed, and what it asked for is not run; and
//! one that is slow to read holds nothing up.

use crate::client::conn::Conn;
use crate::client::outbox::Sent;
use crate::client::registry::kind;
use bytes::{BufMut, BytesMut};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// Bytes read at once where nothing is known of what comes.
const READ_SIZE: usize = 16 << 10;
/// Bytes read at once of an argument whose length is known.
const READ_PIECE: usize = 128 << 10;
/// Room for an argument grows with what has come until so much of it is there; then there is room for all of it, which
/// is not moved again. A length that is a lie costs this at most: room that is not written to takes no memory.
const TRUSTED_AT: usize = 4 << 20;
/// An input buffer larger than this is given back when it is empty.
const KEEP_BUFFER: usize = 64 << 10;
/// `client-query-buffer-limit` is at least this, so smaller buffers need no look at it.
const QUERY_LIMIT_CHECK: usize = 1 << 20;
/// Replies kept for a client that has not signed on and does not read.
const UNAUTHENTICATED_OUTPUT: usize = 1 << 10;

impl Conn {
    /// Waits for input and reads it; false at the end of the connection.
    pub(super) async fn receive(&mut self) -> io::Result<bool> {
        if self.more_to_read {
            // The socket may hold more. The others of this worker come first.
            tokio::task::yield_now().await;
        }
        std::future::poll_fn(|cx| self.poll_io(cx)).await
    }

    /// Waits for `what`, reading and sending meanwhile. `None` where the connection ended first.
    pub(super) async fn attend<F: Future>(&mut self, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = what.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            while matches!(ready!(self.poll_io(cx)), Ok(true)) {
                self.publish();
            }
            Poll::Ready(None)
        })
        .await
    }

    /// Sends everything there is, however long it takes; an error or false where the connection ended.
    pub(super) async fn drain(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| {
            if self.client.is(kind::CLOSING) {
                return Poll::Ready(Ok(false));
            }
            Poll::Ready(match ready!(self.poll_send(cx)) {
                Ok(()) => Ok(true),
                Err(e) => Err(e),
            })
        })
        .await
    }

    /// Sends what the socket takes without waiting; false where the client is to be closed for what it does not read.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        self.outbox.take_in(&self.client.inlet);
        if self.outbox.is_empty() {
            return Ok(true);
        }
        // What is owed is counted before it is sent, so that a limit holds for those who read fast as well.
        if self.outbox.len() > crate::client::outbox::FREE {
            self.client.output_bytes.store(self.outbox.len(), Ordering::Relaxed);
            if self.client.keep_output_limit(&self.server) {
                return Ok(false);
            }
        }
        let (n, _) = self.outbox.send(&self.stream)?;
        if n > 0 {
            self.server.stats.net_output_bytes.add(n as u64);
            self.server.stats.writes_processed.bump();
        }
        // Nothing is kept for strangers.
        Ok(self.authenticated || self.outbox.len() <= UNAUTHENTICATED_OUTPUT)
    }

    /// Sends; ready when nothing is left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.outbox.take_in(&self.client.inlet);
            if self.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (n, sent) = self.outbox.send(&self.stream)?;
            if n > 0 {
                self.server.stats.net_output_bytes.add(n as u64);
                self.server.stats.writes_processed.bump();
                self.publish();
            }
            match sent {
                Sent::All => {}
                Sent::Turn => return pin!(tokio::task::yield_now()).poll(cx).map(Ok),
                Sent::Blocked => ready!(self.stream.poll_write_ready(cx))?,
            }
        }
    }

    /// Sends and reads; ready with true when something was read, with false at the end of the connection.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.client.is(kind::CLOSING) {
            return Poll::Ready(Ok(false));
        }
        if let Poll::Ready(Err(e)) = self.poll_send(cx) {
            return Poll::Ready(Err(e));
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.try_read() {
                Ok(more) => return Poll::Ready(Ok(more)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Reads at least one byte; false at the end of the connection.
    fn try_read(&mut self) -> io::Result<bool> {
        if !self.within_query_limit() {
            return Ok(false);
        }
        let most = self.make_room();
        let n = self.stream.try_read(&mut (&mut self.input).limit(most))?;
        self.more_to_read = n == most;
        if n > 0 {
            self.server.stats.net_input_bytes.add(n as u64);
            self.server.stats.reads_processed.bump();
        }
        Ok(n > 0)
    }

    fn within_query_limit(&self) -> bool {
        let have = self.input.len();
        if have <= QUERY_LIMIT_CHECK || have as u64 <= self.server.config.load().client_query_buffer_limit {
            return true;
        }
        let shown = crate::admin::describe_client(&self.server, &self.client);
        crate::log!(Warning, "Closing client that reached max query buffer length: {shown}");
        false
    }

    /// Makes room for the next read, and says how much of it to use.
    fn make_room(&mut self) -> usize {
        let input = &mut self.input;
        if input.is_empty() && input.capacity() > KEEP_BUFFER {
            *input = BytesMut::with_capacity(READ_SIZE);
        }
        let have = input.len();
        let missing = self.need.saturating_sub(have);
        if missing <= READ_SIZE {
            input.reserve(READ_SIZE);
            return READ_SIZE;
        }
        if input.capacity() - have < missing.min(READ_PIECE) {
            let room = if have >= TRUSTED_AT { missing } else { missing.min(have.max(READ_PIECE)) };
            input.reserve(room);
        }
        missing.min(READ_PIECE).min(input.capacity() - have)
    }
}
