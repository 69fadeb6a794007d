//! Keyspace events: for each command the same, by name, database and key, and in the same order as a real redis-server's.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{Class, Engine, Session};
use sluice_tests::{Client, Server};
use std::sync::{Arc, Mutex};

/// Scripts of commands, each begun with no keys. `;` parts the commands; EXEC's commands count as one. A key that has expired is
/// made by setting its time in the past.
const SCRIPTS: &[&str] = &[
    // Strings.
    "SET k v;SET k w;SET k v EX 100;SET k v PX 100 XX;SET k v KEEPTTL;SET k v NX;SET k v GET;SET n v NX GET;SET m v XX",
    "SETNX k v;SETNX k w;SETEX k 100 v;PSETEX j 1000 v;GETSET k v;GETSET i v;GETDEL k;GETDEL k",
    "MSET a 1 b 2 a 3;MSETNX a 1 c 2;MSETNX c 1 d 2",
    "APPEND k v;APPEND k w;SETRANGE k 1 x;SETRANGE j 1 x;SETRANGE j 1 '';SETRANGE i 0 '';STRLEN k;GETRANGE k 0 1",
    "INCR k;DECR k;INCRBY k 5;DECRBY k 5;INCRBYFLOAT k 1.5;INCRBYFLOAT j 1.5;SET s x;INCR s",
    "GETEX k EX 10;SET k v;GETEX k;GETEX k EX 100;GETEX k PERSIST;GETEX k PERSIST;GETEX k PXAT 1;SET k v;GETEX k EXAT 9000000000",
    "SETBIT k 1 1;SETBIT k 1 1;SETBIT k 1 0;SETBIT k 100 0;GETBIT k 1",
    "PFADD k a b;PFADD k a;PFADD k c;PFADD e;PFADD e;PFCOUNT k;PFMERGE m k;PFMERGE m k;PFMERGE n",
    // Keys.
    "MSET a 1 b 2;DEL a c;UNLINK b c;DEL a;SADD s 1 2;UNLINK s",
    "SET k v;EXPIRE k 100;EXPIRE k 100 NX;PEXPIRE k 100000 XX;EXPIREAT k 9000000000;PEXPIREAT k 9000000000000;PERSIST k;PERSIST k;EXPIRE j 100",
    "SET k v;EXPIRE k -1;EXPIRE k -1;SET k v;PEXPIREAT k 1;SET k v;EXPIREAT k 1 NX",
    "MSET a 1 b 2;RENAME a b;RENAMENX b c;SET a 1;RENAMENX a c;RENAME a a;RENAME none a;SET e v EX 100;RENAME e f",
    "SET a 1;COPY a b;COPY a b;COPY a b REPLACE;COPY a a DB 1;COPY none b;COPY a c DB 1 REPLACE",
    "SET a 1;MOVE a 1;MOVE a 1;SET a 2;MOVE a 1;SELECT 1;DEL a;SELECT 0",
    "SET a 1;SWAPDB 0 1;FLUSHDB;SELECT 1;FLUSHALL;SELECT 0;TYPE a;EXISTS a;TTL a;OBJECT ENCODING a;TOUCH a",
    "RPUSH l 3 1 2;SORT l;SORT l STORE d;SORT l LIMIT 0 1 STORE l;SORT none STORE d;SORT none STORE d",
    // Lists.
    "LPUSH l a b;RPUSH l c;LPUSHX l d;RPUSHX l e;LPUSHX n d;LPOP l;RPOP l;LPOP l 2;RPOP l 0;RPOP l 5;LPOP l;LPOP l 1",
    "RPUSH l a b c a;LSET l 0 x;LSET l 9 x;LINSERT l BEFORE b y;LINSERT l AFTER none y;LINSERT n BEFORE b y;LREM l 1 a;LREM l 0 none;LREM l 0 x",
    "RPUSH l a b c;LTRIM l 0 -1;LTRIM l 1 -1;LTRIM l 5 6;LTRIM l 0 1;RPUSH l a;LREM l 0 a",
    "RPUSH l a b;LMOVE l m LEFT RIGHT;LMOVE l l LEFT RIGHT;LMOVE l m RIGHT LEFT;LMOVE l m LEFT LEFT;RPOPLPUSH m m;RPOPLPUSH m l;RPOPLPUSH n l",
    "RPUSH l a b c;LMPOP 2 n l LEFT;LMPOP 1 l RIGHT COUNT 9;LMPOP 1 l LEFT;RPUSH l a b c d;BLPOP n l 1;BRPOP l 1;BLMPOP 1 1 l LEFT;BLMOVE l m LEFT RIGHT 1;BRPOPLPUSH m l 1",
    // Hashes.
    "HSET h a 1 b 2;HSET h a 1;HMSET h c 3;HSETNX h a 1;HSETNX h d 1;HSETNX i d 1;HINCRBY h n 1;HINCRBY j n 1;HINCRBYFLOAT h n 1.5;HINCRBYFLOAT f n 1.5",
    "HSET h a 1 b 2;HDEL h a none;HDEL h none;HDEL h b;HDEL h b;SET k v;HSET k a 1;HDEL k a",
    // Sets.
    "SADD s a b;SADD s a;SADD s a c;SREM s a none;SREM s none;SREM s b c;SREM s b",
    "SADD s a b;SADD t b;SMOVE s t a;SMOVE s t none;SMOVE s t b;SMOVE s t b;SMOVE t t a;SMOVE t u a;SMOVE t u b",
    "SADD s a;SPOP s;SPOP s;SADD s a b;SPOP s 0;SPOP s 1;SPOP s 5;SPOP s 5;SADD s a b c;SPOP s 3",
    "SADD s a b;SADD t b c;SINTERSTORE d s t;SINTERSTORE d s t;SUNIONSTORE d s t;SDIFFSTORE d s t;SDIFFSTORE d s s;SDIFFSTORE d s s;SINTERSTORE d s none;SUNIONSTORE d s;SINTERSTORE d s none;SET k v;SUNIONSTORE k s",
    // Sorted sets.
    "ZADD z 1 a 2 b;ZADD z 1 a;ZADD z 3 a;ZADD z NX 9 a;ZADD z XX 9 none;ZADD n XX 9 a;ZADD z INCR 1 a;ZADD z GT CH 1 a;ZINCRBY z 1 a;ZINCRBY z 0 a;ZINCRBY y 1 a;ZADD z NX INCR 1 a",
    "ZADD z 1 a 2 b 3 c 4 d;ZREM z a none;ZREM z none;ZREMRANGEBYRANK z 0 0;ZREMRANGEBYRANK z 9 9;ZREMRANGEBYSCORE z 3 3;ZREMRANGEBYLEX z - +;ZREMRANGEBYLEX z - +;ZADD z 1 a;ZREM z a",
    "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f;ZPOPMIN z;ZPOPMAX z 2;ZPOPMIN z 0;ZMPOP 2 n z MIN;BZPOPMIN n z 1;BZMPOP 1 1 z MAX COUNT 9;ZPOPMIN z;ZMPOP 1 z MIN;BZPOPMAX z 0.01;ZADD z 1 a;BZPOPMAX z 1",
    "ZADD z 1 a 2 b;ZADD y 1 b;ZUNIONSTORE d 2 z y;ZINTERSTORE d 2 z y;ZDIFFSTORE d 2 z y;ZDIFFSTORE d 1 none;ZDIFFSTORE d 1 none;ZRANGESTORE d z 0 0;ZRANGESTORE d z 5 6;ZRANGESTORE d z 5 6;SET k v;ZUNIONSTORE k 1 z",
    // Keys whose time is up.
    "SET k v PXAT 1;GET k;GET k;SET k v PXAT 1;EXISTS k k;SET k v PXAT 1;SET k w;SET k v PXAT 1;SET k w KEEPTTL;SET k v PXAT 1;SET k w NX;SET k v PXAT 1;SET k w GET PXAT 1;GETSET k v",
    "SET k 1 PXAT 1;INCR k;SET j 1 PXAT 1;APPEND j x;SET i 1 PXAT 1;LPUSH i a;SET h 1 PXAT 1;HSET h a 1;SET s 1 PXAT 1;SADD s a;SET z 1 PXAT 1;ZADD z 1 a;SET b 1 PXAT 1;SETBIT b 1 1;SET p 1 PXAT 1;PFADD p a",
    "SET k v PXAT 1;DEL k;SET k v PXAT 1;RENAME k j;SET k v PXAT 1;SET j v;RENAME j k;SET k v PXAT 1;SET j v;COPY j k;SET i v PXAT 1;COPY i j;SET k v PXAT 1;EXPIRE k 100;SET k v PXAT 1;PERSIST k",
    "SADD t a;SET k v PXAT 1;SUNIONSTORE k t;ZADD z 1 a;SET k v PXAT 1;ZUNIONSTORE k 1 z;RPUSH l 1;SET k v PXAT 1;SORT l STORE k",
    "SET k v PXAT 1;MGET k k j;SET k v PXAT 1;MSET k 1 j 2;SET k v PXAT 1;MSETNX k 1;SET k v PXAT 1;SCAN 0;SET k v PXAT 1;MOVE k 1;SET k v PXAT 1;SPOP k;SET k v PXAT 1;LMOVE k k LEFT LEFT",
    // Transactions.
    "MULTI;SET a 1;LPUSH l x;LPOP l;DEL a;GET none;EXEC;MULTI;SET k v PXAT 1;GET k;SELECT 1;SET k v;SELECT 0;EXEC;MULTI;SET a 1;DISCARD",
];

