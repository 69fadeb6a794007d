//! Waiting for keys: what BLPOP and its kind do when there is nothing to take yet.
//!
//! A handler that finds nothing calls `Ctx::block`. The command then waits on its keys, in their shards, in the
//! order it came; nothing can slip by, for its shards are still locked. A write to a key that somebody waits for runs
//! exclusively (every shard locked). When it is done, and its effect logged, those who wait are served, the longest
//! wait first, each as if it ran now: its effect is logged as that of the command that does not wait (LPOP for
//! BLPOP). What serving one makes available to another (BLMOVE) is served in the same go.
//!
//! The engine knows no time: the embedder waits for the reply ([`Blocked::reply`]) as long as the command allows and
//! takes it back with [`Engine::unblock`].

use crate::command::{CmdError, CmdResult};
use crate::engine::Engine;
use crate::execute::Appended;
use crate::hash::hash;
use crate::keyspace::{Ctx, Held, Keys};
use crate::resp::Reply;
use crate::value::Type;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Takes what a waiting command waits for from a key that now holds it; replies, and propagates what it did.
pub(crate) type ServeFn = fn(&mut Ctx<'_>, &[&[u8]], &[u8]) -> CmdResult;

/// What a handler that found nothing asks for.
pub(crate) struct Wish {
    /// Positions of the keys among the arguments.
    pub(crate) keys: std::ops::Range<usize>,
    /// The type it waits for.
    pub(crate) kind: Type,
    /// `None` waits for ever.
    pub(crate) timeout: Option<Duration>,
    /// Serves it.
    pub(crate) serve: ServeFn,
    /// What it replies where it may not wait.
    pub(crate) nothing: Nothing,
}

/// What a command that found nothing, and may not wait, replies. A command whose time is up always replies a null array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// A null array: it would reply one with its element.
    Array,
    /// A null: it would reply the element.
    Element,
}

/// A command that waits.
pub(crate) struct Waiter {
    db: u32,
    keys: SmallVec<[Box<[u8]>; 1]>,
    args: Vec<Vec<u8>>,
    kind: Type,
    serve: ServeFn,
    resp3: bool,
    /// Lower than that of who comes to the same key later.
    ticket: u64,
    /// In the shards' queues; changes under the locks of its keys' shards.
    waiting: AtomicBool,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    reply: Option<Vec<u8>>,
    waker: Option<Waker>,
}

impl Waiter {
    fn deliver(&self, reply: Vec<u8>) {
        let mut slot = self.slot.lock();
        slot.reply = Some(reply);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

/// Those who wait for a key, by database and in the order they came: joining, leaving and finding the next takes the
/// logarithm of their number, whatever they also wait for.
#[derive(Default)]
pub(crate) struct Queue(BTreeMap<(u32, u64), Arc<Waiter>>);

impl Queue {
    fn join(&mut self, waiter: &Arc<Waiter>) {
        self.0.insert((waiter.db, waiter.ticket), waiter.clone());
    }

    fn leave(&mut self, waiter: &Waiter) {
        self.0.remove(&(waiter.db, waiter.ticket));
    }

    /// The first in a database whose ticket is not below this one.
    fn next(&self, db: u32, ticket: u64) -> Option<&Arc<Waiter>> {
        self.0.range((db, ticket)..=(db, u64::MAX)).next().map(|(_, waiter)| waiter)
    }

    fn is_awaited_in(&self, db: u32) -> bool {
        self.next(db, 0).is_some()
    }
}

/// Keys that changed and that commands wait for, in the order of their change; each once.
#[derive(Default)]
pub(crate) struct Ready {
    order: Vec<(u32, Box<[u8]>)>,
    seen: HashSet<(u32, Box<[u8]>)>,
}

impl Ready {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.order.is_empty() {
            *self = Ready::default();
        }
    }

    fn add(&mut self, db: u32, key: &[u8]) {
        if self.seen.insert((db, key.into())) {
            self.order.push((db, key.into()));
        }
    }
}

/// A command that waits, as its caller holds it. Who drops it waits no longer: what comes is for the next.
pub struct Blocked {
    engine: Engine,
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
    /// The reply, once there is one.
    pub async fn reply(&self) -> Vec<u8> {
        std::future::poll_fn(|cx| {
            let mut slot = self.waiter.slot.lock();
            match slot.reply.take() {
                Some(reply) => Poll::Ready(reply),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
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
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if self.waiter.waiting.load(Ordering::Acquire) {
            self.engine.unblock(self);
        }
    }
}

/// Whether a command still waits: it no longer does from the moment it is served.
#[derive(Clone)]
pub struct Watch(Arc<Waiter>);

impl Watch {
    /// True until the command is served or gives up.
    pub fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.is_waiting()).finish()
    }
}

/// Parses a timeout in seconds, as blocking commands take it; 0 is for ever.
pub(crate) fn timeout_arg(arg: &[u8]) -> Result<Option<Duration>, CmdError> {
    let seconds = crate::num::parse_f64(arg)
        .filter(|s| s.is_finite())
        .ok_or(CmdError::text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(CmdError::text("ERR timeout is negative"));
    }
    let ms = (seconds * 1000.0).ceil();
    if ms >= i64::MAX as f64 {
        return Err(CmdError::text("ERR timeout is out of range"));
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

impl Ctx<'_> {
    /// Waits as `wish` says, or replies nothing at once where waiting is not allowed (EXEC, the primary's stream).
    pub(crate) fn block(&mut self, wish: Wish) {
        if self.keys.may_block {
            self.keys.fx.wish = Some(wish);
        } else {
            match wish.nothing {
                Nothing::Array => self.out.null_array(),
                Nothing::Element => self.out.null(),
            }
        }
    }
}

impl Keys<'_> {
    /// Notes that a key changed which somebody waits for.
    #[cold]
    pub(crate) fn note_ready(&mut self, db: u32, key: &[u8]) {
        let h = hash(key);
        let index = self.inner.shard_of(h);
        let waited = self.held.shard(index).blocked.get(key).is_some_and(|q| q.is_awaited_in(db));
        if waited {
            self.fx.ready.add(db, key);
        }
    }

    /// Notes every key of a database that somebody waits for and that exists: the database was swapped in.
    pub(crate) fn note_all_ready(&mut self, db: u32) {
        let mut found = Vec::new();
        self.held.each(|_, shard| {
            for (key, queue) in &shard.blocked {
                if queue.is_awaited_in(db) && shard.dbs[db as usize].get(key).is_some() {
                    found.push(key.clone());
                }
            }
        });
        found.iter().for_each(|key| self.fx.ready.add(db, key));
    }
}

/// # Commands that wait
impl Engine {
    /// Commands that wait for keys.
    pub fn blocked(&self) -> usize {
        self.inner.blocked.load(Ordering::Relaxed)
    }

