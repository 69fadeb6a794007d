//! Transactions: MULTI queues commands, EXEC runs them as one, WATCH makes that depend on keys staying as they were.
//!
//! EXEC takes the locks of all its commands and watched keys together and holds them to the end. Hence nothing runs in
//! between, what was watched is judged and what was queued is run at one moment, the effects enter the log as one
//! block, and no cut begins inside it. An error of one command does not undo the others, as in Redis.
//!
//! A watch is a flag the session shares with the shards of its keys: whoever changes such a key raises it (see
//! [`crate::keyspace::Keys::signal`]). What a session has queued and watched is kept in [`crate::session`]; the rows
//! are among the [`crate::commands`].

use crate::command::{CmdError, Flags, Run, TxOp};
use crate::engine::{Engine, ExternalInExec, Outcome, Request, Row, now_ms};
use crate::expiry::own::Expiries;
use crate::hash::hash;
use crate::keyspace::{Ctx, Held};
use crate::resp::Reply;
use crate::session::{MAX_QUEUED, Queued, Session, Transaction, Watch};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// Errors kept for [`Session::exec_errors`].
const MAX_EXEC_ERRORS: usize = 1024;

/// What EXEC replies where the state of the server forbids something that was queued; `why` is the error that the
/// command alone would get.
pub fn abort_because(why: &str) -> CmdError {
    CmdError(format!("EXECABORT Transaction discarded because of: {why}").into())
}

