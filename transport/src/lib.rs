//! Replication for the Sluice engine: both ends of the Redis protocol, the full-sync transports, and the framed
//! stream between two Sluice servers.
//!
//! The protocol is **sans-IO**: state machines that take bytes and the time, and give bytes and actions, so that
//! every split of the bytes and garbage in every state is tested in memory. The full-sync senders do own
//! sockets, on a thread of their own. Nothing here knows about configuration files, clients or INFO: that is the server's.
//!
//! | module | what it is |
//! |---|---|
//! | [`replid`], [`state`] | replication ids, which history we are on, promotion, what a PSYNC may resume |
//! | [`primary`] | a replica's record, the PSYNC decision, the delay window ([`primary::schedule`]), PING timer |
//! | [`replica`] | the replica's link: handshake, payload, stream, ACKs, time-outs |
//! | [`fullsync`] | sending a cut: from disk, diskless, over io_uring; chunk sources; the report |
//! | [`frame`] | the layout of the framed stream (`capa sluice`) and its reader |
//! | [`wire`] | command encoding and bounded line reading |
//!
//! # How a server wires the primary's side
//!
//! ```text
//!  session                       schedule                         thread "full-sync"
//!  -------                       --------                         ------------------
//!  REPLCONF -> ReplicaPeer
//!  PSYNC -> psync::decide
//!    Continue: reply, then
//!      stream from log.reader(from)
//!    Full: wait_for_sync ------> request(id, capa)
//!                                poll(policy, now) -> Batch ----> cut = engine.begin_cut()
//!                                                                 keep = log.reader(cut.offset())
//!                                                                 each: fullresync_line, sync_began
//!                                                                 source = RdbSource | FramedSource
//!                                                                 diskless::send | Uring::send | disk::send
//!                                cut_taken(batch) <-------------- SyncEvent::SourceDone
//!  payload_sent <------------------------------------------------ SyncEvent::Sent
//!    at once, or at the first
//!    ACK: stream from
//!    log.reader(cut.offset(), or
//!    CutFigures::log_offset)
//!  close <------------------------------------------------------- SyncEvent::Dropped
//! ```
//!
//! Beside that a timer appends [`primary::PING_RECORD`] to the log, sends newlines to waiting replicas and drops the silent ones
//! ([`primary::ReplicaPeer::newline_due`], [`primary::ReplicaPeer::timed_out`]).
//!
//! # How a server wires the replica's side
//!
//! A thread connects, feeds [`replica::ReplicaLink`], and carries out its actions:
//! load the payload (an RDB decoder pulls its bytes; log bytes of a framed payload are applied when the
//! decoder asks for more), call [`replica::ReplicaLink::loaded`], then apply the stream. `tests/follower` is such
//! a driver, and `tests/engine_to_engine.rs` runs it against every transport and format.

pub mod frame;
pub mod fullsync;
pub mod primary;
pub mod replica;
pub mod replid;
pub mod state;
mod sys;
pub mod wire;
