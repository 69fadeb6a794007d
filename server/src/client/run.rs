//! Running one command of a connection: finding its row, asking whether it may run, and where its reply belongs.

use crate::client::conn::Conn;
use crate::client::waiting::{KeyWait, Wait};
use crate::commands::{self, Flow};
use crate::state::gate;
use sluice_engine::command::{Flags, Run, TxOp};
use sluice_engine::resp::Reply;
use sluice_engine::{Outcome, Request, Row};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Conn {
    /// Runs one command.
    pub(super) fn command(
        &mut self,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        out: &mut Vec<u8>,
        clock: &mut Instant,
    ) -> Flow {
        let start = out.len();
        let server = self.server.clone();
        let Some(row) = server.engine.lookup(args[0]) else {
            if is_web_request(args[0]) {
                return self.refuse_web_request();
            }
            self.session.break_multi();
            self.error(out, &unknown_command(args));
            return Flow::Next;
        };
        let gate = server.gate.load(Ordering::Relaxed);
        if (gate != 0 || !self.authenticated)
            && let Some(text) = self.refusal(row.command, args.len(), gate)
        {
            server.engine.command_stats(row.id).rejected.fetch_add(1, Ordering::Relaxed);
            if matches!(row.command.run, Run::Transaction(TxOp::Exec)) {
                server.engine.discard(&mut self.session);
                self.error(out, &sluice_engine::abort_because(&text).0);
            } else {
                self.session.break_multi();
                self.error(out, &text);
            }
            return Flow::Next;
        }
        if gate & gate::PAUSED != 0 && self.is_paused(row.command) {
            return Flow::Paused;
        }
        self.wrote |= row.command.flags.intersects(Flags::LOGGED) || self.session.in_multi();
        self.client.last_command.store(row.id, Ordering::Relaxed);
        // A subcommand that cannot run is refused when it is queued, so that EXEC refuses the whole.
        if self.session.in_multi()
            && let Err(e) = crate::admin::queue_check(row.command.name, args)
        {
            self.session.break_multi();
            self.error(out, &e.0);
            return Flow::Next;
        }
        let mut deferred: Vec<(usize, Row, Vec<Vec<u8>>)> = Vec::new();
        let outcome =
            server.engine.call(&mut self.session, row, Request { args, raw }, out, &mut |row, args, cx| {
                if row.command.name == "debug"
                    && crate::admin::debug_in_place(&server, &self.client, args, &mut cx.out)
                {
                    return;
                }
                // Their turn comes when the locks are gone; the place of the reply is kept.
                let owned = args.iter().map(|a| a.to_vec()).collect();
                deferred.push((cx.out.raw().len(), row, owned));
            });
        let mut flow = match outcome {
            Outcome::Done => {
                if row.command.name == "flushall" {
                    crate::persist::flushed_all(&server);
                }
                Flow::Next
            }
            Outcome::Refused => {
                let line = out[start + 1..].to_vec();
                server.stats.error(&line);
                Flow::Next
            }
            Outcome::Stalled => return Flow::Stalled,
            Outcome::Blocked => {
                let Some(blocked) = self.session.blocked.take() else { return Flow::Next };
                // What it counts and how long it took is noted when it ends.
                return Flow::Wait(Box::new(Wait::Key(KeyWait { blocked, command: row.id, since: *clock })));
            }
            Outcome::External => {
                server.engine.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
                let flow = commands::run(self, row, args, out);
                self.count_failure(row, &out[start..]);
                flow
            }
        };
        if !self.session.exec_errors.is_empty() {
            for e in std::mem::take(&mut self.session.exec_errors) {
                server.stats.error(e.0.as_bytes());
            }
        }
        if !deferred.is_empty() {
            flow = self.run_deferred(deferred, out);
        }
        let now = Instant::now();
        let took = now - *clock;
        *clock = now;
        server.engine.command_stats(row.id).nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if outcome != Outcome::Refused {
            server.stats.latency.note(row.id, took);
        }
        if !row.command.flags.contains(Flags::SKIP_SLOWLOG) {
            server.slowlog.note(took, args, &self.client);
        }
        flow
    }

    /// Runs the server's own commands of a transaction and puts their replies in place.
    fn run_deferred(&mut self, deferred: Vec<(usize, Row, Vec<Vec<u8>>)>, out: &mut Vec<u8>) -> Flow {
        let mut shift = 0;
        let mut last = Flow::Next;
        for (at, row, args) in deferred {
            let refs: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let mut reply = Vec::new();
            match commands::run(self, row, &refs, &mut reply) {
                Flow::Next => {}
                Flow::Later(_) | Flow::Replica(_) | Flow::Wait(_) => {
                    reply.clear();
                    Reply::new(&mut reply, false).error("ERR Command not allowed inside a transaction");
                }
                other => last = other,
            }
            self.count_failure(row, &reply);
            out.splice(at + shift..at + shift, reply.iter().copied());
            shift += reply.len();
        }
        last
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

/// Longest part of the arguments an error repeats.
const SHOWN_ARGS: usize = 128;

pub(crate) fn unknown_command(args: &[&[u8]]) -> String {
    let shown = |a: &[u8]| String::from_utf8_lossy(&a[..a.len().min(SHOWN_ARGS)]).into_owned();
    let mut list = String::new();
    for a in &args[1..] {
        if list.len() >= SHOWN_ARGS {
            break;
        }
        list.push_str(&format!("'{}' ", shown(a)));
    }
    format!("ERR unknown command '{}', with args beginning with: {list}", shown(args[0]))
}