impl Engine {
    /// Queues a command that came inside MULTI.
    pub(crate) fn queue(&self, s: &mut Session, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        self.relay(s, req);
        let args = req.args;
        if row.command.flags.contains(Flags::NO_MULTI) {
            s.break_multi();
            let e = CmdError::text("ERR Command not allowed inside a transaction");
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        let t = s.transaction.as_mut().expect("the caller checked");
        // Not for a primary's block: to refuse a part of it would be to lose the whole.
        if t.queued.len() >= MAX_QUEUED && !s.from_primary {
            t.broken = true;
            let e = CmdError(format!("ERR MULTI queue is full ({MAX_QUEUED} commands)").into());
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        t.flags.add(row.command.flags);
        t.queued.push(Queued {
            id: row.id,
            command: row.command,
            args: args.iter().map(|a| a.to_vec()).collect(),
        });
        out.extend_from_slice(b"+QUEUED\r\n");
        Outcome::Done
    }

    /// Runs one of the commands that make transactions.
    pub(crate) fn run_transaction(
        &self,
        op: TxOp,
        row: Row,
        s: &mut Session,
        req: Request<'_>,
        out: &mut Vec<u8>,
        external: ExternalInExec<'_>,
    ) -> Outcome {
        let refusal = match op {
            TxOp::Multi if s.in_multi() => Some("ERR MULTI calls can not be nested"),
            TxOp::Exec if !s.in_multi() => Some("ERR EXEC without MULTI"),
            TxOp::Discard if !s.in_multi() => Some("ERR DISCARD without MULTI"),
            TxOp::Watch if s.in_multi() => Some("ERR WATCH inside MULTI is not allowed"),
            _ => None,
        };
        if let Some(text) = refusal {
            self.relay(s, req);
            return self.refuse(row.id, s.resp3, out, &CmdError::text(text), false);
        }
        let resp3 = s.resp3;
        match op {
            TxOp::Multi => {
                s.transaction = Some(Transaction::default());
                self.relay(s, req);
            }
            TxOp::Discard => {
                self.relay(s, req);
                s.transaction = None;
                self.relay_block(s);
                self.unwatch(s);
            }
            TxOp::Watch => {
                self.relay(s, req);
                self.watch(s, &req.args[1..]);
            }
            TxOp::Unwatch if s.in_multi() => return self.queue(s, row, req, out),
            TxOp::Unwatch => {
                self.relay(s, req);
                self.unwatch(s);
            }
            TxOp::Exec => return self.exec(s, row, req, out, external),
        }
        self.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
        Reply::new(out, resp3).ok();
        Outcome::Done
    }

    /// Appends the bytes of a MULTI block that has ended.
    fn relay_block(&self, s: &mut Session) {
        let block = std::mem::take(&mut s.block);
        if !block.is_empty() {
            self.inner.log.append_stream(&block, s.db);
        }
    }

    fn watch(&self, s: &mut Session, keys: &[&[u8]]) {
        let now = if s.now_ms == 0 { now_ms() } else { s.now_ms };
        for key in keys {
            let h = hash(key);
            let mut shard = self.inner.shards[self.inner.shard_of(h)].lock();
            let was_due = shard.dbs[s.db as usize]
                .get_hashed(h, key)
                .and_then(|e| e.expire())
                .is_some_and(|at| at <= now);
            if !shard.watched.add(s.db, key, &s.touched, was_due) {
                continue;
            }
            self.inner.watchers.fetch_add(1, Ordering::Relaxed);
            s.watches.push(Watch { db: s.db, key: (*key).into() });
        }
    }

    fn unwatch(&self, s: &mut Session) {
        for w in s.watches.drain(..) {
            let mut shard = self.inner.shards[self.inner.shard_of(hash(&w.key))].lock();
            shard.watched.remove(w.db, w.key, &s.touched);
            self.inner.watchers.fetch_sub(1, Ordering::Relaxed);
        }
        s.touched.store(false, Ordering::Release);
    }

    /// Ends a session: its watches go. Call it before dropping a session that may watch keys.
    pub fn end_session(&self, s: &mut Session) {
        s.transaction = None;
        self.unwatch(s);
    }

    /// Gives up a transaction, and what the session watches with it.
    pub fn discard(&self, s: &mut Session) {
        self.end_session(s);
    }

    fn exec(
        &self,
        s: &mut Session,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
        external: ExternalInExec<'_>,
    ) -> Outcome {
        let t = s.transaction.take().expect("the caller checked");
        if t.broken {
            if let Some(raw) = req.raw.filter(|_| s.from_primary) {
                s.block.extend_from_slice(raw);
                self.relay_block(s);
            }
            self.unwatch(s);
            let e = CmdError::text("EXECABORT Transaction discarded because of previous errors.");
            return self.refuse(row.id, s.resp3, out, &e, false);
        }
        let Some(held) = self.lock_queued(s, &t) else {
            s.transaction = Some(t);
            return Outcome::Stalled;
        };
        if self.inner.role.get().refuses_writes() && t.flags.any.contains(Flags::WRITE) && !s.from_primary {
            drop(held);
            self.unwatch(s);
            return self.refuse(row.id, s.resp3, out, &abort_because(&CmdError::READ_ONLY_REPLICA.0), true);
        }
        if self.inner.role.get().holds_writes() && t.flags.any.intersects(Flags::LOGGED) && !s.from_primary {
            drop(held);
            s.transaction = Some(t);
            return Outcome::Stalled;
        }
        let now = if s.now_ms == 0 { now_ms() } else { s.now_ms };
        let mut fx = std::mem::take(&mut s.fx);
        let (mut db, resp3, from_primary) = (s.db, s.resp3, s.from_primary);
        let mut cx = self.context(&mut fx, held, db, from_primary, now, out, resp3);
        let due = s.watches.iter().any(|w| cx.keys.expired_since(w.db, &w.key, &s.touched));
        if s.was_touched() || due {
            cx.out.null_array();
        } else {
            cx.out.array(t.queued.len());
            for q in &t.queued {
                let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
                self.exec_one(s, Row { id: q.id, command: q.command }, &args, &mut cx, external);
                db = s.db;
                cx.keys.db = db;
            }
        }
        let (held, effects) = cx.into_parts();
        if from_primary {
            if let Some(raw) = req.raw {
                s.block.extend_from_slice(raw);
                self.relay_block(s);
            }
        } else {
            self.commit(effects, None);
        }
        self.unlock(held, effects);
        s.fx = fx;
        self.unwatch(s);
        self.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
        Outcome::Done
    }

    /// Locks what the queued commands and the watches need, and hands a running cut what the commands will read;
    /// `None` where one of them has to wait for the cut.
    fn lock_queued(&self, s: &Session, t: &Transaction) -> Option<Held<'_>> {
        let mut indexes: SmallVec<[usize; 8]> = SmallVec::new();
        let mut all = false;
        for q in &t.queued {
            let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
            match q.command.run {
                Run::All(_) | Run::External => all = true,
                _ => q.command.keys.each(&args, |at| indexes.push(self.inner.shard_of(hash(args[at])))),
            }
        }
        for w in &s.watches {
            indexes.push(self.inner.shard_of(hash(&w.key)));
        }
        let mut held = if all { Held::All(self.inner.lock_all()) } else { self.lock_indexes(indexes) };
        if !all && self.each_queued(t, s.db, |_, q, args| self.wakes(&held, q.command, args)) {
            drop(held);
            held = Held::All(self.inner.lock_all());
        }
        if self.inner.cut_active.load(Ordering::Relaxed) {
            if self.each_queued(t, s.db, |db, q, args| self.must_stall(&mut held, db, q.command.keys, args)) {
                return None;
            }
            self.each_queued(t, s.db, |db, q, args| {
                self.hand_over_read_keys(&mut held, db, q.command, args);
                false
            });
        }
        Some(held)
    }

    /// Calls `f` with the queued commands and the databases they will run in, until it returns true.
    fn each_queued(
        &self,
        t: &Transaction,
        mut db: u32,
        mut f: impl FnMut(u32, &Queued, &[&[u8]]) -> bool,
    ) -> bool {
        t.queued.iter().any(|q| {
            let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
            if q.command.name == "select" {
                let wanted = crate::num::parse_i64(args[1]).and_then(|n| u32::try_from(n).ok());
                db = wanted.filter(|n| *n < self.inner.databases).unwrap_or(db);
            }
            f(db, q, &args)
        })
    }

    fn exec_one(
        &self,
        s: &mut Session,
        row: Row,
        args: &[&[u8]],
        cx: &mut Ctx<'_>,
        external: ExternalInExec<'_>,
    ) {
        let start = cx.out.raw().len();
        let db = cx.keys.db;
        cx.keys.fx.dirty = 0;
        cx.keys.fx.replaced = false;
        let before = Expiries::before(cx, row.command, args, s.from_primary);
        let result = match row.command.run {
            Run::Keys(f) | Run::All(f) => f(cx, args),
            Run::Session(f) => f(s, args, &mut cx.out),
            Run::External => {
                external(row, args, cx);
                Ok(())
            }
            // UNWATCH inside MULTI does nothing: EXEC unwatches anyway.
            Run::Transaction(_) => {
                cx.out.ok();
                Ok(())
            }
        };
        if let Some(before) = before.filter(|_| cx.keys.fx.dirty > 0) {
            self.inner.own_expiries.note(cx, row.command, args, &before);
        }
        if cx.keys.fx.dirty > 0 {
            self.inner.changes.fetch_add(cx.keys.fx.dirty, Ordering::Relaxed);
            if !cx.keys.fx.replaced {
                cx.keys.fx.push(db, args);
            }
        }
        let stats = self.command_stats(row.id);
        stats.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(e) = result {
            stats.failed.fetch_add(1, Ordering::Relaxed);
            cx.out.raw().truncate(start);
            cx.out.error(&e.0);
            if s.exec_errors.len() < MAX_EXEC_ERRORS {
                s.exec_errors.push(e);
            }
        }
    }
}
