//! The cut: the whole keyspace as it stood at one log offset, produced while writes go on.
//!
//! Beginning a cut locks all shards for microseconds, notes the log's offset and attaches a capture to every
//! table, which makes every entry "unvisited" (its epoch is no longer the table's). Then two sides cooperate:
//!
//! - the **walker** ([`Cut::step`], on the consumer's thread) visits the tables in short slices under one shard lock
//!   at a time, delivers each unvisited entry to a [`CutSink`] and stamps it;
//! - a **writer** that is about to change an unvisited entry first hands over the entry as it was, its *pre-image*
//!   (moved where the entry is replaced or removed, copied where it is changed in place), and stamps it.
//!
//! So every entry is delivered exactly once, as of the cut, and entries made later carry the new epoch and are
//! skipped. A collection held in a table of its own (a *huge* value) is not copied: its first change attaches a
//! capture to that inner table, and from then on single elements are handed over; the walker delivers it in slices,
//! `begin_huge`, its elements, `end_huge`. One that gets another name or database meanwhile (RENAME, MOVE) is not copied
//! either: its capture goes with it, and the walker finds it where it is. Lists share their nodes with the snapshot instead, and opaque values their bytes.
//!
//! Pre-images wait in a queue until the walker's next step. Its limit is set by `Engine::set_preimage_limit`: beyond
//! it, a command that would add one is told to wait (see `Outcome::Stalled`); reads and writes elsewhere go on.
//!
//! A consumer that sends the log along with the cut (see the transport crate) may send log bytes up to an offset it
//! read *before* emptying the queue, but not past [`Cut::barrier`]: that is the offset of the first effect on
//! something that only the walker can deliver (a huge value changed in place, a flushed or swapped database).

pub(crate) mod capture;
pub(crate) mod sink;
#[cfg(test)]
mod tests;
mod walk;

pub use sink::{CutSink, Element, EntryMeta, HugeKind};
pub use walk::{Cut, CutBusy, Step};
