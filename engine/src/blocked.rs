//! A command that waits, as its caller holds it: by it its reply comes, and with it the wait ends.
//!
//! Who waits stands in the queues of its keys' shards ([`keyspace::waiting`](crate::keyspace::waiting)); who is put there and
//! served is told in [`blocking`](crate::blocking).

use crate::hash::hash;
use crate::keyspace::shard::Held;
use crate::keyspace::waiting::Waiter;
use crate::resp::Reply;
use crate::shared::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A command that waits, as its caller holds it. Who drops it waits no longer: what comes is for the next.
pub struct Blocked {
    inner: Arc<Shared>,
    waiter: Arc<Waiter>,
    /// How long it may wait; `None` is for ever.
    pub timeout: Option<Duration>,
}

impl std::fmt::Debug for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocked").field("timeout", &self.timeout).finish()
    }
}

impl Blocked {
    pub(crate) fn new(inner: &Arc<Shared>, waiter: Arc<Waiter>, timeout: Option<Duration>) -> Blocked {
        Blocked { inner: inner.clone(), waiter, timeout }
    }

    /// The reply, once there is one.
    pub async fn reply(&self) -> Vec<u8> {
        std::future::poll_fn(|cx| self.waiter.poll_reply(cx.waker())).await
    }

    /// Tells others whether the command still waits.
    pub fn watch(&self) -> Watch {
        Watch(self.waiter.clone())
    }

    /// The reply of a command whose time is up: a null array.
    pub fn nothing(&self) -> Vec<u8> {
        let mut reply = Vec::new();
        Reply::new(&mut reply, self.waiter.resp3).null_array();
        reply
    }

    /// Ends the wait. Returns the reply if the command was served before this call: then that is its outcome.
    pub(crate) fn end(&self) -> Option<Vec<u8>> {
        let inner = &self.inner;
        let mut held = inner.shards.hold(self.waiter.keys.iter().map(|k| inner.shard_of(hash(k))).collect());
        if self.waiter.is_waiting() {
            leave(inner, &mut held, &self.waiter);
            return None;
        }
        drop(held);
        // Delivered before the locks were released.
        self.waiter.take_reply()
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if self.waiter.is_waiting() {
            self.end();
        }
    }
}

/// Takes a command out of the queues of its keys, whose shards are locked.
pub(crate) fn leave(inner: &Shared, held: &mut Held<'_>, waiter: &Waiter) {
    for key in &waiter.keys {
        let blocked = &mut held.shard(inner.shard_of(hash(key))).blocked;
        if let Some(queue) = blocked.get_mut(key) {
            queue.leave(waiter);
            if queue.is_empty() {
                blocked.remove(key);
            }
        }
    }
    waiter.leaves();
    inner.blocked.fetch_sub(1, Ordering::Release);
}

/// Whether a command still waits: it no longer does from the moment it is served.
#[derive(Clone)]
pub struct Watch(Arc<Waiter>);

impl Watch {
    /// True until the command is served or gives up.
    pub fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.is_waiting()).finish()
    }
}
