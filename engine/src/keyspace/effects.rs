//! What a command, or a transaction, will append to the log when it has run.
//!
//! Effects gather in one buffer that a session keeps, so that logging a write allocates nothing. Appending them, under
//! the locks of the shards they came from, is the engine's part.

use super::events::{Event, Events, Listening};
use super::waiting::{Ready, Wish};
use crate::resp::command::encode_command;
use smallvec::SmallVec;

/// The effects a command, or a transaction, will append to the log.
#[derive(Default)]
pub struct Effects {
    pub(crate) buf: Vec<u8>,
    /// Database and end offset in `buf` of each effect.
    pub(crate) ops: SmallVec<[(u32, usize); 2]>,
    /// Changes made by the commands of a block before the running one.
    pub(crate) changes: u64,
    /// Changes made by the running command.
    pub(crate) dirty: u64,
    /// The command said itself what is logged.
    pub(crate) replaced: bool,
    pub(crate) enabled: bool,
    /// The command found nothing and wants to wait.
    pub(crate) wish: Option<Wish>,
    /// Keys that changed and that commands wait for.
    pub(crate) ready: Ready,
    /// What happened to keys, for whoever listens.
    pub(crate) events: Events,
}

impl Effects {
    pub(crate) fn push(&mut self, db: u32, args: &[&[u8]]) {
        if self.enabled {
            encode_command(&mut self.buf, args);
            self.ops.push((db, self.buf.len()));
        }
    }

    pub(crate) fn push_encoded(&mut self, db: u32, raw: &[u8]) {
        if self.enabled {
            self.buf.extend_from_slice(raw);
            self.ops.push((db, self.buf.len()));
        }
    }

    /// Notes an event, where somebody listens.
    #[inline]
    pub(super) fn note(&mut self, listening: &Listening, db: u32, key: &[u8], event: Event) {
        if listening.wants(event) {
            self.events.push(event, db, key);
        }
    }

    /// The effects one by one, each with its database.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut from = 0;
        self.ops.iter().map(move |(db, end)| {
            let effect = &self.buf[from..*end];
            from = *end;
            (*db, effect)
        })
    }

    /// The next command of a block begins.
    pub(crate) fn next_command(&mut self) {
        self.changes += self.dirty;
        self.dirty = 0;
        self.replaced = false;
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.changes = 0;
        self.dirty = 0;
        self.replaced = false;
        // A plain read or write leaves none of these.
        if !(self.ops.is_empty() && self.wish.is_none() && self.ready.is_empty() && self.events.is_empty()) {
            self.clear_lists();
        }
    }

    #[cold]
    fn clear_lists(&mut self) {
        self.buf.clear();
        self.ops.clear();
        self.wish = None;
        self.ready.clear();
        self.events.clear();
    }
}
