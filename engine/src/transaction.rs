//! Transactions: MULTI queues commands, EXEC runs them as one, WATCH makes that depend on keys staying as they were.
//!
//! EXEC takes the locks of all its commands and watched keys together and holds them to the end. Hence nothing runs in
//! between, what was watched is judged and what was queued is run at one moment, the effects enter the log as one
//! block, and no cut begins inside it. An error of one command does not undo the others, as in Redis.
//!
//! Commands of the embedder's run at their place too, through the [`Caller`], on the keys that are locked. One that cannot (it
//! talks to the network, or needs the locks itself) *interrupts* the block: what ran so far is logged and the locks are let
//! go of ([`Outcome::Interrupted`]), the caller runs the command, and [`Engine::resume`] goes on behind it. Order and replies
//! are those of one block; in the log, and for others, it is several.
//!
//! A watch is a flag the session shares with the shards of its keys: whoever changes such a key raises it (see
//! [`crate::keyspace::Keys::signal`]). What a session has queued and watched is kept in [`crate::session`]; the rows
//! are among the [`crate::commands`].

use crate::command::{CmdError, Command, Flags, FlagsOfMany, Run, TxOp};
use crate::engine::role::Forbidden;
use crate::engine::{Engine, Outcome, Request, Row};
use crate::execute::{Access, Appended, Wanted};
use crate::hash::hash;
use crate::keyspace::{Ctx, Held};
use crate::resp::Reply;
use crate::session::{Block, MAX_QUEUED, Queued, Session, Transaction, Watch};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Errors kept for [`Session::exec_errors`].
const MAX_EXEC_ERRORS: usize = 1024;

/// Whoever a command runs for: a connection of the embedder's, or a session by itself.
pub trait Caller {
    /// The session.
    fn session(&mut self) -> &mut Session;

    /// Runs one of the embedder's commands inside EXEC, on the keys, every shard of which is locked: it must not call
    /// the engine. [`InBlock::Apart`] has it run without the locks instead; nothing may be replied then.
    fn run_in_block(&mut self, row: Row, args: &[&[u8]], cx: &mut Ctx<'_>) -> InBlock;
}

/// What became of an embedder's command inside EXEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InBlock {
    /// It ran; its reply is written.
    Done,
    /// It cannot run while the shards are locked.
    Apart,
}

impl Engine {
    /// Watched keys, each once for every session that watches it.
    pub fn watched_keys(&self) -> usize {
        self.inner.watchers.load(Ordering::Relaxed)
    }
}

impl Caller for Session {
    fn session(&mut self) -> &mut Session {
        self
    }

    fn run_in_block(&mut self, row: Row, _: &[&[u8]], cx: &mut Ctx<'_>) -> InBlock {
        cx.out.error(&format!("ERR '{}' is for the embedder to run", row.command.name));
        InBlock::Done
    }
}

impl Session {
    /// What running `command` now amounts to: its own flags, and for EXEC those of all that MULTI has queued as well.
    pub fn flags_of(&self, command: &Command) -> FlagsOfMany {
        let mut flags = match (command.run, &self.transaction) {
            (Run::Transaction(TxOp::Exec), Some(t)) => t.flags,
            _ => FlagsOfMany::default(),
        };
        flags.add(command.flags);
        flags
    }

    /// Keeps the rest of a block, if there is one.
    pub(crate) fn interrupt(&mut self, rest: Option<Block>) -> Outcome {
        self.interrupted = rest;
        if self.interrupted.is_some() { Outcome::Interrupted } else { Outcome::Done }
    }
}

impl Engine {
    /// Takes the command that interrupted a block, for the embedder to run.
    pub fn take_interrupting(&self, s: &mut Session) -> Option<(Row, Vec<Vec<u8>>)> {
        let block = s.interrupted.as_mut()?;
        let q = block.queued.get_mut(block.at)?;
        block.at += 1;
        Some((self.row(q.id)?, std::mem::take(&mut q.args)))
    }

