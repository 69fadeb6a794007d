//! Running one command of a connection: finding its row, asking whether it may run, and where its reply belongs.

use crate::client::conn::Conn;
use crate::client::waiting::{KeyWait, Wait};
use crate::commands::{self, Flow};
use crate::ground::{Ground, gate};
use crate::os;
use sluice_engine::Session;
use sluice_engine::internals::{
    Caller, CmdError, CmdResult, Command, Ctx, Flags, InBlock, Outcome, Request, Resolved, Row, Run, TxOp,
    resp::Reply,
};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

impl Conn {
    /// Runs one command; `clock` is when the one before it ended, by [`os::nanos`].
    #[inline]
    pub(super) fn command(
        &mut self,
        ground: &Ground,
        resolved: Option<Resolved<'_>>,
        request: Request<'_>,
        out: &mut Vec<u8>,
        clock: &mut u64,
    ) -> Flow {
        let (start, args) = (out.len(), request.args);
        let Some(resolved) = resolved else { return self.unknown(args, out) };
        let (id, command) = (resolved.row.id, resolved.row.command);
        let gate = ground.gate.load(Ordering::Relaxed);
        if (gate != 0 || !self.authenticated)
            && let Some(flow) = self.stopped_at(ground, gate, resolved.row, args, out)
        {
            return flow;
        }
        self.wrote |= command.flags.intersects(Flags::LOGGED) || self.session.in_multi();
        self.client.last_command.store(id, Ordering::Relaxed);
        // A subcommand that cannot run is refused when it is queued, so that EXEC refuses the whole.
        if self.session.in_multi()
            && let Err(e) = queue_check(command, args)
        {
            self.session.break_multi();
            self.error(out, &e.message());
            return Flow::Next;
        }
        let is_exec = is_exec(command);
        // Asked before EXEC forgets what it ran.
        let empties = command.flags.contains(Flags::EMPTIES) || is_exec && self.session.will_empty();
        let outcome = ground.engine.call_resolved(self, resolved, request, out);
        let flow = if outcome == Outcome::Done && !is_exec && !empties {
            Flow::Next
        } else {
            if empties && outcome == Outcome::Done {
                crate::persist::flushed_all(&self.server);
            }
            match self.come_to(ground, outcome, resolved.row, args, out, start, *clock) {
                ControlFlow::Continue(flow) => flow,
                ControlFlow::Break(flow) => return flow,
            }
        };
        let now = os::nanos();
        let took = now - *clock;
        *clock = now;
        ground.engine.command_stats(id).nanos.fetch_add(took, Ordering::Relaxed);
        if outcome != Outcome::Refused {
            ground.stats.latency.note(id, took);
        }
        if !command.flags.contains(Flags::SKIP_SLOWLOG) {
            ground.slowlog.note(took, args, || self.client.who());
        }
        flow
    }

    /// What the client asked for is no command.
    #[cold]
    fn unknown(&mut self, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
        if is_web_request(args[0]) {
            return self.refuse_web_request();
        }
        self.session.break_multi();
        self.error(out, &CmdError::unknown_command(args).message());
        Flow::Next
    }

    /// What becomes of a command that the gates, or the connection's state, do not let through.
    #[cold]
    fn stopped_at(
        &mut self,
        ground: &Ground,
        gate: u32,
        row: Row,
        args: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Option<Flow> {
        let Some(why) = self.refusal(row.command, args.len(), gate) else {
            return (gate & gate::PAUSED != 0 && self.is_paused(row.command)).then_some(Flow::Paused);
        };
        ground.engine.command_stats(row.id).rejected.fetch_add(1, Ordering::Relaxed);
        if is_exec(row.command) {
            self.session.discard();
            self.error(out, &CmdError::Aborted(why.into()).message());
        } else {
            self.session.break_multi();
            self.error(out, &why.message());
        }
        Some(Flow::Next)
    }

    /// What a command leads to that was not simply run; where it breaks, nothing about it is to be noted now.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn come_to(
        &mut self,
        ground: &Ground,
        outcome: Outcome,
        row: Row,
        args: &[&[u8]],
        out: &mut Vec<u8>,
        start: usize,
        since: u64,
    ) -> ControlFlow<Flow, Flow> {
        let flow = match outcome {
            Outcome::Done => Flow::Next,
            Outcome::Refused => {
                let line = out[start + 1..].to_vec();
                ground.stats.error(&line);
                Flow::Next
            }
            Outcome::Stalled => return ControlFlow::Break(Flow::Stalled),
            Outcome::Blocked => {
                let Some(blocked) = self.session.blocked.take() else {
                    return ControlFlow::Break(Flow::Next);
                };
                // What it counts and how long it took is noted when it ends.
                let wait = Wait::Key(KeyWait { blocked, command: row.id, since });
                return ControlFlow::Break(Flow::Wait(Box::new(wait)));
            }
            Outcome::External => {
                ground.engine.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
                self.run_own(row, args, out)
            }
            Outcome::Interrupted => self.go_on(out),
        };
        self.count_exec_errors();
        match flow {
            // The rest of a block waits for a cut; EXEC itself is done with.
            Flow::Stalled => ControlFlow::Break(Flow::Next),
            Flow::Next if std::mem::take(&mut self.closing) => ControlFlow::Continue(Flow::Close),
            other => ControlFlow::Continue(other),
        }
    }

