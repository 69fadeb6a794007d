//! A cut, as commands: the base of an append-only file where `aof-use-rdb-preamble` is off.
//!
//! Every key becomes the commands that make it: `SET`, or `RPUSH`, `SADD`, `HMSET`, `ZADD` with
//! up to 64 items each, then `PEXPIREAT` where it expires. A huge value comes in the cut's slices and
//! leaves in the same commands, so no more of it than one command is ever held. What is opaque becomes one `RESTORE` of
//! the payload `DUMP` would give, written piece by piece. `SELECT` stands wherever the database changes, which
//! pre-images make happen more often than once a database.

use crate::Error;
use crate::rdb::PayloadFooter;
use crate::save::{CHUNK, CutEncoder, SaveStats, write_cut};
use crate::storage::Storage;
use sluice_engine::internals::{LpValue, NodeView, num::fmt_f64};
use sluice_engine::{Cut, CutSink, Element, EntryMeta, HugeKind, ValueView};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Items of a collection in one command, as redis-server writes them (`AOF_REWRITE_ITEMS_PER_CMD`).
const ITEMS_PER_COMMAND: usize = 64;
/// A command of fewer items ends when they are this long: a reader has to hold it whole.
const BYTES_PER_COMMAND: usize = 1 << 20;

/// How to write a base of commands.
#[derive(Debug, Clone, Default)]
pub struct RewriteOptions {
    /// The time to begin with as an annotation, in Unix seconds (`aof-timestamp-enabled`).
    pub timestamp: Option<i64>,
}

/// Writes a cut into a file as commands; see [`save_cut`](crate::save_cut) for the rest.
///
/// # Errors
/// On any the file of that name, if there was one, is as before.
pub fn rewrite_as_commands(
    cut: Cut,
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &RewriteOptions,
    progress: &mut dyn FnMut(&SaveStats) -> ControlFlow<()>,
) -> Result<SaveStats, Error> {
    let mut encoder = CommandEncoder::default();
    if let Some(time) = options.timestamp {
        encoder.buffer.extend_from_slice(format!("#TS:{time}\r\n").as_bytes());
    }
    write_cut(cut, encoder, CHUNK, storage, path, progress)
}

/// The collection whose items are being written.
#[derive(Debug)]
struct Open {
    name: &'static [u8],
    key: Vec<u8>,
    expire_at_ms: Option<i64>,
    /// Arguments an item takes.
    arguments: usize,
}

/// Encodes a cut as commands.
#[derive(Debug, Default)]
struct CommandEncoder {
    buffer: Vec<u8>,
    db: Option<u32>,
    open: Option<Open>,
    /// Footer of the payload being written, of what was written of it.
    payload: Option<PayloadFooter>,
    /// Items of the next command, encoded, and how many.
    items: Vec<u8>,
    count: usize,
    keys: u64,
    taken: u64,
}

