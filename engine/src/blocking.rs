//! Waiting for keys: what BLPOP and its kind do when there is nothing to take yet.
//!
//! A handler that finds nothing calls `Ctx::block`. The command then waits on its keys, in their shards, in the
//! order it came; nothing can slip by, for its shards are still locked. A write to a key that somebody waits for runs
//! exclusively (every shard locked). When it is done, and its effect logged, those who wait are served, the longest
//! wait first, each as if it ran now: its effect is logged as that of the command that does not wait (LPOP for
//! BLPOP). What serving one makes available to another (BLMOVE) is served in the same go.
//!
//! The engine knows no time: the embedder waits for the reply ([`Blocked::reply`]) as long as the command allows and
//! takes it back with [`Engine::unblock`].

use crate::blocked::{Blocked, leave};
use crate::command::Run;
use crate::engine::Engine;
use crate::execute::Appended;
use crate::hash::hash;
use crate::keyspace::waiting::{Ready, Waiter, Wish};
use crate::keyspace::{Ctx, Effects, Held};
use crate::resp::Reply;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// # Commands that wait
impl Engine {
    /// Commands that wait for keys.
    pub fn blocked(&self) -> usize {
        self.inner.blocked.load(Ordering::Relaxed)
    }

    /// Puts the command of row `id` in the queues of its keys, whose shards are locked.
    pub(crate) fn enqueue(
        &self,
        held: &mut Held<'_>,
        wish: Wish,
        db: u32,
        (id, args): (usize, &[&[u8]]),
        resp3: bool,
    ) -> Blocked {
        let timeout = wish.timeout;
        let waiter = Waiter::new(wish, db, id, resp3, args);
        for key in &waiter.keys {
            let index = self.inner.shard_of(hash(key));
            held.shard(index).blocked.entry(key.clone()).or_default().join(&waiter);
        }
        self.inner.blocked.fetch_add(1, Ordering::Release);
        Blocked::new(&self.inner, waiter, timeout)
    }

    /// Ends a wait. Returns the reply if the command was served before this call: then that is its outcome.
    pub fn unblock(&self, blocked: &Blocked) -> Option<Vec<u8>> {
        blocked.end()
    }

    /// Serves those who wait for `ready` keys; every shard is locked, and is let go of at the end.
    pub(crate) fn serve_ready(&self, held: Held<'_>, mut ready: Ready) {
        // Taken apart and put together again, its lifetime may be that of the locals here.
        let Held::All(shards) = held else {
            debug_assert!(false, "a write to a key that is waited for runs exclusively");
            return;
        };
        let mut fx = Effects::default();
        let mut reply = Vec::new();
        let out = Reply::new(&mut reply, false);
        let mut cx = self.context(&mut fx, Held::All(shards), 0, false, self.now_ms(), out);
        let mut served: Vec<(Arc<Waiter>, Vec<u8>)> = Vec::new();
        while !ready.is_empty() {
            for (db, key) in std::mem::take(&mut ready).order {
                cx.keys.db = db;
                let index = self.inner.shard_of(hash(&key));
                let mut from = 0;
                // Every shard is locked: nobody comes or goes but those who are served here.
                while let Some(waiter) =
                    cx.keys.held.shard(index).blocked.get(&key).and_then(|q| q.next(db, from))
                {
                    let waiter = waiter.clone();
                    from = waiter.ticket + 1;
                    // A key that has expired since is removed, and nobody is served.
                    if !cx.keys.live(&key) {
                        break;
                    }
                    match cx.keys.type_of(&key) {
                        None => break,
                        Some(kind) if kind != waiter.kind => continue,
                        Some(_) => {}
                    }
                    self.serve_one(&mut cx, &waiter, &key);
                    leave(&self.inner, &mut cx.keys.held, &waiter);
                    served.push((waiter, std::mem::take(cx.out.raw())));
                }
                let more = std::mem::take(&mut cx.keys.fx.ready);
                more.order.iter().for_each(|(db, key)| ready.add(*db, key));
            }
        }
        let (held, _) = self.conclude(cx, Appended::Effects);
        for (waiter, reply) in served {
            waiter.deliver(reply);
        }
        drop(held);
    }