    /// Runs a command of the server's.
    fn run_own(&mut self, row: Row, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
        let start = out.len();
        let resp3 = self.session.resp3;
        let flow = commands::run(self, None, row, args, &mut Reply::new(out, resp3));
        self.count_failure(row, &out[start..]);
        flow
    }

    /// Goes on with a block of MULTI: the command that interrupted it is run without its locks, then the rest, up to the
    /// next such command. Where one's reply comes later the block goes on behind it ([`Conn::resume`]).
    fn go_on(&mut self, out: &mut Vec<u8>) -> Flow {
        let server = self.server.clone();
        while let Some((row, args)) = server.engine.take_interrupting(&mut self.session) {
            let refs: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            server.engine.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
            match self.run_own(row, &refs, out) {
                Flow::Next => {}
                Flow::Close => self.closing = true,
                Flow::Later(reply) => return Flow::Later(reply),
                Flow::Turn
                | Flow::Stalled
                | Flow::Paused
                | Flow::Wait(_)
                | Flow::Replica(_)
                | Flow::Apart => {
                    self.error(out, "ERR Command not allowed inside a transaction");
                }
            }
            match server.engine.resume(self, out) {
                Outcome::Interrupted => {}
                Outcome::Stalled => return Flow::Stalled,
                _ => break,
            }
        }
        Flow::Next
    }

    /// Goes on with a block of MULTI whose interrupting command has replied.
    pub(super) fn resume(&mut self, out: &mut Vec<u8>) -> Flow {
        let server = self.server.clone();
        let flow = match server.engine.resume(self, out) {
            Outcome::Interrupted => self.go_on(out),
            Outcome::Stalled => Flow::Stalled,
            _ => Flow::Next,
        };
        self.count_exec_errors();
        match flow {
            Flow::Next if std::mem::take(&mut self.closing) => Flow::Close,
            other => other,
        }
    }

    fn count_exec_errors(&mut self) {
        if !self.session.exec_errors.is_empty() {
            for e in std::mem::take(&mut self.session.exec_errors) {
                self.server.stats.error(e.message().as_bytes());
            }
        }
    }

    /// Counts the error a command of the server replied, if it did.
    fn count_failure(&self, row: Row, reply: &[u8]) {
        if let Some(line) = reply.strip_prefix(b"-") {
            self.server.stats.error(line);
            self.server.engine.command_stats(row.id).failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replies an error and counts it.
    pub(crate) fn error(&self, out: &mut Vec<u8>, text: &str) {
        self.server.stats.error(text.as_bytes());
        Reply::new(out, self.session.resp3).error(text);
    }
}

/// Is this the first word of a line that only a web client sends?
fn is_web_request(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

impl Caller for Conn {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn run_in_block(&mut self, row: Row, args: &[&[u8]], cx: &mut Ctx<'_>) -> InBlock {
        let start = cx.out.raw().len();
        match commands::run(self, Some(&mut cx.keys), row, args, &mut cx.out) {
            Flow::Apart => return InBlock::Apart,
            Flow::Close => self.closing = true,
            Flow::Next => {}
            _ => {
                debug_assert!(false, "{} waits although the shards are locked", row.command.name);
                cx.out.raw().truncate(start);
                cx.out.error("ERR Command not allowed inside a transaction");
            }
        }
        self.count_failure(row, &cx.out.raw()[start..]);
        InBlock::Done
    }
}

fn is_exec(command: &Command) -> bool {
    matches!(command.run, Run::Transaction(TxOp::Exec))
}

/// May this be queued by MULTI, going by its subcommand?
fn queue_check(command: &Command, args: &[&[u8]]) -> CmdResult {
    command.check_subcommand(args)?;
    match args.get(1).and_then(|word| command.subcommand(word)) {
        Some(sub) if sub.flags.contains(Flags::NO_MULTI) => {
            Err(CmdError::text("ERR Command not allowed inside a transaction"))
        }
        _ => Ok(()),
    }
}
