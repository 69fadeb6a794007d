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
//! use sluice_engine::{Engine, Error};
//!
//! let engine = Engine::default();
//!
//! // Typed calls, and every command beside them. Both are refused with the same error.
//! let db = engine.db(0);
//! db.set("greeting", "hello")?;
//! db.hset("user:1", "name", "Ada")?;
//! engine.execute(&["ZADD", "scores", "7", "ada"])?;
//! assert_eq!(engine.execute(&["INCR", "greeting"]), Err(Error::NotInteger));
//!
//! // Several calls as one step, for everyone and in the log.
//! engine.transaction(0, |db| db.incr_by("visits", 1))?;
//!
//! // The pair: a cut, and the log from its offset on. What is written meanwhile is in the log.
//! let (mut cut, mut log) = engine.begin_cut_with_log()?;
//! db.del(&["greeting"]);
//!
//! // A follower takes both, here or at the other end of a socket, and is equal to its source.
//! let copy = Engine::default();
//! let mut follower = copy.load_cut(&mut cut)?;
//! assert!(copy.db(0).exists("greeting"));
//! copy.apply(&mut follower, &log.read(usize::MAX)?)?;
//! assert!(!copy.db(0).exists("greeting"));
//! assert_eq!(follower.applied(), engine.log().end());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to read on:
//!
//! | to | see |
//! |---|---|
//! | make an engine | [`Engine::builder`], [`EngineBuilder`], [`Clock`] |
//! | call it | [`Engine::db`] and the methods of [`Db`]; [`Engine::transaction`] |
//! | run commands by name | [`Engine::execute`]; [`Engine::execute_in`] with a [`Session`] |
//! | know why something was refused | [`Error`] |
//! | have expired keys removed that nobody asks for | [`Engine::expire_cycle`] |
//! | learn of changes | [`Engine::feed`] (all of them, in order), [`Engine::listen`] (names of events) |
//! | have a snapshot | [`Engine::begin_cut`], [`CutSink`] |
//! | follow another engine | [`Engine::load_cut`], [`Engine::apply`] |
//!
//! `examples/embed.rs` in the repository shows all of it at work. What stands in [`internals`] is for the other crates of
//! Sluice and may change at any time, and so may methods that take or return what is there.

mod api;
mod blocked;
mod blocking;
mod buffer;
mod call;
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
mod names;
mod num;
mod resp;
mod role;
mod session;
mod shared;
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

/// The program in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
