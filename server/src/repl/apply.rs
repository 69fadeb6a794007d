//! Applying the primary's stream: its commands run, its bytes become our log.
//!
//! The stream is believed command by command, each an array of bulk strings: anything else says that the two sides do not
//! mean the same offset by the same byte. Then the link ends, and with it the claim to a place in the primary's history.
//!
//! **What cannot be applied** (a command that is not known here, not even by its [`dialect`], or one that is answered by an
//! error) is relayed all the same, so that offsets stay equal, and counted (`unexpected_error_replies`,
//! `slave_unapplied_commands`). What happens then, `propagation-error-behavior` says. An append-only file is for
//! ourselves to load: there such commands are left out, or stand in our words (`Log::stand_in`).

use super::attempt::{Attempt, Ended};
use super::dialect::{self, Words};
use crate::config::PropagationError;
use crate::ground::gate;
use sluice_engine::internals::{
    Flags, MAX_STRING_LEN, Outcome, Request, Row, Run, TxOp, encode_command,
    resp::{Parsed, resume},
};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Unparsed stream bytes: one command at most, so this bounds a single command of the primary. The longest string and more.
const MAX_INBOX: usize = 8 << 30;
/// Bytes of a bad command, and of an error reply, that the log shows.
const SHOWN_BYTES: usize = 64;
const SHOWN_REPLY: usize = 4096;
/// Lines about commands that could not be applied that the log gets in one period, in milliseconds of the server's clock.
const LINES: u32 = 10;
const PERIOD_MS: u64 = 10_000;
/// Commands that change no data, and are no loss where they are not known.
const HARMLESS: [&str; 2] = ["publish", "spublish"];

/// The block of a MULTI that is open.
#[derive(Default)]
pub(super) struct Block {
    /// Bytes of it so far.
    len: u64,
    /// What stands in the append-only file for some of them: from where in the block, how many, and what.
    stand_ins: Vec<(u64, u64, Vec<u8>)>,
}

/// How much was said of what could not be applied.
#[derive(Default)]
pub(super) struct Complaints {
    since: u64,
    said: u32,
    unsaid: u64,
}

impl Complaints {
    /// May another line be written? Says first how many were not.
    fn may_say(&mut self, now: u64) -> bool {
        if self.said == 0 || now.saturating_sub(self.since) >= PERIOD_MS {
            if self.unsaid > 0 {
                crate::log!(Warning, "{} more commands of the primary could not be applied", self.unsaid);
            }
            *self = Complaints { since: now, said: 0, unsaid: 0 };
        }
        let may = self.said < LINES;
        if may {
            self.said += 1;
        } else {
            self.unsaid += 1;
        }
        may
    }
}

