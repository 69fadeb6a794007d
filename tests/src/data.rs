//! Data: every type in every encoding, streams of writes, and the whole content of a server for comparison.

use crate::client::{Client, Reply, words};
use std::collections::BTreeMap;

/// A command's arguments.
pub type Args = Vec<Vec<u8>>;

/// A small generator of numbers (splitmix64): the same seed gives the same data.
pub struct Random(pub u64);

impl Random {
    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The five types in every encoding of Redis 7.0, sizes on both sides of every threshold, expiries far away, three
/// databases. Ends in database 0.
pub fn every_encoding() -> Vec<Args> {
    let mut all: Vec<Args> = Vec::new();
    let mut random = Random(7);
    let mut say = |line: &str| all.push(words(line));
    for (name, value) in [
        ("tiny", "x"),
        ("int8", "-128"),
        ("int16", "32767"),
        ("int32", "-2147483648"),
        ("int64", "9223372036854775807"),
        ("beyond", "9223372036854775808"),
        ("notint", "007"),
        ("negative-zero", "-0"),
    ] {
        say(&format!("SET str:{name} {value}"));
    }
    say("SET 12345 key-is-a-number");
    say("SET '' the-empty-key");
    say("SET str:empty ''");
    say("SET str:seconds v EXAT 4102444800");
    say("SET str:milliseconds v PXAT 4102444800123");
    say("RPUSH list:small a 1 -5 70000 5000000000 -9223372036854775808 b a ''");
    say("HSET hash:small f v 1 2 g 12345678901234567890 '' ''");
    say("SADD set:int8 1 2 3 -5");
    say("SADD set:int32 1 70000 -70000");
    say("SADD set:int64 1 5000000000 -9223372036854775808");
    say("SADD set:small a b 3");
    say("ZADD zset:small 1 one 2.5 two -inf low +inf high 3 3 -0.1 minus");
    for (name, count) in [("512", 512), ("513", 513), ("3000", 3000)] {
        for from in (0..count).step_by(100) {
            let to = (from + 100).min(count);
            let list = |make: &dyn Fn(i32) -> String| (from..to).map(make).collect::<Vec<_>>().join(" ");
            say(&format!("RPUSH list:{name} {}", list(&|n| format!("element-{n} {n}"))));
            say(&format!("HSET hash:{name} {}", list(&|n| format!("field-{n} {n}"))));
            say(&format!("SADD set:ints-{name} {}", list(&|n| n.to_string())));
            say(&format!("SADD set:{name} {}", list(&|n| format!("member-{n}"))));
            say(&format!("ZADD zset:{name} {}", list(&|n| format!("{} member-{n}", f64::from(n) / 7.0))));
        }
    }
    for (name, count) in [("128", 128), ("129", 129)] {
        let scored = (0..count).map(|n| format!("{n} member-{n}")).collect::<Vec<_>>().join(" ");
        say(&format!("ZADD zset:{name} {scored}"));
    }
    say("PEXPIREAT hash:3000 4102444800999");
    say("PEXPIREAT list:512 4102444801999");
    say("PEXPIREAT zset:small 4102444802999");
    let bytes = |parts: &[&[u8]]| parts.iter().map(|p| p.to_vec()).collect::<Args>();
    let (text, noise) = ("long text ".repeat(100).into_bytes(), random.noise(20_000));
    for (name, len) in [("63", 63), ("64", 64), ("65", 65)] {
        let value = vec![b'v'; len];
        all.push(bytes(&[b"HSET", format!("hash:value-{name}").as_bytes(), b"f", &value]));
        all.push(bytes(&[b"ZADD", format!("zset:value-{name}").as_bytes(), b"1", &value]));
    }
    all.push(bytes(&[b"SET", b"str:long", &text]));
    all.push(bytes(&[b"SET", b"str:noise", &noise]));
    all.push(bytes(&[b"SET", b"str:binary\r\n\0key", b"\0\r\n\xff"]));
    all.push(bytes(&[b"RPUSH", b"list:plain", b"before", &noise, &text, b"after"]));
    all.push(bytes(&[b"HSET", b"hash:long", b"f", &text, b"g", &noise]));
    all.push(bytes(&[b"SADD", b"set:long", &text, &noise]));
    all.push(bytes(&[b"ZADD", b"zset:long", b"0.1", &text, b"1e300", &noise]));
    for line in ["SELECT 5", "SET other-db 1", "ZADD z 1 a", "SELECT 15", "RPUSH last a b", "SELECT 0"] {
        all.push(words(line));
    }
    all
}

/// Streams: with consumer groups, entries to acknowledge and deleted ones, of many nodes and of none. Only a
/// redis-server has commands for them.
pub fn streams() -> Vec<Args> {
    let mut all: Vec<Args> = Vec::new();
    let mut say = |line: &str| all.push(words(line));
    say("CONFIG SET stream-node-max-entries 10");
    say("XADD stream:one 5-1 f v");
    say("XGROUP CREATE stream:nothing g $ MKSTREAM");
    say("XADD stream:emptied 1-1 f v");
    say("XDEL stream:emptied 1-1");
    for n in 1..300 {
        say(&format!("XADD stream:many {n}-0 name {n} text x{}", "words-".repeat(n % 40)));
        if n % 7 == 0 {
            say(&format!("XADD stream:many {n}-{n} other {n} name y more z"));
        }
        say(&format!("XADD stream:trimmed MAXLEN 20 {n}-1 n {n}"));
        say(&format!("XADD stream:long {n}-0 text {}", "long-text-".repeat(100)));
    }
    say("XDEL stream:many 3-0 4-0 100-0 101-0");
    say("XGROUP CREATE stream:many workers 0");
    say("XGROUP CREATE stream:many 42 50-0 ENTRIESREAD 30");
    say("XREADGROUP GROUP workers alice COUNT 20 STREAMS stream:many >");
    say("XREADGROUP GROUP workers bob COUNT 100 STREAMS stream:many >");
    say("XREADGROUP GROUP 42 7 COUNT 5 STREAMS stream:many >");
    say("XGROUP CREATECONSUMER stream:many workers idle");
    say("XACK stream:many workers 1-0 2-0 30-0");
    say("XCLAIM stream:many workers alice 0 40-0 41-0");
    say("XDEL stream:many 41-0");
    say("XSETID stream:trimmed 18446744073709551615-1 ENTRIESADDED 1000 MAXDELETEDID 5-5");
    say("PEXPIREAT stream:one 4102444800999");
    say("SELECT 5");
    say("XADD stream:elsewhere 1-0 f v");
    say("SELECT 0");
    all
}

/// `count` writes of all kinds over a few hundred keys, some with expiries that will not pass during a test.
pub fn writes(seed: u64, count: usize) -> Vec<Args> {
    let mut random = Random(seed);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let key = random.below(40);
        let (n, m) = (random.below(1000), random.below(1000));
        let line = match random.below(26) {
            0 => format!("SET s:{key} value-{n}"),
            1 => format!("SET s:{key} {n} PX 9000000"),
            2 => format!("APPEND s:{key} {n}"),
            3 => format!("INCRBY n:{key} {n}"),
            4 => format!("INCRBYFLOAT f:{key} 0.{n}"),
            5 => format!("SETRANGE s:{key} {} patch", n % 50),
            6 => format!("RPUSH l:{key} {n} item-{m}"),
            7 => format!("LPUSH l:{key} {n} item-{m}"),
            8 => format!("LPOP l:{key}"),
            9 => format!("LREM l:{key} 1 {n}"),
            10 => format!("LTRIM l:{key} 0 200"),
            11 => format!("HSET h:{key} f{n} {m} f{m} text-{n}"),
            12 => format!("HDEL h:{key} f{n}"),
            13 => format!("HINCRBY h:{key} counter {n}"),
            14 => format!("SADD t:{key} {n} m{m}"),
            15 => format!("SREM t:{key} {n}"),
            16 => format!("SPOP t:{key}"),
            17 => format!("ZADD z:{key} {n}.5 m{m} {m} m{n}"),
            18 => format!("ZINCRBY z:{key} 1.25 m{n}"),
            19 => format!("ZPOPMIN z:{key}"),
            20 => format!("DEL s:{key} l:{}", n % 40),
            21 => format!("PEXPIRE h:{key} 9000000"),
            22 => format!("PERSIST h:{key}"),
            23 => format!("LMOVE l:{key} l:{} LEFT RIGHT", n % 40),
            24 => format!("SUNIONSTORE t:union t:{key} t:{}", n % 40),
            _ => format!("ZUNIONSTORE z:union 2 z:{key} z:{}", n % 40),
        };
        all.push(words(&line));
    }
    all
}

