//! The names of changes: what happens to keys, in the words of Redis' keyspace events, and who listens.
//!
//! Who says that something changed is [`changes`](super::changes). Events gather in an [`Effects`](super::Effects), in their order, and
//! are told when the command, or the whole transaction, has run and is logged, before it lets go of its locks: a listener sees
//! the events of one key in the order of the log. As many can gather as the command has effects. With nobody listening an
//! event costs one load.

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
pub(crate) type Listener = Arc<dyn Fn(Happening<'_>) + Send + Sync>;

/// Whoever listens to an engine's events, and to which.
#[derive(Default)]
pub(crate) struct Listening {
    classes: AtomicU16,
    listener: RwLock<Option<Listener>>,
}

impl Listening {
    /// Has `listener` told of events of these classes, in place of who listened before.
    pub(crate) fn begin(&self, classes: Class, listener: Listener) {
        *self.listener.write() = Some(listener);
        self.classes.store(classes.bits(), Ordering::Release);
    }

    /// Has nobody told any more.
    pub(crate) fn end(&self) {
        self.classes.store(0, Ordering::Release);
        *self.listener.write() = None;
    }

    #[cold]
    pub(crate) fn tell(&self, events: &mut Events) {
        if let Some(listener) = self.listener.read().clone() {
            events.each(|happening| listener(happening));
        }
        events.clear();
    }

    #[inline]
    pub(super) fn wants(&self, event: Event) -> bool {
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
    pub(super) fn push(&mut self, event: Event, db: u32, key: &[u8]) {
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
