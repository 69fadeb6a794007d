//! A change has a name: what happens to keys, one by one, in the words of Redis' keyspace events.
//!
//! There are two ways to say that something changed. [`Ctx::changed`] is the one for what a command did to a key: it counts
//! the change (so that the command is logged), tells who watches the key and who waits for it, and names the event.
//! [`expired`] is the one for a key that goes although nobody deleted it. A command that merely names what happened, as
//! `lpush` creates a list before it pushes, calls [`Keys::notify`].
//!
//! Events gather in [`Effects`], in their order, and the engine tells them to whoever [listens](Engine::listen) when the command,
//! or the whole transaction, has run and is logged, before it lets go of its locks: a listener sees the events of one key in the
//! order of the log. As many can gather as the command has effects. With nobody listening an event costs one load.

use super::shard::Watched;
use super::{Ctx, Effects, Keys, Shard, ShardStats};
use crate::engine::{Engine, Inner};
use crate::hash::hash;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

bitflags::bitflags! {
    /// Kinds of events, as `notify-keyspace-events` selects them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Class: u16 {
        /// `g`: commands for keys of any type.
        const GENERIC = 1;
        /// `$`: commands for strings.
        const STRING = 1 << 1;
        /// `l`: commands for lists.
        const LIST = 1 << 2;
        /// `s`: commands for sets.
        const SET = 1 << 3;
        /// `h`: commands for hashes.
        const HASH = 1 << 4;
        /// `z`: commands for sorted sets.
        const ZSET = 1 << 5;
        /// `x`: a key was removed because its time was up.
        const EXPIRED = 1 << 6;
        /// `e`: a key was removed to make room.
        const EVICTED = 1 << 7;
        /// `n`: a key was made that was not there.
        const NEW = 1 << 8;
        /// `m`: a read looked for a key that was not there.
        const MISS = 1 << 9;
        /// `A`: all but the last two.
        const ALL = (1 << 8) - 1;
    }
}

macro_rules! events {
    ($($event:ident $name:literal $class:ident;)*) => {
        /// What happened to a key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Event {
            $(#[doc = concat!("`", $name, "`")] $event,)*
        }

        impl Event {
            /// The name Redis gives it.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$event => $name,)* }
            }

            /// The class it belongs to.
            #[inline]
            pub const fn class(self) -> Class {
                match self { $(Event::$event => Class::$class,)* }
            }
        }
    };
}

events! {
    New "new" NEW;
    Expired "expired" EXPIRED;
    Evicted "evicted" EVICTED;
    KeyMiss "keymiss" MISS;
    Del "del" GENERIC;
    Expire "expire" GENERIC;
    Persist "persist" GENERIC;
    RenameFrom "rename_from" GENERIC;
    RenameTo "rename_to" GENERIC;
    MoveFrom "move_from" GENERIC;
    MoveTo "move_to" GENERIC;
    CopyTo "copy_to" GENERIC;
    Restore "restore" GENERIC;
    Set "set" STRING;
    SetRange "setrange" STRING;
    Append "append" STRING;
    IncrBy "incrby" STRING;
    IncrByFloat "incrbyfloat" STRING;
    SetBit "setbit" STRING;
    PfAdd "pfadd" STRING;
    LPush "lpush" LIST;
    RPush "rpush" LIST;
    LPop "lpop" LIST;
    RPop "rpop" LIST;
    LSet "lset" LIST;
    LInsert "linsert" LIST;
    LRem "lrem" LIST;
    LTrim "ltrim" LIST;
    SortStore "sortstore" LIST;
    HSet "hset" HASH;
    HIncrBy "hincrby" HASH;
    HIncrByFloat "hincrbyfloat" HASH;
    HDel "hdel" HASH;
    SAdd "sadd" SET;
    SRem "srem" SET;
    SPop "spop" SET;
    SInterStore "sinterstore" SET;
    SUnionStore "sunionstore" SET;
    SDiffStore "sdiffstore" SET;
    ZAdd "zadd" ZSET;
    ZIncr "zincr" ZSET;
    ZRem "zrem" ZSET;
    ZRemRangeByRank "zremrangebyrank" ZSET;
    ZRemRangeByScore "zremrangebyscore" ZSET;
    ZRemRangeByLex "zremrangebylex" ZSET;
    ZPopMin "zpopmin" ZSET;
    ZPopMax "zpopmax" ZSET;
    ZRangeStore "zrangestore" ZSET;
    ZUnionStore "zunionstore" ZSET;
    ZInterStore "zinterstore" ZSET;
    ZDiffStore "zdiffstore" ZSET;
}

/// An event, as a listener gets it.
#[derive(Clone, Copy, Debug)]
pub struct Happening<'a> {
    /// What happened.
    pub event: Event,
    /// In which database.
    pub db: u32,
    /// To which key.
    pub key: &'a [u8],
}