    /// Puts a command in the queues of its keys, whose shards are locked.
    pub(crate) fn enqueue(
        &self,
        held: &mut Held<'_>,
        wish: Wish,
        db: u32,
        resp3: bool,
        args: &[&[u8]],
    ) -> Blocked {
        /// Of all engines, so that nobody has to ask which one it is.
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        // A name that comes twice is one place in one queue.
        let keys = wish.keys.map(|at| args[at].into()).collect();
        let waiter = Arc::new(Waiter {
            db,
            keys,
            args: args.iter().map(|a| a.to_vec()).collect(),
            kind: wish.kind,
            serve: wish.serve,
            resp3,
            ticket: TICKETS.fetch_add(1, Ordering::Relaxed),
            waiting: AtomicBool::new(true),
            slot: Mutex::default(),
        });
        for key in &waiter.keys {
            let index = self.inner.shard_of(hash(key));
            held.shard(index).blocked.entry(key.clone()).or_default().join(&waiter);
        }
        self.inner.blocked.fetch_add(1, Ordering::Release);
        Blocked { engine: self.clone(), waiter, timeout: wish.timeout }
    }

    fn dequeue(&self, held: &mut Held<'_>, waiter: &Arc<Waiter>) {
        for key in &waiter.keys {
            let index = self.inner.shard_of(hash(key));
            let blocked = &mut held.shard(index).blocked;
            if let Some(queue) = blocked.get_mut(key) {
                queue.leave(waiter);
                if queue.0.is_empty() {
                    blocked.remove(key);
                }
            }
        }
        waiter.waiting.store(false, Ordering::Release);
        self.inner.blocked.fetch_sub(1, Ordering::Release);
    }

    /// Ends a wait. Returns the reply if the command was served before this call: then that is its outcome.
    pub fn unblock(&self, blocked: &Blocked) -> Option<Vec<u8>> {
        let indexes = blocked.waiter.keys.iter().map(|k| self.inner.shard_of(hash(k))).collect();
        let mut held = self.lock_indexes(indexes);
        if blocked.waiter.waiting.load(Ordering::Acquire) {
            self.dequeue(&mut held, &blocked.waiter);
            return None;
        }
        drop(held);
        // Delivered before the locks were released.
        blocked.waiter.slot.lock().reply.take()
    }