    /// Queues a command that came inside MULTI.
    pub(crate) fn queue(&self, s: &mut Session, row: Row, args: &[&[u8]], out: &mut Vec<u8>) -> Outcome {
        if row.command.flags.contains(Flags::NO_MULTI) {
            s.break_multi();
            let e = CmdError::text("ERR Command not allowed inside a transaction");
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        // What a trusted stream queues is bounded by what has arrived of it; to drop it would part the data.
        let full = !s.from_primary && s.queued() >= MAX_QUEUED as i64;
        let t = s.transaction.as_mut().expect("the caller checked");
        if full {
            t.broken = true;
            let e = format!("ERR MULTI queue is full ({MAX_QUEUED} commands)").into();
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        t.flags.add(row.command.flags);
        t.queued.push(Queued { id: row.id, args: args.iter().map(|a| a.to_vec()).collect() });
        out.extend_from_slice(b"+QUEUED\r\n");
        Outcome::Done
    }

    /// Runs one of the commands that make transactions, but for an EXEC that has something to run.
    pub(crate) fn run_transaction(
        &self,
        op: TxOp,
        row: Row,
        s: &mut Session,
        args: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let refusal = match op {
            TxOp::Multi if s.in_multi() => Some("ERR MULTI calls can not be nested"),
            TxOp::Exec => Some("ERR EXEC without MULTI"),
            TxOp::Discard if !s.in_multi() => Some("ERR DISCARD without MULTI"),
            TxOp::Watch if s.in_multi() => Some("ERR WATCH inside MULTI is not allowed"),
            _ => None,
        };
        if let Some(text) = refusal {
            return self.refuse(row.id, s.resp3, out, &CmdError::text(text), false);
        }
        match op {
            TxOp::Multi => s.transaction = Some(Transaction::default()),
            TxOp::Watch => self.watch(s, &args[1..]),
            TxOp::Unwatch if s.in_multi() => return self.queue(s, row, args, out),
            TxOp::Unwatch => s.unwatch(),
            TxOp::Discard | TxOp::Exec => s.discard(),
        }
        self.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
        Reply::new(out, s.resp3).ok();
        Outcome::Done
    }

    fn watch(&self, s: &mut Session, keys: &[&[u8]]) {
        if s.watched_in.as_ref().is_none_or(|shared| !Arc::ptr_eq(shared, &self.inner)) {
            s.unwatch();
            s.watched_in = Some(self.inner.clone());
        }
        let now = s.now(&self.inner);
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

    /// EXEC of a session that is inside MULTI.
    pub(crate) fn exec(
        &self,
        caller: &mut dyn Caller,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let s = caller.session();
        let mut raw = req.raw.filter(|_| s.from_primary);
        let t = s.transaction.take().expect("in MULTI");
        let outcome = if t.broken {
            s.unwatch();
            let e = CmdError::AbortedByErrors;
            self.refuse(row.id, s.resp3, out, &e, false)
        } else {
            self.begin_block(caller, row, t, out, &mut raw)
        };
        if outcome != Outcome::Stalled {
            self.relay(caller.session(), raw);
        }
        outcome
    }

    fn begin_block(
        &self,
        caller: &mut dyn Caller,
        row: Row,
        t: Transaction,
        out: &mut Vec<u8>,
        raw: &mut Option<&[u8]>,
    ) -> Outcome {
        let s = caller.session();
        let Some(held) = self.lock_queued(s.db, &t.queued, &s.watches) else {
            s.transaction = Some(t);
            return Outcome::Stalled;
        };
        if let Some(why) = self.inner.role.get().forbids(t.flags.any)
            && !s.from_primary
        {
            drop(held);
            if why == Forbidden::ForNow {
                s.transaction = Some(t);
                return Outcome::Stalled;
            }
            s.unwatch();
            return self.refuse(
                row.id,
                s.resp3,
                out,
                &CmdError::Aborted(CmdError::ReadOnlyReplica.into()),
                true,
            );
        }
        let bytes = raw.take().map(|raw| {
            let mut block = std::mem::take(&mut s.block);
            block.extend_from_slice(raw);
            block
        });
        let mut fx = std::mem::take(&mut s.fx);
        let mut cx =
            self.context(&mut fx, held, s.db, s.from_primary, s.now(&self.inner), Reply::new(out, s.resp3));
        let due = s.watches.iter().any(|w| cx.keys.expired_since(w.db, &w.key, &s.touched));
        let block = if s.was_touched() || due {
            cx.out.null_array();
            None
        } else {
            cx.out.array(t.queued.len());
            self.run_block(caller, Block { queued: t.queued, at: 0 }, &mut cx)
        };
        let s = caller.session();
        let (held, effects) = match &bytes {
            Some(bytes) => self.conclude(cx, Appended::Relayed(s.db, bytes)),
            None => self.conclude(cx, Appended::Effects),
        };
        self.release(held, effects);
        s.fx = fx;
        s.unwatch();
        self.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
        s.interrupt(block)
    }

    /// Goes on with a block that was interrupted, behind the command that interrupted it.
    pub fn resume(&self, caller: &mut dyn Caller, out: &mut Vec<u8>) -> Outcome {
        let s = caller.session();
        let Some(block) = s.interrupted.take() else { return Outcome::Done };
        let Some(held) = self.lock_queued(s.db, &block.queued[block.at..], &[]) else {
            s.interrupted = Some(block);
            return Outcome::Stalled;
        };
        let mut fx = std::mem::take(&mut s.fx);
        let mut cx =
            self.context(&mut fx, held, s.db, s.from_primary, s.now(&self.inner), Reply::new(out, s.resp3));
        let block = self.run_block(caller, block, &mut cx);
        let (held, effects) = self.conclude(cx, Appended::Effects);
        self.release(held, effects);
        let s = caller.session();
        s.fx = fx;
        s.interrupt(block)
    }

    /// Locks what the queued commands and the watches need, and hands a running cut what the commands will read;
    /// `None` where one of them has to wait for the cut.
    fn lock_queued(&self, mut db: u32, queued: &[Queued], watches: &[Watch]) -> Option<Held<'_>> {
        let mut wanted: SmallVec<[Wanted<'_>; 8]> = SmallVec::new();
        let mut all = false;
        for q in queued {
            let command = self.rows.command(q.id);
            if command.flags.contains(Flags::SELECTS_DB) {
                let chosen = q.args.get(1).and_then(|n| crate::num::parse_i64(n));
                let chosen = chosen.and_then(|n| u32::try_from(n).ok());
                db = chosen.filter(|n| *n < self.inner.databases).unwrap_or(db);
            }
            all |= matches!(command.run, Run::All(_) | Run::External);
            if !matches!(command.run, Run::External) {
                self.want_all(&mut wanted, db, command, &q.args());
            }
        }
        wanted.extend(watches.iter().map(|w| self.want(w.db, &w.key, Access::Read)));
        self.begin(all, &wanted)
    }

    /// Runs queued commands to the end, or up to one that cannot run here: then the rest comes back, it first.
    fn run_block(&self, caller: &mut dyn Caller, mut block: Block, cx: &mut Ctx<'_>) -> Option<Block> {
        while let Some(q) = block.queued.get(block.at) {
            if !self.run_queued(caller, q, cx) {
                return Some(block);
            }
            block.at += 1;
            let s = caller.session();
            cx.keys.db = s.db;
            cx.out.set_resp3(s.resp3);
        }
        None
    }

    /// Runs one queued command; false where it has to run apart.
    fn run_queued(&self, caller: &mut dyn Caller, q: &Queued, cx: &mut Ctx<'_>) -> bool {
        let args = q.args();
        let start = cx.out.raw().len();
        let db = cx.keys.db;
        cx.keys.fx.next_command();
        let from_primary = caller.session().from_primary;
        let command = self.rows.command(q.id);
        let result = match command.run {
            Run::Keys(f) | Run::Waits { run: f, .. } | Run::All(f) => {
                self.run_row(cx, command, &args, from_primary, f)
            }
            Run::Session(f) => f(caller.session(), &args, &mut cx.out),
            Run::External => {
                let row = Row { id: q.id, command };
                match caller.run_in_block(row, &args, cx) {
                    InBlock::Apart => return false,
                    InBlock::Done => Ok(()),
                }
            }
            // UNWATCH inside MULTI does nothing: EXEC unwatches anyway.
            Run::Transaction(_) => {
                cx.out.ok();
                Ok(())
            }
        };
        if cx.keys.fx.dirty > 0 && !cx.keys.fx.replaced {
            cx.keys.fx.push(db, &args);
        }
        let stats = self.command_stats(q.id);
        stats.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(e) = result {
            stats.failed.fetch_add(1, Ordering::Relaxed);
            cx.out.raw().truncate(start);
            cx.out.error(&e.message());
            let s = caller.session();
            if s.exec_errors.len() < MAX_EXEC_ERRORS {
                s.exec_errors.push(e);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::console::Console;

    #[test]
    fn a_block_of_a_trusted_stream_has_no_limit() {
        let mut c = Console::new();
        let row = c.engine.lookup(b"INCR").expect("a command");
        let args: [&[u8]; 2] = [b"INCR", b"n"];
        for (from_primary, fits) in [(true, true), (false, false)] {
            c.session.from_primary = from_primary;
            c.run("MULTI");
            let mut out = Vec::new();
            for _ in 0..MAX_QUEUED + 1 {
                out.clear();
                c.engine.call(&mut c.session, row, Request { args: &args, raw: None }, &mut out);
            }
            assert_eq!(out.starts_with(b"+QUEUED"), fits);
            let (exec, args): (_, [&[u8]; 1]) = (c.engine.lookup(b"EXEC").expect("a command"), [b"EXEC"]);
            out.clear();
            c.engine.call(&mut c.session, exec, Request { args: &args, raw: None }, &mut out);
            assert_eq!(out.starts_with(b"-EXECABORT"), !fits);
            assert_eq!(c.run("GET n"), format!("$7 {}", MAX_QUEUED + 1));
        }
    }

    #[test]
    fn a_primary_s_block_is_in_the_log_as_it_came_whatever_becomes_of_it() {
        let mut c = Console::new();
        c.engine.set_replica(true);
        c.session.from_primary = true;
        let mut stream = Vec::new();
        let blocks: [&[&str]; 4] = [
            &["MULTI", "SELECT 3", "SET k v", "EXEC"],
            &["MULTI", "SET k", "EXEC"],
            &["MULTI", "SET k w", "DISCARD"],
            &["EXEC", "SELECT 0", "WATCH k", "SET k x", "UNWATCH", "PING"],
        ];
        for line in blocks.into_iter().flatten() {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let mut raw = Vec::new();
            crate::resp::encode_command(&mut raw, &words);
            let row = c.engine.lookup(words[0]).expect("a command");
            c.engine.call(&mut c.session, row, Request { args: &words, raw: Some(&raw) }, &mut Vec::new());
            stream.extend_from_slice(&raw);
            if !c.session.in_multi() {
                assert_eq!(c.engine.log().end(), stream.len() as u64, "{line}");
            }
        }
        assert_eq!(c.logged(), blocks.concat());
    }

    #[test]
    fn a_command_of_a_block_that_may_not_wait_says_nothing_in_its_own_way() {
        let mut c = Console::new();
        let commands = [
            ("BLMOVE none to LEFT LEFT 0", "$-1"),
            ("BRPOPLPUSH none to 0", "$-1"),
            ("BLPOP none 0", "*-1"),
            ("BRPOP none 0", "*-1"),
            ("BLMPOP 0 1 none LEFT", "*-1"),
            ("BZPOPMIN none 0", "*-1"),
            ("BZPOPMAX none 0", "*-1"),
            ("BZMPOP 0 1 none MIN", "*-1"),
        ];
        for resp3 in [false, true] {
            c.session.resp3 = resp3;
            c.run("MULTI");
            commands.iter().for_each(|(line, _)| drop(c.run(line)));
            let nulls: Vec<&str> = commands.iter().map(|(_, null)| if resp3 { "_" } else { *null }).collect();
            assert_eq!(c.run("EXEC"), format!("*8 {}", nulls.join(" ")));
        }
    }
}