/// Who listens.
type Listener = Arc<dyn Fn(Happening<'_>) + Send + Sync>;

/// Whoever listens to an engine's events, and to which.
#[derive(Default)]
pub(crate) struct Listening {
    classes: AtomicU16,
    listener: RwLock<Option<Listener>>,
}

impl Listening {
    #[inline]
    fn wants(&self, event: Event) -> bool {
        self.classes.load(Ordering::Relaxed) & event.class().bits() != 0
    }
}

/// Events that have happened and were not told yet.
#[derive(Default)]
pub(crate) struct Events {
    /// The events with their databases, each with the end of its key's name in `names`.
    list: Vec<(Event, u32, usize)>,
    names: Vec<u8>,
}

impl Events {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.names.clear();
    }

    #[cold]
    fn push(&mut self, event: Event, db: u32, key: &[u8]) {
        self.names.extend_from_slice(key);
        self.list.push((event, db, self.names.len()));
    }

    fn each(&self, mut f: impl FnMut(Happening<'_>)) {
        let mut from = 0;
        for (event, db, end) in &self.list {
            f(Happening { event: *event, db: *db, key: &self.names[from..*end] });
            from = *end;
        }
    }
}

/// # Events
impl Engine {
    /// Has `listener` told of events of these classes, in place of who listened before. It is called under the locks of
    /// the shards that the events happened in: it must be quick, and must not call the engine.
    ///
    /// ```
    /// use sluice_engine::{Class, Engine, Event};
    /// use std::sync::mpsc;
    ///
    /// let engine = Engine::default();
    /// let (told, heard) = mpsc::channel();
    /// engine.listen(Class::EXPIRED | Class::LIST, move |happening| {
    ///     let _ = told.send((happening.event, happening.key.to_vec()));
    /// });
    /// engine.db(0).set("no list", "x")?;
    /// engine.db(0).rpush("jobs", &["wash"])?;
    /// assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(Event::RPush, b"jobs".to_vec())]);
    /// # Ok::<(), sluice_engine::Error>(())
    /// ```
    pub fn listen(&self, classes: Class, listener: impl Fn(Happening<'_>) + Send + Sync + 'static) {
        let listening = &self.inner.listening;
        *listening.listener.write() = Some(Arc::new(listener));
        listening.classes.store(classes.bits(), Ordering::Release);
    }

    /// Has nobody told of events any more.
    pub fn listen_no_more(&self) {
        let listening = &self.inner.listening;
        listening.classes.store(0, Ordering::Release);
        *listening.listener.write() = None;
    }

    /// Tells what has happened, while the shards are locked still.
    #[inline]
    pub(crate) fn announce(&self, fx: &mut Effects) {
        if !fx.events.is_empty() {
            self.inner.tell(&mut fx.events);
        }
    }
}

impl Effects {
    /// Notes an event, where somebody listens.
    #[inline]
    pub(super) fn note(&mut self, inner: &Inner, db: u32, key: &[u8], event: Event) {
        if inner.listening.wants(event) {
            self.events.push(event, db, key);
        }
    }
}

impl Inner {
    #[cold]
    fn tell(&self, events: &mut Events) {
        if let Some(listener) = self.listening.listener.read().clone() {
            events.each(|happening| listener(happening));
        }
        events.clear();
    }
}

/// A key has gone because its time was up: its deletion is logged, it is counted, and its watchers are told. The caller has
/// removed it from its table.
pub(crate) fn expired(
    inner: &Inner,
    stats: &mut ShardStats,
    watched: &mut Watched,
    fx: &mut Effects,
    db: u32,
    key: &[u8],
) {
    stats.expired += 1;
    fx.push(db, &[b"DEL", key]);
    if inner.watchers.load(Ordering::Relaxed) != 0 {
        watched.changed(db, key, || false);
    }
    fx.note(inner, db, key, Event::Expired);
}

impl Ctx<'_> {
    /// Counts a change of `key`: the command will be logged, and who watches or waits for the key, or listens, learns of it.
    #[inline]
    pub fn changed(&mut self, key: &[u8], event: Event) {
        self.keys.fx.dirty += 1;
        self.keys.touched(self.keys.db, key, event);
    }

    /// Counts changes of `n` elements of `key`, perhaps of none.
    pub(crate) fn changed_elements(&mut self, key: &[u8], n: usize, event: Event) {
        if n > 0 {
            self.changed(key, event);
            self.add_dirty(n as u64 - 1);
        }
    }

    /// Counts the removal of `n` elements of `key`, perhaps of none: the key goes with its last one.
    pub(crate) fn removed_elements(&mut self, key: &[u8], n: usize, event: Event) {
        if n > 0 {
            let emptied = self.keys.remove_if_empty(key);
            self.changed_elements(key, n, event);
            if emptied {
                self.keys.notify(self.keys.db, key, Event::Del);
            }
        }
    }

    /// Deletes a key with all its `n` elements, and counts their removal.
    pub(crate) fn delete_emptied(&mut self, key: &[u8], n: usize, event: Event) {
        self.keys.delete(key);
        self.changed_elements(key, n, event);
        self.keys.notify(self.keys.db, key, Event::Del);
    }

    /// Deletes a live key, and counts that; true where there was one.
    pub(crate) fn delete(&mut self, key: &[u8]) -> bool {
        let there = self.keys.delete(key);
        if there {
            self.changed(key, Event::Del);
        }
        there
    }

    /// Counts `n` changes without a key (FLUSHALL), or more of the key that was named already.
    pub fn add_dirty(&mut self, n: u64) {
        self.keys.fx.dirty += n;
    }

    /// Changes counted so far by this command.
    pub fn dirty(&self) -> u64 {
        self.keys.fx.dirty
    }
}

impl Keys<'_> {
    /// A key of a database was changed along with another, whose change is counted.
    #[inline]
    pub fn touched(&mut self, db: u32, key: &[u8], event: Event) {
        self.signal(db, key);
        self.notify(db, key, event);
    }

    /// Tells watchers of a key in a database, and notes whether commands wait for it: it was changed, and that has no name.
    #[inline]
    pub fn signal(&mut self, db: u32, key: &[u8]) {
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_ready(db, key);
        }
        if self.inner.watchers.load(Ordering::Relaxed) != 0 {
            self.tell_watchers(db, key);
        }
    }

    #[cold]
    fn tell_watchers(&mut self, db: u32, key: &[u8]) {
        let h = hash(key);
        let Shard { watched, dbs, .. } = self.shard(h);
        watched.changed(db, key, || dbs[db as usize].get_hashed(h, key).is_some());
    }

    /// Names what happened to a key, for whoever listens. It changes nothing.
    #[inline]
    pub fn notify(&mut self, db: u32, key: &[u8], event: Event) {
        self.fx.note(self.inner, db, key, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::console::Console;
    use parking_lot::Mutex;
    use std::time::Duration;

    /// A console whose events of these classes gather.
    fn heard(classes: Class) -> (Console, Arc<Mutex<Vec<String>>>) {
        let (c, told) = (Console::new(), Arc::<Mutex<Vec<String>>>::default());
        let to = told.clone();
        c.engine.listen(classes, move |h| {
            to.lock().push(format!("{} {} {}", h.db, String::from_utf8_lossy(h.key), h.event.name()));
        });
        (c, told)
    }

    #[test]
    fn only_the_classes_that_are_asked_for_are_told_and_nothing_once_nobody_listens() {
        let (mut c, told) = heard(Class::LIST | Class::MISS);
        c.run("SET k v");
        c.run("RPUSH l a");
        c.run("GET none");
        c.run("LPOP l");
        assert_eq!(*told.lock(), ["0 l rpush", "0 none keymiss", "0 l lpop"]);
        c.engine.listen_no_more();
        c.run("RPUSH l a");
        assert_eq!(told.lock().len(), 3);
        assert!(c.session.fx.events.is_empty());
    }

    #[test]
    fn keys_that_expire_although_no_command_comes_by_are_told() {
        let (mut c, told) = heard(Class::EXPIRED);
        c.run("SET k v PXAT 1000");
        c.engine.expire_cycle(Duration::from_secs(1));
        c.engine.set_replica(true);
        c.run("SET own v PXAT 1000");
        c.engine.expire_own(Duration::from_secs(1));
        assert_eq!(*told.lock(), ["0 k expired", "0 own expired"]);
    }

    #[test]
    fn a_typed_call_sends_what_the_command_sends() {
        let (c, told) = heard(Class::ALL | Class::NEW);
        let db = c.engine.db(1);
        db.set("k", "v").expect("a string");
        db.rpush("l", &["a"]).expect("a list");
        db.lpop("l").expect("a list");
        db.hset_many("h", &[("f", "v")]).expect("a hash");
        db.hdel("h", &["f"]).expect("a hash");
        db.rename("k", "j").expect("there is one");
        db.del(&["j"]);
        let expected = [
            "1 k new",
            "1 k set",
            "1 l new",
            "1 l rpush",
            "1 l lpop",
            "1 l del",
            "1 h new",
            "1 h hset",
            "1 h hdel",
            "1 h del",
            "1 j new",
            "1 k rename_from",
            "1 j rename_to",
            "1 j del",
        ];
        assert_eq!(*told.lock(), expected);
    }

    #[test]
    fn what_happened_is_logged_before_it_is_told() {
        let c = Console::new();
        let (log, ends) = (c.engine.log().clone(), Arc::<Mutex<Vec<u64>>>::default());
        let to = ends.clone();
        c.engine.listen(Class::ALL, move |_| to.lock().push(log.end()));
        c.engine.db(0).set("k", "v").expect("a string");
        assert_eq!(*ends.lock(), [c.engine.log().end()]);
    }
}