impl Attempt<'_> {
    /// Applies complete commands of the stream.
    pub(super) fn apply(&mut self) -> Result<(), Ended> {
        let turn = self.turn()?;
        let result = self.run_commands(true);
        if matches!(result, Err(Ended::Content(_))) {
            // Where it went wrong is not known, only that it did: our data is a prefix of no history.
            self.server.history.lock().full_sync_began();
        }
        drop(turn);
        result?;
        let shared = self.shared;
        crate::aof::wait_on_link(self.server, &|| shared.stopped());
        self.link.applied(self.applied);
        Ok(())
    }

    /// Applies complete commands of a framed payload's log.
    pub(super) fn apply_logged(&mut self) -> Result<(), Ended> {
        self.run_commands(false)
    }

    /// Runs the complete commands in the inbox and takes them out. With `relay`, which takes a turn, the bytes become our
    /// log. Who wants the role changed waits for the command under way.
    fn run_commands(&mut self, relay: bool) -> Result<(), Ended> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut at = 0;
        let (mut reply, mut rewritten) = (Vec::new(), Vec::new());
        self.session.now_ms = sluice_engine::internals::now_ms();
        self.relays = relay;
        let broken = |why: &str| Err(Ended::Content(format!("The primary's stream is broken: {why}")));
        let result = loop {
            if self.shared.stopped() {
                break Err(Ended::superseded());
            }
            let rest = &inbox[at..];
            let (args, used, canonical) = match resume(rest, MAX_STRING_LEN, true, &mut self.request) {
                Parsed::Command { args, used, canonical } => (args, used, canonical),
                Parsed::Incomplete(needed) if rest.len().max(needed) > MAX_INBOX => {
                    break broken(&format!("a command over {MAX_INBOX} bytes"));
                }
                Parsed::Incomplete(_) => break Ok(()),
                Parsed::Quoted { .. } => break broken("an inline command"),
                Parsed::Invalid(why) => break broken(&why),
            };
            at += used;
            if args.is_empty() && rest[0] != b'*' {
                // An empty line keeps the link alive and is no part of the stream.
                continue;
            }
            let mut raw = &rest[..used];
            if !canonical {
                // Served, as Redis serves it, but our log and files are for stricter readers. Offsets must stay the primary's.
                rewritten.clear();
                encode_command(&mut rewritten, &args);
                if args.is_empty() || raw[0] != b'*' || rewritten.len() != used {
                    let shown = raw[..used.min(SHOWN_BYTES)].escape_ascii();
                    break broken(&format!("it holds what is no command of a log: {shown}"));
                }
                raw = &rewritten;
            }
            if let Err(ended) = self.run_command(&args, relay.then_some(raw), &mut reply) {
                break Err(ended);
            }
            if relay {
                self.applied += used as u64;
            }
        };
        self.inbox = inbox;
        self.inbox.drain(..at);
        result
    }

    fn run_command(&mut self, args: &[&[u8]], raw: Option<&[u8]>, reply: &mut Vec<u8>) -> Result<(), Ended> {
        if !self.session.in_multi() {
            self.block = Block::default();
        }
        let known = self.target.lookup_trusted(args[0]);
        let ran = match (dialect::translate(args), known) {
            (Some(ours), _) => self.run_translated(&ours, raw, reply),
            (None, Some(row)) => self.run_known(row, args, raw, reply),
            (None, None) => self.pass_on_unknown(args, raw),
        };
        self.block.len += raw.map_or(0, |raw| raw.len() as u64);
        ran
    }

    /// The bytes go into the log behind our commands: a cut between them has what they then make again.
    fn run_translated(
        &mut self,
        ours: &[Words<'_>],
        raw: Option<&[u8]>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let mut in_file = Vec::new();
        ours.iter().for_each(|words| encode_command(&mut in_file, words));
        self.stand_in(raw, in_file);
        let ran = ours.iter().try_for_each(|words| match self.target.lookup_original(words[0]) {
            Some(row) => self.call(row, words, None, reply),
            None => Ok(()),
        });
        self.relay(raw);
        ran
    }

    fn run_known(
        &mut self,
        row: Row,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let ends = matches!(row.command.run, Run::Transaction(TxOp::Exec | TxOp::Discard));
        if self.session.in_multi() && ends {
            // The block enters the log now, as a whole.
            let (log, Block { stand_ins, .. }) = (self.target.log(), std::mem::take(&mut self.block));
            let begin = log.end();
            for (at, len, bytes) in stand_ins {
                log.stand_in(begin + at, len, bytes);
            }
        }
        self.call(row, args, raw, reply)
    }

    fn pass_on_unknown(&mut self, args: &[&[u8]], raw: Option<&[u8]>) -> Result<(), Ended> {
        let is_replconf = args[0].eq_ignore_ascii_case(b"replconf");
        if !is_replconf {
            self.stand_in(raw, Vec::new());
        }
        self.relay(raw);
        if is_replconf {
            self.replconf(args);
        } else if !HARMLESS.iter().any(|name| args[0].eq_ignore_ascii_case(name.as_bytes())) {
            let name = args[0][..args[0].len().min(SHOWN_BYTES)].escape_ascii().to_string();
            return self.not_applied(&name, None);
        }
        Ok(())
    }

    fn call(
        &mut self,
        row: Row,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let (engine, name) = (self.target.clone(), row.command.name);
        if self.relays && row.command.flags.contains(Flags::WRITE) {
            self.heed_disk();
        }
        loop {
            reply.clear();
            let request = Request { args, raw };
            let outcome = engine.call(&mut self.session, row, request, reply);
            match outcome {
                Outcome::Done | Outcome::Blocked | Outcome::Interrupted => {
                    for error in std::mem::take(&mut self.session.exec_errors) {
                        self.not_applied(name, Some(error.message().as_bytes()))?;
                    }
                    return Ok(());
                }
                Outcome::Stalled if self.shared.stopped() => return Err(Ended::superseded()),
                Outcome::Stalled => std::thread::sleep(Duration::from_millis(1)),
                Outcome::External => {
                    if row.command.flags.contains(Flags::WRITE) {
                        // Not ours to run: nor is it our file's.
                        self.stand_in(raw, Vec::new());
                    }
                    self.relay(raw);
                    if name == "replconf" {
                        self.replconf(args);
                    }
                    return Ok(());
                }
                Outcome::Refused if name == "select" => {
                    // What comes next would go into another database.
                    let db = args.get(1).map(|db| db[..db.len().min(SHOWN_BYTES)].escape_ascii().to_string());
                    return Err(Ended::Content(format!(
                        "The primary writes to database {}, which is not there: this server has {} (see `databases`)",
                        db.unwrap_or_default(),
                        engine.databases()
                    )));
                }
                Outcome::Refused => return self.not_applied(name, Some(reply)),
            }
        }
    }

    fn relay(&mut self, raw: Option<&[u8]>) {
        if let Some(raw) = raw {
            self.target.relay_unknown(&mut self.session, raw);
        }
    }

    /// Has the append-only file say `bytes` for the command that is about to be relayed.
    fn stand_in(&mut self, raw: Option<&[u8]>, bytes: Vec<u8>) {
        let Some(len) = raw.map(|raw| raw.len() as u64) else { return };
        if self.session.in_multi() {
            self.block.stand_ins.push((self.block.len, len, bytes));
        } else {
            let log = self.target.log();
            log.stand_in(log.end(), len, bytes);
        }
    }

    /// A command had no effect here that had one on the primary: unknown, or with this error for a reply.
    fn not_applied(&mut self, name: &str, error: Option<&[u8]>) -> Result<(), Ended> {
        self.server.stats.unexpected_error_replies.bump();
        self.server.repl.unapplied.fetch_add(1, Ordering::Relaxed);
        if self.complaints.may_say(self.server.clock()) {
            match error {
                None => crate::log!(
                    Warning,
                    "== CRITICAL == This replica does not know the command '{name}' its primary sent; the data now differs"
                ),
                Some(error) => {
                    let text = String::from_utf8_lossy(&error[..error.len().min(SHOWN_REPLY)]);
                    let text = text.trim_end().trim_start_matches('-');
                    crate::log!(
                        Warning,
                        "== CRITICAL == This replica is sending an error to its master: '-{text}' after processing the command '{name}'"
                    );
                }
            }
        }
        let config = self.server.config.load();
        match config.propagation_error_behavior {
            PropagationError::Panic | PropagationError::PanicOnReplicas if config.replica_read_only => {
                crate::log!(
                    Warning,
                    "This replica panicked sending an error to its master after processing the command '{name}'"
                );
                std::process::exit(1);
            }
            PropagationError::Resync => Err(Ended::Content(format!(
                "'{name}' could not be applied: a full sync is to make the data equal (propagation-error-behavior)"
            ))),
            _ => Ok(()),
        }
    }

    /// A write is about to be applied that may not survive here: `replica-ignore-disk-write-errors` says whether it may be.
    fn heed_disk(&mut self) {
        if self.server.gate.load(Ordering::Acquire) & (gate::MISCONF | gate::AOF_ERROR) == 0 {
            return;
        }
        if !self.server.config.load().replica_ignore_disk_write_errors {
            crate::log!(Warning, "Replica was unable to write command to disk.");
            std::process::exit(1);
        }
        let now = self.server.clock();
        if self.disk_said.is_none_or(|then| now.saturating_sub(then) >= PERIOD_MS) {
            self.disk_said = Some(now);
            crate::log!(Warning, "Replica is applying a command even though it is unable to write to disk.");
        }
    }

    fn replconf(&mut self, args: &[&[u8]]) {
        if args.get(1).is_some_and(|a| a.eq_ignore_ascii_case(b"getack")) {
            // The acknowledgement covers what came before this command.
            let now = self.server.clock();
            self.link.applied(self.server.engine.log().end());
            self.link.getack(now);
        }
    }
}