fn header(out: &mut Vec<u8>, mark: u8, n: usize) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    header(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn bulk_int(out: &mut Vec<u8>, n: i64) {
    bulk(out, itoa::Buffer::new().format(n).as_bytes());
}

fn bulk_value(out: &mut Vec<u8>, value: LpValue<'_>) {
    match value {
        LpValue::Int(n) => bulk_int(out, n),
        LpValue::Str(text) => bulk(out, text),
    }
}

impl CommandEncoder {
    fn select(&mut self, db: u32) {
        self.keys += 1;
        if self.db.replace(db) != Some(db) {
            header(&mut self.buffer, b'*', 2);
            bulk(&mut self.buffer, b"SELECT");
            bulk_int(&mut self.buffer, db.into());
        }
    }

    fn begin(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, count: u64) {
        self.select(meta.db);
        let (name, arguments): (&'static [u8], usize) = match kind {
            HugeKind::Opaque(_, first) => {
                self.begin_payload(meta.key, first, count);
                (b"RESTORE", 0)
            }
            HugeKind::List => (b"RPUSH", 1),
            HugeKind::Set => (b"SADD", 1),
            HugeKind::Hash => (b"HMSET", 2),
            HugeKind::ZSet => (b"ZADD", 2),
        };
        self.open = Some(Open { name, key: meta.key.to_vec(), expire_at_ms: meta.expire_at_ms, arguments });
    }

    /// Everything of a `RESTORE` up to and with the first byte of its payload, which has `others` after that one.
    fn begin_payload(&mut self, key: &[u8], first: u8, others: u64) {
        header(&mut self.buffer, b'*', 4);
        bulk(&mut self.buffer, b"RESTORE");
        bulk(&mut self.buffer, key);
        bulk_int(&mut self.buffer, 0);
        header(&mut self.buffer, b'$', 1 + others as usize + PayloadFooter::BYTES);
        self.payload = Some(PayloadFooter::default());
        self.payload_bytes(&[first]);
    }

    fn payload_bytes(&mut self, bytes: &[u8]) {
        let Some(footer) = &mut self.payload else { return };
        footer.update(bytes);
        self.buffer.extend_from_slice(bytes);
    }

    /// Counts an item whose arguments stand in `items`.
    fn item_done(&mut self) {
        self.count += 1;
        if self.count == ITEMS_PER_COMMAND || self.items.len() >= BYTES_PER_COMMAND {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (Some(open), true) = (&self.open, self.count > 0) else { return };
        header(&mut self.buffer, b'*', 2 + self.count * open.arguments);
        bulk(&mut self.buffer, open.name);
        bulk(&mut self.buffer, &open.key);
        self.buffer.append(&mut self.items);
        self.count = 0;
    }

    fn end(&mut self) {
        self.flush();
        if let Some(footer) = self.payload.take() {
            self.buffer.extend_from_slice(&footer.finish());
            self.buffer.extend_from_slice(b"\r\n");
        }
        if let Some(open) = self.open.take() {
            self.expire(&open.key, open.expire_at_ms);
        }
    }

    fn expire(&mut self, key: &[u8], at_ms: Option<i64>) {
        if let Some(at) = at_ms {
            header(&mut self.buffer, b'*', 3);
            bulk(&mut self.buffer, b"PEXPIREAT");
            bulk(&mut self.buffer, key);
            bulk_int(&mut self.buffer, at);
        }
    }

    fn set(&mut self, meta: &EntryMeta<'_>, put: impl FnOnce(&mut Vec<u8>)) {
        self.select(meta.db);
        header(&mut self.buffer, b'*', 3);
        bulk(&mut self.buffer, b"SET");
        bulk(&mut self.buffer, meta.key);
        put(&mut self.buffer);
        self.expire(meta.key, meta.expire_at_ms);
    }

    fn node(&mut self, node: NodeView<'_>) {
        match node {
            NodeView::Packed(listpack) => {
                for value in listpack.iter() {
                    bulk_value(&mut self.items, value);
                    self.item_done();
                }
            }
            NodeView::Plain(text) => {
                bulk(&mut self.items, text);
                self.item_done();
            }
        }
    }

    fn scored(&mut self, score: f64, put: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::with_capacity(24);
        fmt_f64(score, &mut text);
        bulk(&mut self.items, &text);
        put(&mut self.items);
        self.item_done();
    }
}

impl CutSink for CommandEncoder {
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        match value {
            ValueView::Str(text) => return self.set(meta, |out| bulk(out, text)),
            ValueView::Int(n) => return self.set(meta, |out| bulk_int(out, n)),
            ValueView::List(list) => {
                self.begin(meta, HugeKind::List, 0);
                list.nodes().for_each(|node| self.node(node));
            }
            ValueView::Hash(hash) => {
                self.begin(meta, HugeKind::Hash, 0);
                for (field, value) in hash.iter() {
                    bulk_value(&mut self.items, field);
                    bulk_value(&mut self.items, value);
                    self.item_done();
                }
            }
            ValueView::Set(set) => {
                self.begin(meta, HugeKind::Set, 0);
                for member in set.iter() {
                    bulk_value(&mut self.items, member);
                    self.item_done();
                }
            }
            ValueView::ZSet(zset) => {
                self.begin(meta, HugeKind::ZSet, 0);
                for (member, score) in zset.iter() {
                    self.scored(score, |out| bulk_value(out, member));
                }
            }
            ValueView::Opaque(value) => {
                let (first, others) = value.split();
                self.begin(meta, HugeKind::Opaque(value.type_name(), first), others.len() as u64);
                self.payload_bytes(others);
            }
        }
        self.end();
    }

    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, count: u64) {
        self.begin(meta, kind, count);
    }

    fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Field(field, value) => {
                bulk(&mut self.items, field);
                bulk(&mut self.items, value);
                self.item_done();
            }
            Element::Member(member) => {
                bulk(&mut self.items, member);
                self.item_done();
            }
            Element::Scored(member, score) => self.scored(score, |out| bulk(out, member)),
            Element::Node(node) => self.node(node),
            Element::Bytes(bytes) => self.payload_bytes(bytes),
        }
    }

    fn end_huge(&mut self) {
        self.end();
    }

    fn pending(&self) -> usize {
        self.buffer.len() + self.items.len()
    }
}

impl CutEncoder for CommandEncoder {
    fn swap(&mut self, spare: &mut Vec<u8>) {
        spare.clear();
        std::mem::swap(spare, &mut self.buffer);
        self.taken += spare.len() as u64;
    }

    fn keys(&self) -> u64 {
        self.keys
    }

    fn bytes(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }

    fn finish(self) -> Vec<u8> {
        self.buffer
    }
}
