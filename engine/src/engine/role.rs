//! What an engine is: a primary, or a replica, and whether expired keys stay for now.
//!
//! A command looks at the role when it has its locks, and the role changes only while every shard is locked. So when
//! [`Engine::set_replica`] or [`Engine::hold_writes`] returns, whatever began in the old role is complete, its effect in the
//! log, and nothing of the old role follows: no write, no expired key, no record of the server's own
//! ([`Engine::append_own`]). A client's write that was let through before finds the new role and is refused.

use crate::command::flags::Flags;
use crate::engine::Engine;
use crate::role::Role;

/// Why a client's write may not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// A replica that takes no writes.
    ReadOnly,
    /// Nothing may change for now: it is to come again.
    ForNow,
}

impl Role {
    /// Why what a client asks for may not run now, going by its flags.
    #[inline]
    pub(crate) fn forbids(self, flags: Flags) -> Option<Forbidden> {
        if self.contains(Role::REPLICA.union(Role::READ_ONLY)) && flags.contains(Flags::WRITE) {
            Some(Forbidden::ReadOnly)
        } else if self.contains(Role::HOLD_WRITES) && flags.intersects(Flags::LOGGED) {
            Some(Forbidden::ForNow)
        } else {
            None
        }
    }
}

/// # The role
impl Engine {
    /// On a replica, expired keys are hidden but stay until the primary deletes them, and what local clients write is
    /// not logged: the log is the primary's. When this returns, nothing of the other role appends to the log any more.
    pub fn set_replica(&self, replica: bool) {
        self.set_role(Role::REPLICA, replica);
    }

    /// Has clients' writes refused while this is a replica, as `replica-read-only` asks for. Typed calls are the owner's and
    /// are not refused. This is no barrier: a write that is under way may still run.
    pub fn set_read_only_replica(&self, read_only: bool) {
        self.inner.role.set(Role::READ_ONLY, read_only);
    }

    /// Has clients' writes wait ([`Outcome::Stalled`](crate::engine::Outcome::Stalled)), and expired keys hidden and not deleted, as
    /// on a replica, for as long as nothing may change. When this returns, whatever was let through before is complete
    /// and in the log, and nothing follows it but what its owner appends ([`Engine::append_own`]).
    pub fn hold_writes(&self, hold: bool) {
        self.set_role(Role::HOLD_WRITES, hold);
    }

    fn set_role(&self, bits: Role, on: bool) {
        let shards = self.inner.shards.lock_all();
        self.inner.role.set(bits, on);
        if !self.inner.role.get().is_replica() {
            // All expiries are its own now: it removes them as a primary, and says so in its log.
            self.inner.own_expiries.forget();
        }
        drop(shards);
    }

