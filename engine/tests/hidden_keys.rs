//! What a client of a writable replica sees as absent is absent for what it writes: a key whose time is up stays until the
//! primary deletes it, but no write command finds anything of it, whatever its type.

use sluice_engine::internals::{Flags, Outcome, Request};
use sluice_engine::{Engine, Session};
use std::collections::BTreeSet;

/// A live value of each type, at KEY.
const LIVE: [&str; 5] =
    ["SET KEY 5", "RPUSH KEY 3 1 2", "HSET KEY f 1 g 2", "SADD KEY m", "ZADD KEY 1 m 2 n"];

/// Every write command: its keys are `a`, `b` and `c`, and where they are live they are of the type of this place in `LIVE`.
#[rustfmt::skip]
const LINES: &[(usize, &str)] = &[
    (0, "SET a v"), (0, "SET a v NX"), (0, "SET a v XX"), (0, "SET a v KEEPTTL"), (0, "SET a v GET"),
    (0, "SET a v PXAT 9000000000000"), (0, "SETNX a v"), (0, "SETEX a 100 v"), (0, "PSETEX a 100000 v"), (0, "GETSET a v"),
    (0, "GETDEL a"), (0, "GETEX a PERSIST"), (0, "GETEX a PXAT 9000000000000"), (0, "MSET a 1 b 2"), (0, "MSETNX a 1 b 2"),
    (0, "APPEND a x"), (0, "SETRANGE a 2 x"), (0, "SETRANGE a 2 \"\""), (0, "INCR a"), (0, "DECR a"), (0, "INCRBY a 2"),
    (0, "DECRBY a 2"), (0, "INCRBYFLOAT a 1.5"), (0, "SETBIT a 20 1"), (0, "PFADD a x"), (0, "PFMERGE a b"),
    (0, "PFDEBUG ENCODING a"),
    (0, "DEL a b"), (0, "UNLINK a b"), (1, "UNLINK a b"), (2, "DEL a b"), (0, "EXPIRE a 100"), (1, "EXPIRE a -1"),
    (0, "PEXPIRE a 100000"), (0, "EXPIREAT a 9000000000"), (0, "PEXPIREAT a 9000000000000"), (3, "PERSIST a"),
    (0, "RENAME a b"), (1, "RENAME a b"), (2, "RENAMENX a b"), (4, "COPY a b"), (4, "COPY a b REPLACE"), (0, "MOVE a 1"),
    (1, "SORT a STORE b"), (1, "SORT a BY nosort GET # STORE a"),
    (1, "LPUSH a x"), (1, "RPUSH a x"), (1, "LPUSHX a x"), (1, "RPUSHX a x"), (1, "LPOP a"), (1, "RPOP a 2"), (1, "LSET a 0 x"),
    (1, "LINSERT a BEFORE 1 x"), (1, "LREM a 0 1"), (1, "LTRIM a 1 1"), (1, "LMOVE a b LEFT RIGHT"), (1, "LMOVE a a LEFT RIGHT"),
    (1, "RPOPLPUSH a b"), (1, "LMPOP 2 a b LEFT"), (1, "BLPOP a b 1"), (1, "BRPOP a b 1"), (1, "BLMOVE a b LEFT RIGHT 1"),
    (1, "BRPOPLPUSH a b 1"), (1, "BLMPOP 1 2 a b LEFT"),
    (2, "HSET a f x h y"), (2, "HMSET a f x"), (2, "HSETNX a f x"), (2, "HDEL a f g"), (2, "HINCRBY a f 2"),
    (2, "HINCRBYFLOAT a f 1.5"),
    (3, "SADD a n"), (3, "SREM a m"), (3, "SPOP a"), (3, "SPOP a 5"), (3, "SMOVE a b m"), (3, "SUNIONSTORE a b c"),
    (3, "SINTERSTORE a b c"), (3, "SDIFFSTORE a b c"),
    (4, "ZADD a 5 m"), (4, "ZADD a XX 5 m"), (4, "ZINCRBY a 5 m"), (4, "ZREM a m n"), (4, "ZPOPMIN a"), (4, "ZPOPMAX a 2"),
    (4, "ZMPOP 2 a b MIN"), (4, "BZPOPMIN a b 1"), (4, "BZPOPMAX a b 1"), (4, "BZMPOP 1 2 a b MAX"),
    (4, "ZREMRANGEBYRANK a 0 0"), (4, "ZREMRANGEBYSCORE a 0 9"), (4, "ZREMRANGEBYLEX a - +"), (4, "ZRANGESTORE a b 0 0"),
    (4, "ZUNIONSTORE a 2 b c"), (4, "ZINTERSTORE a 2 b c"), (4, "ZDIFFSTORE a 2 b c"),
    (0, "FLUSHDB"), (0, "FLUSHALL"), (0, "SWAPDB 0 1"),
];

struct Client {
    engine: Engine,
    session: Session,
}

