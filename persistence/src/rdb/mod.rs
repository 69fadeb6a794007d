//! The RDB file format: what Redis calls a snapshot, written from a cut and read from a file or a socket.
//!
//! ```text
//! "REDIS" version(4 digits)
//! { 0xFA aux-name aux-value }*
//! { 0xFE db  0xFB keys keys-with-ttl
//!     { [0xFC expiry-ms] [0xF8 idle | 0xF9 freq] type key value }* }*
//! 0xFF crc64(8 bytes, little endian; 0: not computed)
//! ```
//!
//! Lengths are variable ([`length`]), strings may be integers or LZF-compressed ([`lzf`]), and small collections
//! are single strings in packed encodings. The ones of Redis 7 are the engine's own and are copied as they stand;
//! the older ones ([`ziplist`], [`zipmap`]) are read here. Sources: `rdb.h`, `rdb.c`, `ziplist.c` and
//! `zipmap.c` of Redis 7.0 for the constants and layouts, and the format notes in its documentation.

pub mod check;
pub mod checksum;
mod collection;
mod crew;
mod cut_sink;
mod decoder;
mod dump;
pub mod encoder;
mod error;
mod foreign;
pub mod format;
mod input;
pub mod length;
mod loader;
pub mod lzf;
mod opaque;
mod reading;
mod skim;
pub mod source;
mod stream;
mod survey;
mod values;
mod visitor;
pub mod ziplist;
pub mod zipmap;

pub use crew::{Crew, with_crew};
pub(crate) use crew::{with_workers, workers_here};
pub use decoder::{HEADER_LEN, RdbDecoder, version_of};

/// Do these bytes begin like an RDB, of Redis or in Valkey's dialect?
pub fn is_rdb(bytes: &[u8]) -> bool {
    bytes.starts_with(format::MAGIC) || bytes.starts_with(format::MAGIC_VALKEY)
}
pub use dump::{PayloadFooter, RestoreError, Restored, dump, restore};
pub use encoder::{Access, EncoderOptions, RdbEncoder, ReplicationPlace};
pub use error::{Damage, RdbError};
pub use foreign::function_libraries;
pub use loader::{EngineVisitor, LoadReport};
pub use reading::Step;
pub(crate) use survey::pass_over;
pub use visitor::{Element, Key, Kind, Packed, RdbVisitor, Refusal, Skipped};
