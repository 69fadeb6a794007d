//! The one way in for commands: [`Engine::call`].
//!
//! A command is refused, queued by MULTI, run on the session, left to the embedder, or run on its keys, which takes the locks that its
//! row asks for and appends its effect to the log before it lets go of them; the order of the log is therefore a legal serial
//! order. The steps are those of [`crate::execute`].

use crate::command::{CmdError, CmdResult, Command, Flags, KeyFn, KeySpec, Run, TxOp};
use crate::engine::role::Forbidden;
use crate::engine::{Engine, Outcome, Request, Row};
use crate::execute::{Access, Appended, Resolved, Wanted};
use crate::keyspace::{Hashed, Held};
use crate::resp::Reply;
use crate::session::Session;
use crate::transaction::Caller;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// # Running rows, for servers
impl Engine {
    /// Runs one command for a caller, appending its reply to `out`. Commands of the embedder's come back as
    /// [`Outcome::External`]; inside EXEC they run at their place, see [`Caller`].
    pub fn call<C: Caller>(&self, caller: &mut C, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        self.call_resolved(caller, Resolved { row, key: None }, req, out)
    }

    /// As [`Engine::call`], for a command that was [resolved](Engine::resolve) from these arguments.
    #[inline]
    pub fn call_resolved<C: Caller>(
        &self,
        caller: &mut C,
        resolved: Resolved<'_>,
        req: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Resolved { row, key } = resolved;
        let s = caller.session();
        // What nearly all are.
        if let Run::Keys(f) = row.command.run
            && s.transaction.is_none()
            && !s.from_primary
            && row.command.arity_ok(req.args.len())
        {
            return self.run(s, row, f, false, req, out, &mut None, key);
        }
        self.call_any(caller, row, req, out)
    }

    #[inline(never)]
    fn call_any<C: Caller>(&self, caller: &mut C, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        let exec = matches!(row.command.run, Run::Transaction(TxOp::Exec));
        if exec && caller.session().in_multi() && row.command.arity_ok(req.args.len()) {
            return self.exec(caller, row, req, out);
        }
        let s = caller.session();
        let mut raw = req.raw.filter(|_| s.from_primary);
        let outcome = self.dispatch(s, row, req, out, &mut raw);
        if raw.is_some() && !matches!(outcome, Outcome::Stalled | Outcome::External) {
            // After it ran: the stream's bytes go with the database they leave selected.
            self.relay(s, raw);
        }
        outcome
    }

    /// Runs a command, or queues it. `raw` are the bytes of a primary's stream; they are taken where they are logged under
    /// the command's locks.
    fn dispatch(
        &self,
        s: &mut Session,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
        raw: &mut Option<&[u8]>,
    ) -> Outcome {
        let command = row.command;
        if !command.arity_ok(req.args.len()) {
            s.break_multi();
            return self.refuse(row.id, s.resp3, out, &CmdError::arity(command.name), true);
        }
        if s.transaction.is_some()
            && !matches!(command.run, Run::Transaction(_))
            && !command.flags.contains(Flags::IMMEDIATE)
        {
            return self.queue(s, row, req.args, out);
        }
        match command.run {
            Run::Keys(f) | Run::Waits { run: f, .. } => self.run(s, row, f, false, req, out, raw, None),
            Run::All(f) => self.run(s, row, f, true, req, out, raw, None),
            Run::External => Outcome::External,
            Run::Transaction(op) => self.run_transaction(op, row, s, req.args, out),
            Run::Session(f) => {
                let (resp3, start) = (s.resp3, out.len());
                let result = f(s, req.args, &mut Reply::new(out, resp3));
                self.replied(row.id, resp3, result, start, out)
            }
        }
    }

    /// Appends bytes of the primary's stream that the engine was not asked to run (see `Session::from_primary`).
    pub fn relay_unknown(&self, s: &mut Session, raw: &[u8]) {
        self.relay(s, Some(raw));
    }