impl Client {
    fn new() -> Client {
        let engine = Engine::builder().shards(4).databases(2).build();
        engine.set_replica(true);
        let mut session = engine.session();
        session.now_ms = 1_700_000_000_000;
        Client { engine, session }
    }

    fn run(&mut self, from_primary: bool, line: &str) -> String {
        self.session.from_primary = from_primary;
        let words: Vec<&[u8]> =
            line.split(' ').map(|w| if w == "\"\"" { b"" } else { w.as_bytes() }).collect();
        let row = self.engine.lookup(words[0]).expect("a command");
        let mut out = Vec::new();
        let request = Request { args: &words, raw: None };
        let outcome = self.engine.call(&mut self.session, row, request, &mut out);
        assert!(matches!(outcome, Outcome::Done | Outcome::Refused), "{line}: {outcome:?}");
        String::from_utf8_lossy(&out).into_owned()
    }

    /// All that a client sees of the keys.
    fn state(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        for db in ["0", "1"] {
            self.run(false, &format!("SELECT {db}"));
            for key in ["a", "b", "c"] {
                for read in ["TYPE", "PEXPIRETIME", "OBJECT ENCODING", "GET", "HGETALL", "SMEMBERS"] {
                    seen.push(self.run(false, &format!("{read} {key}")));
                }
                seen.push(self.run(false, &format!("LRANGE {key} 0 -1")));
                seen.push(self.run(false, &format!("ZRANGE {key} 0 -1 WITHSCORES")));
            }
        }
        seen
    }
}

/// A key that has expired, of the type at this place in `LIVE`, with more elements than are freed in the foreground where `big`.
fn hide(c: &mut Client, kind: usize, key: &str, big: bool) {
    c.run(true, &LIVE[kind].replace("KEY", key));
    for from in (0..if big { 11_000 } else { 0 }).step_by(1000) {
        let name = ["APPEND", "RPUSH", "HSET", "SADD", "ZADD"][kind];
        let words: Vec<String> = (from..from + 1000).map(|n| n.to_string()).collect();
        let words = if kind == 0 { words.concat() } else { words.join(" ") };
        c.run(true, &format!("{name} {key} {words}"));
    }
    c.run(true, &format!("PEXPIREAT {key} 1000"));
}

#[test]
fn every_write_command_is_tried() {
    let tried: BTreeSet<String> =
        LINES.iter().map(|(_, line)| line.split(' ').next().unwrap_or_default().to_lowercase()).collect();
    let engine = Engine::default();
    let writes = engine.commands().filter(|row| row.command.flags.contains(Flags::WRITE));
    let missing: Vec<&str> =
        writes.map(|row| row.command.name).filter(|name| !tried.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_write_finds_nothing_of_a_key_that_is_hidden() {
    for (kind, line) in LINES {
        for live in 0..4 {
            // Which of the keys are live: the others are absent for one client, and hidden for the other.
            let is_live = |at: usize| live >> at & 1 == 1;
            for (hidden, value) in LIVE.iter().enumerate() {
                let (mut absent, mut hiding) = (Client::new(), Client::new());
                for (at, key) in ["a", "b"].into_iter().enumerate() {
                    if is_live(at) {
                        absent.run(false, &LIVE[*kind].replace("KEY", key));
                        hiding.run(false, &LIVE[*kind].replace("KEY", key));
                    } else {
                        hide(&mut hiding, hidden, key, false);
                    }
                }
                let (expected, found) = (absent.run(false, line), hiding.run(false, line));
                assert_eq!(found, expected, "{line}, hidden: {value}, live: {live:02b}");
                assert_eq!(
                    hiding.state(),
                    absent.state(),
                    "{line}, hidden: {}, live: {live:02b}",
                    LIVE[hidden]
                );
            }
        }
    }
}

#[test]
fn a_large_key_that_is_hidden_is_not_counted_as_removed() {
    for (kind, value) in LIVE.iter().enumerate().skip(1) {
        for line in ["UNLINK a", "DEL a", "SPOP a 100000", "RENAME a b", "GETDEL a", "LPOP a 100000"] {
            let (mut absent, mut hiding) = (Client::new(), Client::new());
            hide(&mut hiding, kind, "a", true);
            assert_eq!(hiding.run(false, line), absent.run(false, line), "{line}, {value}");
            assert_eq!(hiding.state(), absent.state(), "{line}, {value}");
        }
    }
}

#[test]
fn a_key_that_is_hidden_stays_for_the_primary_where_clients_only_look() {
    let mut c = Client::new();
    hide(&mut c, 1, "a", false);
    for read in [
        "GET a",
        "EXISTS a",
        "LRANGE a 0 -1",
        "SCAN 0",
        "KEYS *",
        "RANDOMKEY",
        "TTL a",
        "SORT_RO a",
        "PFCOUNT a",
    ] {
        c.run(false, read);
        assert_eq!(c.run(true, "LLEN a"), ":3\r\n", "{read}");
    }
}
