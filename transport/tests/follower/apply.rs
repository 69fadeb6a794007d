//! Applying the command stream to the engine, and keeping the log in step with it.
//!
//! On a replica the primary's stream *is* the log: every byte of it is appended as it came, so that our own replicas
//! and a later partial resync see the same offsets. The engine does that for commands it runs; what it does not run is relayed here.
//! A command that has come only in part waits, outside of the log: the offset we acknowledge counts whole commands.

use sluice_engine::internals::{
    Outcome, Request, Row,
    resp::{Parsed, parse},
};
use sluice_engine::{Engine, Session};
use std::time::Duration;
use thiserror::Error;

/// Longest argument taken from a primary. It has accepted the argument within its own limit, so ours is
/// only there to bound memory: the largest `proto-max-bulk-len` there is.
const MAX_BULK: usize = 1 << 30;
/// Wait between attempts while a cut of our own is behind (see [`Outcome::Stalled`]).
const STALL_WAIT: Duration = Duration::from_micros(200);

/// The primary's stream cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Protocol error from the replication stream at offset {offset}: {reason}")]
pub(crate) struct StreamError {
    /// Offset of the command.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Runs the commands the engine leaves to its embedder (PUBLISH and the like). They were logged already.
pub(crate) type External<'a> = &'a mut dyn FnMut(&mut Session, Row, &[&[u8]]);

/// Applies the stream of one primary. Lives as long as the replica, across reconnections: it knows the selected database.
pub(crate) struct StreamApplier {
    engine: Engine,
    session: Session,
    partial: Vec<u8>,
    /// Bytes the partial command is known to need.
    needed: usize,
    replies: Vec<u8>,
    getack: bool,
    applied_since_restart: u64,
}

impl StreamApplier {
    /// For a stream into `engine`, database 0 selected.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut session = engine.session();
        session.from_primary = true;
        Self {
            engine: engine.clone(),
            session,
            partial: Vec::new(),
            needed: 0,
            replies: Vec::new(),
            getack: false,
            applied_since_restart: 0,
        }
    }

    /// The stream begins anew, after a full sync: nothing half-read, database `db` selected.
    pub(crate) fn restart(&mut self, db: u32) {
        self.session = self.engine.session();
        self.session.from_primary = true;
        self.session.db = db;
        self.partial = Vec::new();
        self.needed = 0;
        self.getack = false;
        self.applied_since_restart = 0;
    }

    /// The stream goes on from the acknowledged offset, on a new connection: what had come in part comes again.
    pub(crate) fn resume(&mut self) {
        self.restart(self.session.db);
    }

    /// A snapshot was loaded that stands for a place where `db` is selected: as [`StreamApplier::restart`], unless
    /// commands were applied since, as framed payloads bring them.
    pub(crate) fn restart_if_idle(&mut self, db: u32) {
        if self.applied_since_restart == 0 && self.partial.is_empty() {
            self.restart(db);
        }
    }

    /// Whether the primary asked for an acknowledgement since this was last called.
    pub(crate) fn take_getack(&mut self) -> bool {
        std::mem::take(&mut self.getack)
    }

    /// Applies the next bytes of the stream.
    ///
    /// # Errors
    /// When they are no commands. The link must then be ended; all before is applied.
    pub(crate) fn apply(&mut self, bytes: &[u8], external: External<'_>) -> Result<(), StreamError> {
        if self.partial.is_empty() {
            let used = self.run(bytes, external)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() < self.needed {
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.partial);
        let used = self.run(&joined, external)?;
        joined.drain(..used);
        self.partial = joined;
        Ok(())
    }

    /// Runs the whole commands at the front of `input`; returns how many bytes they are.
    fn run(&mut self, input: &[u8], external: External<'_>) -> Result<usize, StreamError> {
        let mut at = 0;
        self.needed = 0;
        loop {
            match parse(&input[at..], MAX_BULK, true) {
                Parsed::Incomplete(needed) => {
                    self.needed = needed;
                    return Ok(at);
                }
                Parsed::Command { args, used, canonical: true } => {
                    self.command(&args, &input[at..at + used], external);
                    at += used;
                }
                // Newlines and inline commands are part of the offset like everything else, and nothing to run.
                Parsed::Command { used, .. } | Parsed::Quoted { used, .. } => {
                    self.engine.relay_unknown(&mut self.session, &input[at..at + used]);
                    at += used;
                }
                Parsed::Invalid(reason) => {
                    return Err(StreamError { offset: self.engine.log().end(), reason });
                }
            }
        }
    }

    fn command(&mut self, args: &[&[u8]], raw: &[u8], external: External<'_>) {
        self.applied_since_restart += 1;
        let row = match args {
            [name, option, ..] if name.eq_ignore_ascii_case(b"replconf") => {
                self.getack |= option.eq_ignore_ascii_case(b"getack");
                None
            }
            [name, ..] => self.engine.lookup(name),
            [] => None,
        };
        let Some(row) = row else {
            return self.engine.relay_unknown(&mut self.session, raw);
        };
        loop {
            self.replies.clear();
            let request = Request { args, raw: Some(raw) };
            let outcome = self.engine.call(&mut self.session, row, request, &mut self.replies);
            match outcome {
                Outcome::Done | Outcome::Refused | Outcome::Blocked | Outcome::Interrupted => return,
                Outcome::Stalled => std::thread::sleep(STALL_WAIT),
                Outcome::External => {
                    self.engine.relay_unknown(&mut self.session, raw);
                    return external(&mut self.session, row, args);
                }
            }
        }
    }
}
