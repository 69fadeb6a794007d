//! The keyspace as a command sees it: locked shards, the selected database, expiry, and the effects to log.
//!
//! A [`Ctx`] exists while a command runs. `cx.keys` gives access to values; going through its methods keeps the
//! promises that every write makes: expired keys are gone (and their DEL is in the log before the command's effect),
//! a running cut gets pre-images, watchers learn of changes. `cx.out` is the reply. By default a command that
//! changed something (`cx.changed(key, event)`) is logged as it came; `cx.propagate` logs something deterministic instead.
//!
//! The parts: the locks in `shard`, what will be logged in `effects`, what changes are called in
//! [`events`]; the methods of [`Keys`] by what they are for, in
//! `read`, `write`, `whole` (databases as a whole) and `visibility` (keys whose time is up).

mod args;
mod awaited;
pub(crate) mod changes;
pub(crate) mod effects;
pub(crate) mod events;
pub(crate) mod keys;
pub(crate) mod own;
mod read;
pub(crate) mod shard;
pub(crate) mod visibility;
pub(crate) mod waiting;
mod whole;
mod write;

pub(crate) use args::{int_arg, syntax};
pub use effects::Effects;
pub(crate) use events::Event;
pub use keys::{Ctx, Hashed, Keys, NewExpiry, StrRef};
pub use shard::ShardStats;
pub(crate) use shard::{Held, Shard, Standing};