/// Sends [`writes`] that all succeed.
#[track_caller]
pub fn write_some(client: &mut Client, seed: u64, count: usize) {
    client.pipeline(&writes(seed, count));
}

/// `count` keys with `size` bytes that do not compress.
#[track_caller]
pub fn bulk(client: &mut Client, count: usize, size: usize) {
    let mut random = Random(count as u64);
    let keys: Vec<Args> = (0..count)
        .map(|n| vec![b"SET".to_vec(), format!("bulk:{n}").into_bytes(), random.noise(size)])
        .collect();
    client.pipeline(&keys);
}

/// A key's type, expiry in Unix milliseconds (-1: none) and value, sorted where order means nothing.
pub type Content = (String, i64, Vec<Vec<u8>>);

/// All keys of all databases, asked for key by key. Ends in database 0.
#[track_caller]
pub fn contents(client: &mut Client) -> BTreeMap<(u32, Vec<u8>), Content> {
    let mut all = BTreeMap::new();
    for db in 0..16 {
        client.say(&format!("SELECT {db}"));
        let keys = client.say("KEYS *");
        for key in keys.items().iter().map(Reply::bytes) {
            let kind = client.run(&[b"TYPE", key]).text();
            let expiry = client.run(&[b"PEXPIRETIME", key]).int();
            let value = match kind.as_str() {
                "string" => vec![client.run(&[b"GET", key]).bytes().to_vec()],
                "list" => strings(&client.run(&[b"LRANGE", key, b"0", b"-1"])),
                "set" => sorted(strings(&client.run(&[b"SMEMBERS", key]))),
                "hash" => pairs(strings(&client.run(&[b"HGETALL", key]))),
                "zset" => strings(&client.run(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])),
                // Without the version and the checksum behind it.
                "stream" => {
                    vec![client.run(&[b"DUMP", key]).bytes().split_last_chunk::<10>().unwrap().0.to_vec()]
                }
                other => panic!("{}: {other}", key.escape_ascii()),
            };
            all.insert((db, key.to_vec()), (kind, expiry, value));
        }
    }
    client.say("SELECT 0");
    all
}

fn strings(reply: &Reply) -> Vec<Vec<u8>> {
    reply.items().iter().map(|item| item.bytes().to_vec()).collect()
}

fn sorted(mut items: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    items.sort();
    items
}

fn pairs(items: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut pairs: Vec<_> = items.chunks(2).map(<[_]>::to_vec).collect();
    pairs.sort();
    pairs.concat()
}

/// Compares the content of two servers key by key, and says which keys differ.
#[track_caller]
pub fn same_contents(ours: &mut Client, theirs: &mut Client) {
    let (ours, theirs) = (contents(ours), contents(theirs));
    for (key, theirs) in &theirs {
        let name = format!("db {} key {}", key.0, key.1.escape_ascii());
        let ours = ours.get(key).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((&ours.0, ours.1), (&theirs.0, theirs.1), "type and expiry of {name}");
        assert!(ours.2 == theirs.2, "value of {name}: {} items and {}", ours.2.len(), theirs.2.len());
    }
    assert_eq!(ours.len(), theirs.len(), "keys too many");
}
