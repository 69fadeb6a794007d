//! Connections that wait: for a key (BLPOP and its kind), or for acknowledgements (WAIT, WAITAOF).
//!
//! Such a connection goes on reading its socket, so that its end is noticed and nothing is popped for
//! a client that has gone. CLIENT UNBLOCK and a change of role reach it through its entry in the registry of clients.

use crate::client::acks::Acks;
use crate::client::conn::Conn;
use crate::client::registry::{Client, kind};
use crate::os;
use sluice_engine::internals::{Blocked, Watch, resp::Reply};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;
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
    /// Ends the client's wait; false if it does not wait.
    pub(crate) fn unblock(&self, why: Unblock) -> bool {
        let mut waits = self.waits.lock();
        let still = waits.as_ref().is_some_and(Reach::is_waiting);
        still && waits.take().is_some_and(|w| w.to.send(why).is_ok())
    }

    /// Does the client wait for something? One that was served no longer does, although its reply is on the way.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is(kind::BLOCKED) || self.waits.lock().as_ref().is_some_and(Reach::is_waiting)
    }
}

/// How others reach a client that waits.
pub(crate) struct Reach {
    to: oneshot::Sender<Unblock>,
    /// Where it waits for a key, which may be served at any moment.
    watch: Option<Watch>,
}

impl Reach {
    fn is_waiting(&self) -> bool {
        self.watch.as_ref().is_none_or(Watch::is_waiting)
    }
}

/// What a wait came to.
pub(crate) enum Waited {
    /// The reply.
    Reply(Vec<u8>),
    /// The reply, after which the connection is closed.
    Last(Vec<u8>),
    /// The connection ended.
    Gone,
}

/// What a command waits for.
pub(crate) enum Wait {
    /// A key.
    Key(KeyWait),
    /// Acknowledgements.
    Acks(Acks),
}

/// A command that waits for a key.
pub(crate) struct KeyWait {
    pub(crate) blocked: Blocked,
    /// Its index in the command table.
    pub(crate) command: usize,
    /// Since when, by [`os::nanos`].
    pub(crate) since: u64,
}

impl Conn {
    /// Waits until the command is served, its time is up, somebody ends the wait, or the connection ends.
    pub(super) async fn wait_for(&mut self, wait: Wait) -> Waited {
        match wait {
            Wait::Key(wait) => self.wait_for_key(wait).await,
            Wait::Acks(acks) => self.wait_for_acks(acks).await,
        }
    }

    async fn wait_for_key(&mut self, wait: KeyWait) -> Waited {
        let blocked = &wait.blocked;
        let ended = self.wait_until(blocked.reply(), blocked.timeout, Some(blocked.watch())).await;
        let (reply, why) = match ended {
            Some(Ok(reply)) => (Some(reply), None),
            // It may have been served in this moment; then that is the reply.
            Some(Err(why)) => (self.server.engine.unblock(blocked), Some(why)),
            None => {
                self.server.engine.unblock(blocked);
                return Waited::Gone;
            }
        };
        let stats = self.server.engine.command_stats(wait.command);
        stats.calls.fetch_add(1, Ordering::Relaxed);
        let took = os::nanos() - wait.since;
        stats.nanos.fetch_add(took, Ordering::Relaxed);
        self.server.stats.latency.note(wait.command, took);
        // What served it is a write.
        self.wrote = true;
        let waited = match (reply, why) {
            (Some(reply), _) => Waited::Reply(reply),
            (None, why) => let_go(why.unwrap_or(Unblock::Timeout), || blocked.nothing()),
        };
        if let Waited::Reply(reply) | Waited::Last(reply) = &waited
            && let Some(line) = reply.strip_prefix(b"-")
        {
            stats.failed.fetch_add(1, Ordering::Relaxed);
            self.server.stats.error(line);
        }
        waited
    }

    async fn wait_for_acks(&mut self, acks: Acks) -> Waited {
        let server = self.server.clone();
        let waited = match self.wait_until(acks.reached(&server), acks.timeout(), None).await {
            None => return Waited::Gone,
            Some(Ok(reply)) => Waited::Reply(reply),
            Some(Err(why)) => let_go(why, || acks.reply_now(&server)),
        };
        if let Waited::Reply(reply) | Waited::Last(reply) = &waited
            && let Some(line) = reply.strip_prefix(b"-")
        {
            server.stats.error(line);
        }
        waited
    }

    /// Waits for `served`, or for why it is not; `None` where the connection ended.
    async fn wait_until(
        &mut self,
        served: impl Future<Output = Vec<u8>>,
        timeout: Option<Duration>,
        watch: Option<Watch>,
    ) -> Option<Result<Vec<u8>, Unblock>> {
        let (to, mut ended) = oneshot::channel();
        *self.client.waits.lock() = Some(Reach { to, watch });
        let deadline = timeout.map(|t| tokio::time::Instant::now() + t);
        let time_up = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let client = self.client.clone();
        let waited = self
            .attend(async {
                tokio::select! {
                    biased;
                    reply = served => Ok(reply),
                    given = &mut ended => Err(given.unwrap_or(Unblock::Timeout)),
                    () = time_up => Err(Unblock::Timeout),
                }
            })
            .await;
        client.waits.lock().take();
        waited
    }
}

/// How a wait ends that was ended: the reply of a command whose time is up, or an error.
fn let_go(why: Unblock, time_up: impl FnOnce() -> Vec<u8>) -> Waited {
    let Some(text) = why.error() else { return Waited::Reply(time_up()) };
    let mut reply = Vec::new();
    Reply::new(&mut reply, false).error(text);
    match why {
        Unblock::Role => Waited::Last(reply),
        _ => Waited::Reply(reply),
    }
}
