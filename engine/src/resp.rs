//! RESP: requests in, replies out, and commands as the log, files and replicas have them.
//!
//! [`parse`] finds one command at the front of a buffer ([`request`] says how, and what it takes), [`Reply`] writes
//! straight into the output buffer, in RESP2 or RESP3 as the session chose.

pub(crate) mod command;
mod reply;
mod request;

pub use command::encode_command;
pub use reply::{Deferred, Reply};
pub use request::{Args, MAX_ARGS, ParseState, Parsed, front, parse, resume};