    fn serve_one(&self, cx: &mut Ctx<'_>, waiter: &Waiter, key: &[u8]) {
        let args: SmallVec<[&[u8]; 8]> = waiter.args.iter().map(Vec::as_slice).collect();
        cx.out.raw().clear();
        cx.out.set_resp3(waiter.resp3);
        cx.keys.fx.next_command();
        let Run::Waits { serve, .. } = self.rows.command(waiter.id).run else {
            unreachable!("only commands that say how they are served wait")
        };
        let result = serve(cx, &args, key);
        if let Err(e) = result {
            cx.out.raw().clear();
            cx.out.error(&e.message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::engine::{Outcome, Request};

    fn call(engine: &Engine, session: &mut Session, words: &[&str]) -> (Outcome, String) {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let row = engine.lookup(args[0]).expect("a command");
        let mut out = Vec::new();
        let outcome = engine.call(session, row, Request { args: &args, raw: None }, &mut out);
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    fn wait(engine: &Engine, db: u32, words: &[&str]) -> Blocked {
        let mut session = engine.session();
        (session.db, session.may_block) = (db, true);
        assert_eq!(call(engine, &mut session, words).0, Outcome::Blocked);
        session.blocked.take().expect("it waits")
    }

    /// `(keys somebody waits for, places in their queues)`.
    fn queues(engine: &Engine) -> (usize, usize) {
        let shards: Vec<_> = engine.inner.shards.iter().map(|s| s.lock()).collect();
        let queues = || shards.iter().flat_map(|s| s.blocked.values());
        (queues().count(), queues().map(|q| q.len()).sum())
    }

    #[test]
    fn a_command_has_one_place_in_the_queue_of_each_of_its_keys_however_often_it_names_them() {
        let engine = Engine::default();
        let names: Vec<String> = (0..20_000).map(|n| format!("key:{}", n % 10_000)).collect();
        let mut words = vec!["BLPOP"];
        words.extend(names.iter().map(String::as_str));
        words.push("0");
        let blocked = wait(&engine, 0, &words);
        assert_eq!(queues(&engine), (10_000, 10_000));
        assert!(engine.unblock(&blocked).is_none());
        assert_eq!((queues(&engine), engine.blocked()), ((0, 0), 0));
    }

    #[test]
    fn who_came_first_is_served_first_and_who_waits_for_another_type_or_database_goes_on_waiting() {
        let engine = Engine::default();
        let waits: Vec<(Blocked, u32, &str)> =
            [(0, "BLPOP"), (1, "BLPOP"), (0, "BZPOPMIN"), (0, "BRPOP"), (0, "BLPOP")]
                .into_iter()
                .map(|(db, command)| (wait(&engine, db, &[command, "a", "k", "b", "0"]), db, command))
                .collect();
        let mut session = engine.session();
        // In one transaction each key counts once, and what is pushed is shared out in the order of the waits.
        for words in
            [&["MULTI"] as &[_], &["RPUSH", "k", "1"], &["RPUSH", "k", "2"], &["DEL", "none"], &["EXEC"]]
        {
            call(&engine, &mut session, words);
        }
        let served: Vec<Option<String>> = waits
            .iter()
            .map(|(blocked, ..)| {
                engine.unblock(blocked).map(|reply| String::from_utf8_lossy(&reply).into_owned())
            })
            .collect();
        let reply = |n: u8| Some(format!("*2\r\n$1\r\nk\r\n$1\r\n{n}\r\n"));
        assert_eq!(served, [reply(1), None, None, reply(2), None]);
        assert_eq!((queues(&engine), engine.blocked()), ((0, 0), 0));
    }
}
