//! An embeddable in-memory data store of the Redis family.
//!
//! An [`Engine`] holds databases of strings, lists, hashes, sets and sorted sets, runs commands on the caller's
//! thread, records their effects in a [`log::Log`], and produces forkless point-in-time snapshots, [`cut::Cut`]s,
//! while writes go on. It knows no files, no sockets and no async runtime.

pub mod command;
mod commands;
pub mod config;
pub mod cut;
pub mod encoding;
pub mod engine;
pub mod entry;
pub mod glob;
pub mod hash;
pub mod keyspace;
pub mod load;
pub mod log;
pub mod num;
pub mod resp;
pub mod session;
pub mod table;
pub mod value;

pub use engine::{Engine, EngineBuilder, Outcome, Request, Row, now_ms};
pub use session::Session;
