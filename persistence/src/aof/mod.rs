//! The append-only file: a cut, and the log after it, in Redis 7's layout of several files.
//!
//! ```text
//! <dir>/<appenddirname>/
//!   appendonly.aof.manifest       which files make up the data, in which order        manifest.rs
//!   appendonly.aof.2.base.rdb     the cut: an RDB (or, .aof, commands)                rewrite.rs
//!   appendonly.aof.5.incr.aof     the log from the cut's offset on, as it stands      writer.rs
//!   appendonly.aof.6.incr.aof       ... continued: one more for every rewrite begun
//! ```
//!
//! A rewrite makes the next incr file first, names it in the manifest, begins a cut, and has the log go to the new
//! file from the cut's offset on. When the cut is written, a second change of the manifest makes it the base and all
//! incr files before the newest *history*, which is then deleted. At each moment the files of the manifest,
//! in its order, are the data; every change of it is one atomic replacement.
//!
//! Here are the parts, all through [`Storage`](crate::storage::Storage) and without threads or clocks; who calls
//! them when is the server's business.

pub mod check;
pub mod load;
pub mod manifest;
pub mod reader;
pub mod rewrite;
pub mod writer;

pub use load::{AofError, AofLoad, AofNote, AofOptions, AofPlace, load};
pub use manifest::{AofFile, Manifest, ManifestError};
pub use rewrite::{RewriteOptions, rewrite_as_commands};
pub use writer::{IncrWriter, Syncer};