    /// Counts a command that ran; where it failed its reply is the error.
    #[inline(always)]
    fn replied(&self, id: usize, resp3: bool, result: CmdResult, start: usize, out: &mut Vec<u8>) -> Outcome {
        match result {
            Ok(()) => {
                self.rows.stats(id).calls.fetch_add(1, Ordering::Relaxed);
                Outcome::Done
            }
            Err(e) => {
                out.truncate(start);
                self.refuse(id, resp3, out, &e, false)
            }
        }
    }

    /// Begins a command: see [`Engine::begin`].
    #[inline(always)]
    fn begin_command<'k>(
        &self,
        command: &Command,
        args: &[&'k [u8]],
        db: u32,
        all: bool,
        known: &mut Option<Hashed<'k>>,
    ) -> Option<Held<'_>> {
        if let KeySpec::Range { first, last, .. } = command.keys
            && last == first as i32
        {
            let key = Hashed::known(*known, args[first]);
            *known = Some(key);
            return self.begin(all, &[self.want_hashed(db, key, Access::of(command))]);
        }
        self.begin_many(command, args, db, all)
    }

    #[inline(never)]
    fn begin_many(&self, command: &Command, args: &[&[u8]], db: u32, all: bool) -> Option<Held<'_>> {
        let mut wanted: SmallVec<[Wanted<'_>; 8]> = SmallVec::new();
        self.want_all(&mut wanted, db, command, args);
        self.begin(all, &wanted)
    }

    // Twice in all, and the steps of `execute` with it: what goes from one to the next stays where it is.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn run<'k>(
        &self,
        s: &mut Session,
        row: Row,
        f: KeyFn,
        all: bool,
        req: Request<'k>,
        out: &mut Vec<u8>,
        stream: &mut Option<&[u8]>,
        mut key: Option<Hashed<'k>>,
    ) -> Outcome {
        let (command, args, db) = (row.command, req.args, s.db);
        let Some(held) = self.begin_command(command, args, db, all, &mut key) else {
            return Outcome::Stalled;
        };
        let (resp3, from_primary, start) = (s.resp3, s.from_primary, out.len());
        // Whoever let it through may have looked before the role changed; from here on it cannot.
        if let Some(why) = self.inner.role.get().forbids(command.flags)
            && !from_primary
        {
            return match why {
                Forbidden::ForNow => Outcome::Stalled,
                Forbidden::ReadOnly => self.refuse(row.id, resp3, out, &CmdError::ReadOnlyReplica, true),
            };
        }
        let (now, may_block) = (s.now(&self.inner), s.may_block && !from_primary);
        let mut cx = self.context(&mut s.fx, held, db, from_primary, now, Reply::new(out, resp3));
        cx.keys.may_block = may_block;
        cx.keys.known = key;
        let result = self.run_row(&mut cx, command, args, from_primary, f);
        let fx = &mut *cx.keys.fx;
        let as_it_came = !fx.replaced && fx.dirty > 0 && fx.enabled;
        let appended = match (stream.take(), req.raw) {
            // The primary's own bytes are the effect, so that offsets stay equal.
            (Some(raw), _) => Appended::Relayed(db, raw),
            (None, Some(raw)) if as_it_came && fx.ops.is_empty() => Appended::AsItCame(db, raw),
            (None, raw) => {
                match raw {
                    Some(raw) if as_it_came => fx.push_encoded(db, raw),
                    None if as_it_came => fx.push(db, args),
                    _ => {}
                }
                let apart = command.flags.contains(Flags::ARBITRARY_KEYS);
                if apart { Appended::Apart } else { Appended::Effects }
            }
        };
        let (mut held, fx) = self.conclude(cx, appended);
        if let Some(wish) = fx.wish.take() {
            let blocked = self.enqueue(&mut held, wish, db, (row.id, args), resp3);
            // One that the caller left there gives up its place, which takes locks.
            drop(held);
            s.blocked = Some(blocked);
            return Outcome::Blocked;
        }
        self.release(held, fx);
        self.replied(row.id, resp3, result, start, out)
    }
}
