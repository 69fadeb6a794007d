//! Conditions under which some commands are refused: bits of one word ([`Ground::gate`](super::Ground)), zero in the common
//! case, looked at once a command.

/// The dataset is being loaded.
pub(crate) const LOADING: u32 = 1;
/// A replica that refuses writes.
pub(crate) const READONLY: u32 = 1 << 1;
/// The link to the primary is down and stale data is not served.
pub(crate) const STALE: u32 = 1 << 2;
/// Snapshots fail and writes are refused meanwhile.
pub(crate) const MISCONF: u32 = 1 << 3;
/// Too few replicas are connected.
pub(crate) const NOREPLICAS: u32 = 1 << 4;
/// The append-only file cannot be written or synced and writes are refused meanwhile.
pub(crate) const AOF_ERROR: u32 = 1 << 5;
/// A full sync is loaded beside the data, which is served meanwhile.
pub(crate) const ASYNC_LOADING: u32 = 1 << 6;
/// CLIENT PAUSE is in force.
pub(crate) const PAUSED: u32 = 1 << 7;
/// There is a `maxmemory`.
pub(crate) const MAXMEMORY: u32 = 1 << 8;