    /// Appends a record of a primary's own that changes no data (PING, REPLCONF GETACK). On a replica it does
    /// nothing and returns false: the log is the primary's.
    pub fn append_own(&self, record: &[u8]) -> bool {
        // Whoever changes the role holds every shard, so one is enough to keep it.
        let _shard = self.inner.shards[0].lock();
        if self.inner.role.get().is_replica() {
            return false;
        }
        self.inner.log.append_raw(record);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::console::Console;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Runs `work` with every shard locked, and `change` beside it; what `change` saw of the log is its end for good.
    fn ends_before(work: impl FnOnce(&mut crate::keyspace::Ctx<'_>), change: impl FnOnce(&Engine) + Send) {
        let engine = Engine::default();
        engine.log().activate();
        let (inside, entered) = mpsc::channel();
        let (changed, seen) = mpsc::channel();
        let end = std::thread::scope(|scope| {
            let engine = &engine;
            let changer = scope.spawn(move || {
                entered.recv().expect("the work begins");
                change(engine);
                let _ = changed.send(());
                engine.log().end()
            });
            engine.exclusive(0, &mut Vec::new(), |cx| {
                inside.send(()).expect("the other thread is there");
                // A change of role that does not wait for us has all the time to come back.
                let _ = seen.recv_timeout(Duration::from_millis(100));
                work(cx);
            });
            changer.join().expect("the change of role succeeds")
        });
        assert_eq!(engine.log().end(), end, "something of the old role was logged afterwards");
        assert!(end > 0);
    }

    #[test]
    fn what_began_in_the_old_role_is_logged_before_the_change_returns() {
        ends_before(|cx| cx.propagate(&[b"SET", b"k", b"v"]), |engine| engine.set_replica(true));
    }

    #[test]
    fn no_key_expires_into_the_log_once_expired_keys_are_kept() {
        ends_before(|cx| cx.propagate(&[b"DEL", b"k"]), |engine| engine.hold_writes(true));
        let engine = Engine::default();
        engine.log().activate();
        engine.db(0).set("k", "v").expect("a string");
        engine.db(0).expire_at("k", engine.now_ms() + 1);
        engine.hold_writes(true);
        let end = engine.log().end();
        while engine.db(0).exists("k") {}
        assert_eq!((engine.expire_cycle(Duration::from_secs(1)), engine.log().end()), (0, end));
        engine.hold_writes(false);
        assert_eq!(engine.expire_cycle(Duration::from_secs(1)), 1);
    }

    #[test]
    fn a_write_that_was_let_through_before_is_refused_by_the_new_role() {
        let mut c = Console::new();
        c.run("MULTI");
        c.run("SET queued 1");
        c.engine.set_read_only_replica(true);
        c.engine.set_replica(true);
        c.logged();
        assert_eq!(
            c.run("EXEC"),
            "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica."
        );
        assert_eq!(c.run("SET k v"), "-READONLY You can't write against a read only replica.");
        assert_eq!(c.run("FLUSHALL"), "-READONLY You can't write against a read only replica.");
        assert_eq!(c.run("EXISTS k queued"), ":0");
        c.session.from_primary = true;
        assert_eq!(c.run("SET k v"), "+OK");
        c.session.from_primary = false;
        c.engine.set_read_only_replica(false);
        assert_eq!(c.run("SET k w"), "+OK", "a writable replica takes it");
        assert!(c.logged().is_empty(), "and logs nothing");
    }

    #[test]
    fn a_replica_has_no_records_of_its_own() {
        let engine = Engine::default();
        engine.log().activate();
        assert!(engine.append_own(b"*1\r\n$4\r\nPING\r\n"));
        let end = engine.log().end();
        engine.set_replica(true);
        assert!(!engine.append_own(b"*1\r\n$4\r\nPING\r\n"));
        assert_eq!(engine.log().end(), end);
    }

    #[test]
    fn while_writes_are_held_nothing_changes_and_reads_go_on() {
        let engine = Engine::default();
        engine.log().activate();
        let mut session = engine.session();
        let call = |session: &mut crate::Session, line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let row = engine.lookup(args[0]).expect("a command");
            let mut raw = Vec::new();
            crate::resp::encode_command(&mut raw, &args);
            let request = crate::engine::Request { args: &args, raw: Some(&raw) };
            engine.call(session, row, request, &mut Vec::new())
        };
        call(&mut session, "SET a 1");
        engine.hold_writes(true);
        let end = engine.log().end();
        for write in ["SET a 2", "DEL a", "FLUSHALL", "PFCOUNT a", "BLPOP l 0"] {
            assert_eq!(call(&mut session, write), crate::engine::Outcome::Stalled, "{write}");
        }
        assert_eq!(call(&mut session, "GET a"), crate::engine::Outcome::Done);
        let mut block = engine.session();
        for line in ["MULTI", "SET b 1"] {
            assert_eq!(call(&mut block, line), crate::engine::Outcome::Done);
        }
        assert_eq!(call(&mut block, "EXEC"), crate::engine::Outcome::Stalled);
        assert_eq!(engine.log().end(), end);
        let mut link = engine.session();
        link.from_primary = true;
        assert_eq!(
            call(&mut link, "SET c 1"),
            crate::engine::Outcome::Done,
            "a primary's stream is not held"
        );
        engine.hold_writes(false);
        assert_eq!(call(&mut block, "EXEC"), crate::engine::Outcome::Done, "nothing of it was lost");
        assert_eq!(call(&mut session, "SET a 2"), crate::engine::Outcome::Done);
    }
}
