//! An embeddable in-memory data store of the Redis family, built around one idea: a **cut** and the **log** after it.
//!
//! An [`Engine`] holds databases of strings, lists, hashes, sets and sorted sets. It runs commands on the caller's
//! thread, under the locks of just the keys they name; clones of it share the data, and any thread may use any clone.
//! It knows no files, no sockets and no async runtime.
//!
//! - The **log** ([`Log`]) is one ordered stream of what writes did, RESP-encoded and addressed by byte offset.
//! - A **cut** ([`Cut`]) is every key as it stood at one offset of the log, delivered in slices while writes go
//!   on: without fork, without stopping anyone, and with a bounded amount of memory.
//!
//! A cut at offset X and the log from X are the state, always. A snapshot file, a replica, an append-only file, a
//! cache in another process: each is a consumer of that pair, and can be one of yours.
//!
//! ```
//! use sluice_engine::{CutSink, Element, Engine, EntryMeta, HugeKind, Step, ValueView};
//!
//! let engine = Engine::default();
//! engine.log().activate(); // records from here on; without followers it costs nothing
//!
//! // Typed calls, and every Redis command beside them.
//! let db = engine.db(0);
//! db.set("greeting", "hello")?;
//! db.hset("user:1", "name", "Ada")?;
//! engine.execute(&["ZADD", "scores", "7", "ada"])?;
//! engine.transaction(0, |db| db.incr_by("visits", 1))?;
//!
//! // A consumer of cuts is told of whole keys, and of huge values element by element.
//! #[derive(Default)]
//! struct Keys(Vec<String>);
//! impl CutSink for Keys {
//!     fn entry(&mut self, meta: &EntryMeta<'_>, _: ValueView<'_>) {
//!         self.0.push(String::from_utf8_lossy(meta.key).into_owned());
//!     }
//!     fn begin_huge(&mut self, meta: &EntryMeta<'_>, _: HugeKind, _elements: u64) {
//!         self.0.push(String::from_utf8_lossy(meta.key).into_owned());
//!     }
//!     fn element(&mut self, _: Element<'_>) {}
//!     fn end_huge(&mut self) {}
//!     fn pending(&self) -> usize { 0 }
//! }
//!
//! let mut cut = engine.begin_cut()?;
//! let mut log = engine.log().reader(cut.offset())?;
//! db.del(&["greeting"]); // after the cut began: the cut delivers the key, the log deletes it
//! let mut keys = Keys::default();
//! while cut.step(&mut keys, 64 << 10) == Step::More {}
//! keys.0.sort();
//! assert_eq!(keys.0, ["greeting", "scores", "user:1", "visits"]);
//! assert!(log.read(usize::MAX)?.ends_with(b"*2\r\n$3\r\nDEL\r\n$8\r\ngreeting\r\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to read on: [`Db`] for the typed calls, [`Engine::execute`] for commands by name, [`Cut`] and [`Log`] for
//! the pair. `examples/embed.rs` in the repository shows all of it at work. What stands in [`internals`] is for the
//! other crates of Sluice, and may change at any time.

mod api;
mod blocking;
mod buffer;
mod clock;
mod command;
mod commands;
mod config;
mod cut;
mod encoding;
mod engine;
mod entry;
mod error;
mod execute;
mod expiry;
mod facts;
mod glob;
mod hash;
pub mod internals;
mod keyspace;
mod lazy_free;
mod load;
mod locks;
mod log;
mod num;
mod resp;
mod role;
mod session;
mod table;
mod transaction;
mod value;
mod words;

pub use api::{ApplyError, Change, Db, Expiry, Feed, Follower, Only, ReplyValue, SetOptions, Ttl};
pub use clock::{Clock, ManualClock};
pub use cut::{Cut, CutBusy, CutSink, Element, EntryMeta, HugeKind, Step};
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, Result};
pub use keyspace::events::{Class, Event, Happening};
pub use log::{Log, LogGone, LogReader};
pub use session::Session;
pub use value::{Type, ValueView};