/// Our events, `event@database key`, in order.
struct Ours {
    engine: Engine,
    session: Session,
    told: Arc<Mutex<Vec<String>>>,
}

impl Ours {
    fn new() -> Ours {
        let engine = Engine::default();
        engine.log().activate();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let to = told.clone();
        engine.listen(Class::ALL | Class::NEW, move |h| {
            let line = format!("{}@{} {}", h.event.name(), h.db, String::from_utf8_lossy(h.key));
            to.lock().expect("nobody panics here").push(line);
        });
        let session = engine.session();
        Ours { engine, session, told }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let words = sluice_tests::words(line);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let row = self.engine.lookup(words[0]).expect("a command");
        let request = Request { args: &words, raw: None };
        let outcome = self.engine.call(&mut self.session, row, request, &mut Vec::new());
        assert!(matches!(outcome, Outcome::Done | Outcome::Refused), "{line}: {outcome:?}");
        std::mem::take(&mut *self.told.lock().expect("nobody panics here"))
    }
}

/// Redis' events, in the same form.
struct Theirs {
    client: Client,
    subscriber: Client,
}

impl Theirs {
    fn new(redis: &Server) -> Theirs {
        let mut subscriber = redis.client();
        subscriber.run(&["PSUBSCRIBE", "__keyevent@*", "end"]);
        subscriber.reply().expect("the second pattern");
        Theirs { client: redis.client(), subscriber }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        self.client.run(&sluice_tests::words(line));
        let mut told = Vec::new();
        // What is published now comes behind the command's events; inside MULTI there are none.
        self.client.run(&["PUBLISH", "end", "of it"]);
        loop {
            let message = self.subscriber.reply().expect("a message");
            let [_, _, channel, key] = message.items() else { panic!("{message:?}") };
            let (channel, key) = (channel.text(), key.text());
            let Some(rest) = channel.strip_prefix("__keyevent@") else { return told };
            let (db, event) = rest.split_once("__:").expect("a database and an event");
            told.push(format!("{event}@{db} {key}"));
        }
    }
}

