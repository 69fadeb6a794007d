//! Which commands may run now: signed on, loading, read-only, stale, failed saves, missing replicas, memory, pauses.
//!
//! EXEC is judged by what it will run: much may have changed since that was queued.

use crate::client::conn::Conn;
use crate::ground::gate;
use crate::server::Server;
use sluice_engine::internals::{CmdError, Command, Flags, FlagsOfMany};

impl Conn {
    /// Why a command may not run now, in Redis' order of checks.
    #[cold]
    pub(super) fn refusal(&self, c: &Command, argc: usize, gates: u32) -> Option<CmdError> {
        if !c.arity_ok(argc) {
            // The engine says so.
            return None;
        }
        if !self.authenticated && !c.flags.contains(Flags::NO_AUTH) {
            return Some(CmdError::text("NOAUTH Authentication required."));
        }
        // PING tells of a disk that fails too, so that whoever watches the server learns of it; not inside EXEC.
        let mut flags = self.session.flags_of(c);
        flags.any.set(Flags::TELLS_OF_DISK, c.flags.contains(Flags::TELLS_OF_DISK));
        refusal(&self.server, flags, gates)
    }

    /// Does CLIENT PAUSE hold this command back?
    #[cold]
    pub(super) fn is_paused(&self, c: &Command) -> bool {
        use crate::client::pause::Mode;
        match self.server.pause.mode(self.server.clock()) {
            None => {
                // It is over, and nobody has noticed yet: writes would find it still in force.
                crate::client::pause::cron(&self.server);
                false
            }
            Some(Mode::All) => true,
            Some(Mode::Write) => self.session.flags_of(c).any.intersects(Flags::LOGGED),
        }
    }
}

/// Why what has these flags may not run now.
#[cold]
pub(crate) fn refusal(server: &Server, flags: FlagsOfMany, gates: u32) -> Option<CmdError> {
    let writes = flags.any.contains(Flags::WRITE);
    let disk = writes || flags.any.contains(Flags::TELLS_OF_DISK);
    if disk && gates & gate::MISCONF != 0 && gates & gate::READONLY == 0 {
        return Some(CmdError::text(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
             Commands that may modify the data set are disabled, because this instance is configured to report \
             errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
             the Redis logs for details about the RDB error.",
        ));
    }
    if disk && gates & gate::AOF_ERROR != 0 && gates & gate::READONLY == 0 {
        return Some(crate::aof::refusal(server).into());
    }
    if writes && gates & gate::NOREPLICAS != 0 && gates & gate::READONLY == 0 {
        return Some(CmdError::text("NOREPLICAS Not enough good replicas to write."));
    }
    if writes && gates & gate::READONLY != 0 {
        return Some(CmdError::ReadOnlyReplica);
    }
    if gates & gate::STALE != 0 && !flags.all.contains(Flags::STALE) {
        return Some(CmdError::text(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ));
    }
    if gates & gate::MAXMEMORY != 0 && flags.any.contains(Flags::DENYOOM) && server.is_out_of_memory() {
        return Some(CmdError::OutOfMemory);
    }
    let beside = gates & gate::ASYNC_LOADING != 0 && flags.any.contains(Flags::NO_ASYNC_LOADING);
    if beside || gates & gate::LOADING != 0 && !flags.all.contains(Flags::LOADING) {
        return Some(CmdError::text("LOADING Redis is loading the dataset in memory"));
    }
    None
}
