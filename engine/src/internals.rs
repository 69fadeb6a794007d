//! What the other crates of Sluice stand on, a server, its files and its replication: **no promise is made about anything
//! here, and it may change at any time**, in a patch release too. What an embedder can rely on stands at the root of the
//! crate.
//!
//! It is a list of names, so that files of this crate can move without anybody outside noticing.

pub use crate::blocked::{Blocked, Watch};
pub use crate::clock::now_ms;
pub use crate::command::{
    CmdError, CmdResult, Command, Flags, FlagsOfMany, KeyFn, KeySpec, Run, ServeFn, SessionFn, TxOp,
};
pub use crate::config::{Limits, Packed};
pub use crate::encoding::{EncodingError, Intset, Listpack, LpValue};
pub use crate::engine::{CommandStats, MAX_DATABASES, MAX_SHARDS, Outcome, RenameError, Request, Row};
pub use crate::entry::{Entry, EntryMut, EntryRef, MAX_STRING_LEN, Payload};
pub use crate::execute::Resolved;
pub use crate::expiry::ExpireRound;
pub use crate::glob::glob_match;
pub use crate::hash::hash;
pub use crate::keyspace::{Ctx, Effects, Hashed, Keys, NewExpiry, ShardStats, StrRef};
pub use crate::load::{ElementBatch, Loader};
pub use crate::log::{Epoch, MAX_OFFSET};
pub use crate::resp::encode_command;
pub use crate::table::Table;
pub use crate::transaction::{Caller, InBlock};
pub use crate::value::list::{NodeLimit, NodeView};
pub use crate::value::{Collection, Hash, List, Opaque, Set, TypeName, Value, ZSet};

/// What a client may ask about a command.
pub mod facts {
    pub use crate::facts::{Argument, Begin, Facts, Find, Keys, facts};
}

/// The listpack encoding.
pub mod listpack {
    pub use crate::encoding::listpack::{Iter, MAX_BYTES};
}

/// Numbers as text.
pub mod num {
    pub use crate::num::{fmt_f64, fmt_i64, parse_f64, parse_i64};
}

/// The protocol: requests are parsed, replies written.
pub mod resp {
    pub use crate::resp::{Args, Deferred, MAX_ARGS, ParseState, Parsed, Reply, front, parse, resume};
}

/// Lines of quoted words.
pub mod words {
    pub use crate::words::{quote, split};
}
