//! Connections that wait for a key (BLPOP and its kind).
//!
//! Such a connection goes on reading its socket, so that its end is noticed and nothing is popped for
//! a client that has gone. CLIENT UNBLOCK and a change of role reach it through its entry in the registry of clients.

use crate::client::conn::Conn;
use crate::client::registry::{Client, kind};
use bytes::BytesMut;
use sluice_engine::Blocked;
use sluice_engine::blocking::Watch;
use sluice_engine::resp::Reply;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Why a wait ends although nothing was found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unblock {
    /// As if its time were up (CLIENT UNBLOCK).
    Timeout,
    /// With an error (CLIENT UNBLOCK ... ERROR).
    Error,
    /// The server became a replica; the connection is closed after the error.
    Role,
}

impl Unblock {
    fn error(self) -> Option<&'static str> {
        match self {
            Unblock::Timeout => None,
            Unblock::Error => Some("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            Unblock::Role => Some(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            ),
        }
    }
}

impl Client {
    /// Ends the client's wait for a key; false if it does not wait for one.
    pub(crate) fn unblock(&self, why: Unblock) -> bool {
        let mut waits = self.waits.lock();
        let still = waits.as_ref().is_some_and(|w| w.watch.is_waiting());
        still && waits.take().is_some_and(|w| w.to.send(why).is_ok())
    }

    /// Does the client wait for something? One that was served no longer does, although its reply is on the way.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is(kind::BLOCKED) || self.waits.lock().as_ref().is_some_and(|w| w.watch.is_waiting())
    }
}

/// How others reach a client that waits for a key.
pub(crate) struct Reach {
    to: oneshot::Sender<Unblock>,
    watch: Watch,
}

/// What a wait for a key came to.
pub(crate) enum Waited {
    /// The reply.
    Reply(Vec<u8>),
    /// The reply, after which the connection is closed.
    Last(Vec<u8>),
    /// The connection ended.
    Gone,
}

/// A blocking command in progress.
pub(crate) struct Wait {
    pub(crate) blocked: Blocked,
    /// Its index in the command table.
    pub(crate) command: usize,
    pub(crate) since: Instant,
}

impl Conn {
    /// Waits until the command is served, its time is up, somebody ends the wait, or the connection ends.
    pub(crate) async fn wait_for_key(
        &mut self,
        stream: &TcpStream,
        input: &mut BytesMut,
        wait: Wait,
    ) -> Waited {
        let blocked = &wait.blocked;
        let (to, mut ended) = oneshot::channel();
        *self.client.waits.lock() = Some(Reach { to, watch: blocked.watch() });
        let deadline = blocked.timeout.map(|t| tokio::time::Instant::now() + t);
        let time_up = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_up);
        let mut why = Unblock::Timeout;
        let reply = loop {
            tokio::select! {
                biased;
                reply = blocked.reply() => break Some(reply),
                given = &mut ended => {
                    why = given.unwrap_or(Unblock::Timeout);
                    break self.server.engine.unblock(blocked);
                }
                () = &mut time_up => break self.server.engine.unblock(blocked),
                more = self.read(stream, input) => {
                    if !matches!(more, Ok(true)) {
                        self.server.engine.unblock(blocked);
                        self.unmark();
                        return Waited::Gone;
                    }
                }
            }
        };
        self.unmark();
        let stats = self.server.engine.command_stats(wait.command);
        stats.calls.fetch_add(1, Ordering::Relaxed);
        let took = wait.since.elapsed();
        stats.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.server.stats.latency.note(wait.command, took);
        let served = reply.is_some();
        let reply = reply.unwrap_or_else(|| match why.error() {
            None => blocked.nothing(),
            Some(text) => {
                let mut reply = Vec::new();
                Reply::new(&mut reply, false).error(text);
                reply
            }
        });
        if let Some(line) = reply.strip_prefix(b"-") {
            stats.failed.fetch_add(1, Ordering::Relaxed);
            self.server.stats.error(line);
        }
        if !served && matches!(why, Unblock::Role) { Waited::Last(reply) } else { Waited::Reply(reply) }
    }

    fn unmark(&self) {
        self.client.waits.lock().take();
    }
}