/// Here Redis differs from itself: where nothing is stored over a key whose time is up it says `del`, everywhere else `expired`.
#[test]
fn a_key_whose_time_is_up_expires_also_where_nothing_is_stored_over_it() {
    for line in ["SINTERSTORE k none", "ZRANGESTORE k none 0 1", "ZUNIONSTORE k 1 none", "SORT none STORE k"]
    {
        let mut ours = Ours::new();
        ours.run("SET k v PXAT 1");
        assert_eq!(ours.run(line), ["expired@0 k"], "{line}");
    }
}

#[test]
fn who_waits_is_served_after_what_woke_him_and_his_events_follow() {
    let redis = Server::redis("--notify-keyspace-events EAn");
    for (wait, push) in [
        ("BLPOP l 0", "RPUSH l a"),
        ("BRPOP l 0", "RPUSH l a b"),
        ("BLMOVE l m LEFT RIGHT 0", "RPUSH l a"),
        ("BRPOPLPUSH l l 0", "RPUSH l a"),
        ("BLMPOP 0 1 l RIGHT COUNT 9", "LPUSH l a b"),
        ("BZPOPMIN z 0", "ZADD z 1 a"),
        ("BZMPOP 0 1 z MAX", "ZADD z 1 a 2 b"),
    ] {
        redis.say("FLUSHALL");
        let (mut ours, mut theirs) = (Ours::new(), Theirs::new(&redis));
        let (mut waiting, words) = (redis.client(), sluice_tests::words(wait));
        waiting.send(&sluice_tests::client::request(&words)).expect("the server reads");
        redis.reports("clients", "blocked_clients", "1");
        let mut session = ours.engine.session();
        session.may_block = true;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let row = ours.engine.lookup(words[0]).expect("a command");
        let request = Request { args: &words, raw: None };
        let outcome = ours.engine.call(&mut session, row, request, &mut Vec::new());
        assert_eq!(outcome, Outcome::Blocked, "{wait}");
        assert_eq!(ours.run(push), theirs.run(push), "{wait}, {push}");
    }
}

#[test]
fn each_command_sends_the_events_it_sends_in_redis_in_their_order() {
    let redis = Server::redis("--notify-keyspace-events EAn --enable-debug-command yes");
    redis.say("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut wrong = Vec::new();
    for script in SCRIPTS {
        redis.say("FLUSHALL");
        let (mut ours, mut theirs) = (Ours::new(), Theirs::new(&redis));
        let mut block = String::new();
        for line in script.split(';') {
            // Redis tells nothing before EXEC, and PUBLISH would be queued.
            if line == "MULTI" || !block.is_empty() {
                block.push_str(line);
                block.push(';');
                if line != "EXEC" && line != "DISCARD" {
                    ours.run(line);
                    theirs.client.run(&sluice_tests::words(line));
                    continue;
                }
                block.clear();
            }
            let (told, expected) = (ours.run(line), theirs.run(line));
            if told != expected {
                wrong.push(format!("{line}\n  ours   {told:?}\n  theirs {expected:?}\n  in {script}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