    /// Serves those who wait for `ready` keys; every shard is locked, and is let go of at the end.
    pub(crate) fn serve_ready(&self, held: Held<'_>, mut ready: Ready) {
        // Taken apart and put together again, its lifetime may be that of the locals here.
        let Held::All(shards) = held else {
            debug_assert!(false, "a write to a key that is waited for runs exclusively");
            return;
        };
        let mut fx = crate::keyspace::Effects::default();
        let mut reply = Vec::new();
        let out = Reply::new(&mut reply, false);
        let mut cx = self.context(&mut fx, Held::All(shards), 0, false, self.now_ms(), out);
        let mut served: Vec<(Arc<Waiter>, Vec<u8>)> = Vec::new();
        while !ready.is_empty() {
            for (db, key) in std::mem::take(&mut ready).order {
                cx.keys.db = db;
                let index = self.inner.shard_of(hash(&key));
                let mut from = 0;
                // Every shard is locked: nobody comes or goes but those who are served here.
                while let Some(waiter) =
                    cx.keys.held.shard(index).blocked.get(&key).and_then(|q| q.next(db, from))
                {
                    let waiter = waiter.clone();
                    from = waiter.ticket + 1;
                    // A key that has expired since is removed, and nobody is served.
                    if !cx.keys.live(&key) {
                        break;
                    }
                    match cx.keys.type_of(&key) {
                        None => break,
                        Some(kind) if kind != waiter.kind => continue,
                        Some(_) => {}
                    }
                    self.serve_one(&mut cx, &waiter, &key);
                    self.dequeue(&mut cx.keys.held, &waiter);
                    served.push((waiter, std::mem::take(cx.out.raw())));
                }
                let more = std::mem::take(&mut cx.keys.fx.ready);
                more.order.iter().for_each(|(db, key)| ready.add(*db, key));
            }
        }
        let (held, _) = self.conclude(cx, Appended::Effects);
        for (waiter, reply) in served {
            waiter.deliver(reply);
        }
        drop(held);
    }

    fn serve_one(&self, cx: &mut Ctx<'_>, waiter: &Waiter, key: &[u8]) {
        let args: SmallVec<[&[u8]; 8]> = waiter.args.iter().map(Vec::as_slice).collect();
        cx.out.raw().clear();
        cx.out.set_resp3(waiter.resp3);
        cx.keys.fx.next_command();
        let result = (waiter.serve)(cx, &args, key);
        if let Err(e) = result {
            cx.out.raw().clear();
            cx.out.error(&e.message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::engine::{Outcome, Request};

    fn call(engine: &Engine, session: &mut Session, words: &[&str]) -> (Outcome, String) {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let row = engine.lookup(args[0]).expect("a command");
        let mut out = Vec::new();
        let outcome = engine.call(session, row, Request { args: &args, raw: None }, &mut out);
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    fn wait(engine: &Engine, db: u32, words: &[&str]) -> Blocked {
        let mut session = engine.session();
        (session.db, session.may_block) = (db, true);
        assert_eq!(call(engine, &mut session, words).0, Outcome::Blocked);
        session.blocked.take().expect("it waits")
    }

    /// `(keys somebody waits for, places in their queues)`.
    fn queues(engine: &Engine) -> (usize, usize) {
        let shards: Vec<_> = engine.inner.shards.iter().map(|s| s.lock()).collect();
        let queues = || shards.iter().flat_map(|s| s.blocked.values());
        (queues().count(), queues().map(|q| q.0.len()).sum())
    }

    #[test]
    fn a_command_has_one_place_in_the_queue_of_each_of_its_keys_however_often_it_names_them() {
        let engine = Engine::default();
        let names: Vec<String> = (0..20_000).map(|n| format!("key:{}", n % 10_000)).collect();
        let mut words = vec!["BLPOP"];
        words.extend(names.iter().map(String::as_str));
        words.push("0");
        let blocked = wait(&engine, 0, &words);
        assert_eq!(queues(&engine), (10_000, 10_000));
        assert!(engine.unblock(&blocked).is_none());
        assert_eq!((queues(&engine), engine.blocked()), ((0, 0), 0));
    }

    #[test]
    fn who_came_first_is_served_first_and_who_waits_for_another_type_or_database_goes_on_waiting() {
        let engine = Engine::default();
        let waits: Vec<(Blocked, u32, &str)> =
            [(0, "BLPOP"), (1, "BLPOP"), (0, "BZPOPMIN"), (0, "BRPOP"), (0, "BLPOP")]
                .into_iter()
                .map(|(db, command)| (wait(&engine, db, &[command, "a", "k", "b", "0"]), db, command))
                .collect();
        let mut session = engine.session();
        // In one transaction each key counts once, and what is pushed is shared out in the order of the waits.
        for words in
            [&["MULTI"] as &[_], &["RPUSH", "k", "1"], &["RPUSH", "k", "2"], &["DEL", "none"], &["EXEC"]]
        {
            call(&engine, &mut session, words);
        }
        let served: Vec<Option<String>> = waits
            .iter()
            .map(|(blocked, ..)| {
                engine.unblock(blocked).map(|reply| String::from_utf8_lossy(&reply).into_owned())
            })
            .collect();
        let reply = |n: u8| Some(format!("*2\r\n$1\r\nk\r\n$1\r\n{n}\r\n"));
        assert_eq!(served, [reply(1), None, None, reply(2), None]);
        assert_eq!((queues(&engine), engine.blocked()), ((0, 0), 0));
    }
}
