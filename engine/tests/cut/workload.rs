//! Random commands of every family, so chosen that keys live long enough to grow huge, change type, move and go.

use crate::DATABASES;
use crate::client::Client;
use crate::random::Random;
use sluice_engine::Db;
use std::time::Duration;

/// Keys of each family's own, and of all together.
const KEYS: usize = 12;
const POOLS: [&str; 7] = ["string", "hll", "list", "hash", "set", "zset", "any"];
/// Fields and members come from this many, so that they meet.
const ELEMENTS: usize = 3_000;
/// Keys of the workload of strings.
const STRINGS: usize = 400;

/// Every key the workloads use.
pub(crate) fn all_keys() -> impl Iterator<Item = String> {
    let pools = POOLS.iter().flat_map(|p| (0..KEYS).map(move |n| format!("{p}:{n}")));
    pools.chain((KEYS..STRINGS).map(|n| format!("string:{n}")))
}

macro_rules! command {
    ($($arg:expr),* $(,)?) => { vec![$($arg.to_string().into_bytes()),*] };
}

type Command = Vec<Vec<u8>>;

/// What a workload is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Overwrites of strings of some hundred bytes.
    Strings,
    /// Everything, but nothing grows huge, and no database is flushed or swapped.
    Small,
    /// As `Small`, and databases are flushed and swapped.
    Databases,
    /// Everything.
    Every,
    /// Mostly changes inside of huge values, and of huge values as a whole.
    Huge,
    /// As `Huge`, and every other command moves, copies, exchanges or removes what is huge.
    Moving,
}

pub(crate) struct Workload {
    random: Random,
    count: u64,
    kind: Kind,
}

impl Workload {
    fn new(random: Random, kind: Kind) -> Workload {
        Workload { random, count: 0, kind }
    }

    pub(crate) fn of_every_type(random: Random) -> Workload {
        Workload::new(random, Kind::Every)
    }

    pub(crate) fn of_strings(random: Random) -> Workload {
        Workload::new(random, Kind::Strings)
    }

    pub(crate) fn of_small_values(random: Random) -> Workload {
        Workload::new(random, Kind::Small)
    }

    pub(crate) fn of_whole_databases(random: Random) -> Workload {
        Workload::new(random, Kind::Databases)
    }

    pub(crate) fn of_huge_values(random: Random) -> Workload {
        Workload::new(random, Kind::Huge)
    }

    pub(crate) fn of_moving_values(random: Random) -> Workload {
        Workload::new(random, Kind::Moving)
    }

    /// Runs one command, or one transaction.
    pub(crate) fn step(&mut self, client: &mut Client) {
        if self.kind == Kind::Strings {
            let key = format!("string:{}", self.random.below(STRINGS));
            let text = self.text(500);
            client.call(&[b"SET", key.as_bytes(), text.as_bytes()]);
            return;
        }
        if self.random.one_in(30) {
            client.pass_time(self.random.below(20) as i64);
        }
        if self.random.one_in(100) {
            client.select(self.random.below(DATABASES as usize) as u32);
        }
        if self.random.one_in(40) {
            client.call(&[b"MULTI"]);
            for _ in 0..=self.random.below(5) {
                self.one(client);
            }
            if self.random.one_in(10) {
                client.call(&[b"SELECT", self.random.below(DATABASES as usize).to_string().as_bytes()]);
                self.one(client);
            }
            client.call(&[if self.random.one_in(10) { b"DISCARD" as &[u8] } else { b"EXEC" }]);
        } else if self.random.one_in(10) {
            self.typed(&client.db());
        } else {
            self.one(client);
        }
    }

    /// A call of the typed API; what it refuses does not matter here.
    fn typed(&mut self, db: &Db<'_>) {
        let (any, other) = (self.any_key(), self.any_key());
        let (member, text) = (self.element(), self.text(50));
        match self.random.below(20) {
            0 => drop(db.set(self.key("string"), text)),
            1 => drop(db.append(self.key("string"), "more")),
            2 => drop(db.incr_by(self.key("string"), 3)),
            3 => drop(db.get_del(self.key("string"))),
            4 | 5 => drop(db.hset_many(self.key("hash"), &[(member, text.clone()), (self.element(), text)])),
            6 => drop(db.hdel(self.key("hash"), &[member])),
            7 => drop(db.hincr_by(self.key("hash"), member, 5)),
            8 => drop(db.lpush(self.key("list"), &[member, text])),
            9 => drop(db.rpop(self.key("list"))),
            10 => drop(db.lset(self.key("list"), -2, text)),
            11 => drop(db.sadd(self.key("set"), &[member])),
            12 => drop(db.spop(self.key("set"))),
            13 => drop(db.zadd(self.key("zset"), &[(2.25, member)])),
            14 => drop(db.zincr_by(self.key("zset"), 1.5, member)),
            15 => drop(db.rename(any, other)),
            16 => drop(db.expire(any, Duration::from_millis(self.random.below(5) as u64))),
            17 => drop(db.persist(any)),
            18 if self.random.one_in(4) => drop(db.del(&[any])),
            _ => drop(self.engine_wide(db)),
        }
    }

    /// Two changes in one transaction of the typed API.
    fn engine_wide(&mut self, db: &Db<'_>) -> sluice_engine::Result<usize> {
        let (hash, member, list) = (self.key("hash"), self.element(), self.key("list"));
        db.transaction(|db| {
            db.hset(&hash, &member, "moved")?;
            db.rpush(&list, &[&member])
        })
    }

    fn is_small(&self) -> bool {
        matches!(self.kind, Kind::Small | Kind::Databases)
    }

    fn is_huge(&self) -> bool {
        matches!(self.kind, Kind::Huge | Kind::Moving)
    }

    fn one(&mut self, client: &mut Client) {
        let command = self.choose();
        if client.knows(&command[0]) {
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            client.call(&args);
        }
    }

    /// A key, mostly of the family's own.
    fn key(&mut self, pool: &str) -> String {
        let pool = if !self.is_huge() && self.random.one_in(8) { "any" } else { pool };
        let keys = if self.is_huge() { 2 } else { KEYS };
        format!("{pool}:{}", self.random.below(keys))
    }

    fn any_key(&mut self) -> String {
        let pool = self.random.pick(&POOLS);
        self.key(pool)
    }

    /// A text that occurs once, padded to up to `most` bytes; sometimes a number.
    fn text(&mut self, most: usize) -> String {
        self.count += 1;
        match self.random.below(6) {
            0 => self.random.below(100_000).to_string(),
            _ => {
                let id = self.random.next();
                let pad = self.random.below(most);
                format!("{id:x}.{}.{:pad$}", self.count, "")
            }
        }
    }

    fn element(&mut self) -> String {
        // Numbers in one half, so that sets are intsets at times.
        let n = self.random.below(if self.is_small() { 60 } else { ELEMENTS });
        if n.is_multiple_of(2) { n.to_string() } else { format!("element-{n}") }
    }

    fn elements(&mut self, most: usize) -> Command {
        (0..=self.random.below(most)).map(|_| self.element().into_bytes()).collect()
    }

    fn score(&mut self) -> String {
        format!("{}.5", self.random.below(1_000))
    }

    fn choose(&mut self) -> Command {
        if self.kind == Kind::Moving && self.random.one_in(2) {
            return self.moving_command();
        }
        if self.is_huge() {
            return match self.random.below(100) {
                0..20 => self.list_command(),
                20..46 => self.hash_command(),
                46..68 => self.set_command(),
                68..91 => self.zset_command(),
                91..94 => self.grow_command(),
                _ => self.key_command(),
            };
        }
        match self.random.below(100) {
            0..12 => self.string_command(),
            12..15 => self.hll_command(),
            15..35 => self.list_command(),
            35..52 => self.hash_command(),
            52..67 => self.set_command(),
            67..83 => self.zset_command(),
            83..99 => self.key_command(),
            _ if self.is_small() => self.string_command(),
            _ => self.grow_command(),
        }
    }

    fn string_command(&mut self) -> Command {
        let key = self.key("string");
        match self.random.below(12) {
            0..3 => command!["SET", key, self.text(300)],
            3 => command!["SET", key, self.text(30), "KEEPTTL"],
            4 => command!["SET", key, self.text(30), "PX", self.random.below(60) + 1],
            5 => command!["INCRBY", key, self.random.below(100)],
            6 => command!["APPEND", key, self.text(20)],
            7 => command!["SETRANGE", key, self.random.below(50), self.text(10)],
            8 => command!["GETDEL", key],
            9 => command!["MSET", key, self.text(20), self.key("string"), self.text(20)],
            10 => command!["GETEX", key, "PX", self.random.below(100) + 1],
            _ => command!["SETNX", key, self.text(3_000)],
        }
    }

    fn hll_command(&mut self) -> Command {
        let key = self.key("hll");
        match self.random.below(8) {
            0..3 => [command!["PFADD", key], self.elements(20)].concat(),
            // A read that keeps its result in the key.
            3..6 => command!["PFCOUNT", key],
            6 => command!["PFMERGE", key, self.key("hll"), self.key("hll")],
            _ => command!["PFDEBUG", "TODENSE", key],
        }
    }

    fn list_command(&mut self) -> Command {
        let key = self.key("list");
        let index = self.random.below(60) as i64 - 30;
        match self.random.below(14) {
            0..3 => self.push_command("RPUSH", key),
            3..5 => self.push_command("LPUSH", key),
            5 => command!["LPOP", key, self.random.below(10)],
            6 => command!["RPOP", key],
            7 => command!["LSET", key, index, self.text(200)],
            8 => command![
                "LINSERT",
                key,
                self.random.pick(&["BEFORE", "AFTER"]),
                self.element(),
                self.text(50)
            ],
            9 => command!["LREM", key, self.random.below(5) as i64 - 2, self.element()],
            10 if self.random.one_in(4) => {
                command!["LTRIM", key, self.random.below(10), -1 - self.random.below(10) as i64]
            }
            11 => {
                let (a, b) = (self.random.pick(&["LEFT", "RIGHT"]), self.random.pick(&["LEFT", "RIGHT"]));
                command!["LMOVE", key, self.key("list"), a, b]
            }
            12 => command!["LMPOP", 2, key, self.key("list"), "LEFT", "COUNT", 3],
            _ => command!["RPUSHX", key, self.element()],
        }
    }

    fn push_command(&mut self, name: &str, key: String) -> Command {
        let mut c = command![name, key];
        c.extend(self.elements(20));
        if self.random.one_in(10) {
            // Larger than a node: it stands alone.
            c.push(self.text(12_000).into_bytes());
        }
        c
    }

    fn hash_command(&mut self) -> Command {
        let key = self.key("hash");
        match self.random.below(8) {
            0..4 => {
                let mut c = command!["HSET", key];
                for _ in 0..=self.random.below(10) {
                    c.push(self.element().into_bytes());
                    c.push(self.text(30).into_bytes());
                }
                c
            }
            4..6 => {
                let mut c = command!["HDEL", key];
                c.extend(self.elements(10));
                c
            }
            6 => command!["HINCRBY", key, self.element(), 1],
            _ => command!["HSETNX", key, self.element(), self.text(100)],
        }
    }

    fn set_command(&mut self) -> Command {
        let key = self.key("set");
        match self.random.below(10) {
            0..4 => {
                let mut c = command!["SADD", key];
                c.extend(self.elements(15));
                c
            }
            4..6 => {
                let mut c = command!["SREM", key];
                c.extend(self.elements(10));
                c
            }
            6 => command!["SPOP", key, self.random.below(8)],
            7 => command!["SMOVE", key, self.key("set"), self.element()],
            8 => command!["SPOP", key],
            _ => {
                let name = self.random.pick(&["SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"]);
                command![name, key, self.key("set"), self.key("set")]
            }
        }
    }

    fn zset_command(&mut self) -> Command {
        let key = self.key("zset");
        match self.random.below(10) {
            0..4 => {
                let mut c = command!["ZADD", key];
                for _ in 0..=self.random.below(10) {
                    c.push(self.score().into_bytes());
                    c.push(self.element().into_bytes());
                }
                c
            }
            4..6 => {
                let mut c = command!["ZREM", key];
                c.extend(self.elements(10));
                c
            }
            6 => command!["ZINCRBY", key, self.score(), self.element()],
            7 => command![self.random.pick(&["ZPOPMIN", "ZPOPMAX"]), key, self.random.below(5)],
            8 => {
                let low = self.random.below(1_000);
                command!["ZREMRANGEBYSCORE", key, low, low + 10]
            }
            _ => command!["ZUNIONSTORE", key, 2, self.key("zset"), self.key("zset")],
        }
    }

    fn key_command(&mut self) -> Command {
        let (key, other) = (self.any_key(), self.any_key());
        match self.random.below(80) {
            0..8 => command!["DEL", key],
            8..12 => command!["UNLINK", key, other],
            12..20 => command!["RENAME", key, other],
            20..24 => command!["RENAMENX", key, other],
            24..32 => command!["COPY", key, other, "REPLACE"],
            32..38 => command!["COPY", key, other, "DB", self.random.below(DATABASES as usize), "REPLACE"],
            38..46 => command!["MOVE", key, self.random.below(DATABASES as usize)],
            46..54 => command!["PEXPIRE", key, self.random.below(80) + 1],
            54..64 => command!["EXPIRE", key, 100_000 + self.random.below(1_000)],
            64..72 => command!["PERSIST", key],
            72..76 if self.kind == Kind::Small => command!["DEL", key],
            72 | 73 => {
                let n = DATABASES as usize;
                command!["SWAPDB", self.random.below(n), self.random.below(n)]
            }
            74 if self.random.one_in(4) => command!["FLUSHDB"],
            75 if self.random.one_in(12) => command!["FLUSHALL"],
            _ => command!["GET", key],
        }
    }

    fn moving_command(&mut self) -> Command {
        let pool = self.random.pick(&["hash", "set", "zset"]);
        let (key, other) = (self.key(pool), self.key(pool));
        let db = self.random.below(DATABASES as usize);
        match self.random.below(40) {
            0..12 => command!["RENAME", key, other],
            12..15 => command!["RENAMENX", key, other],
            15..25 => command!["MOVE", key, db],
            25..30 => command!["COPY", key, other, "DB", db, "REPLACE"],
            30..32 => command!["SWAPDB", db, self.random.below(DATABASES as usize)],
            32 => command!["DEL", key],
            33 => command!["PEXPIRE", key, self.random.below(40) + 1],
            34 => command!["EXPIRE", key, 100_000],
            35 if self.random.one_in(3) => command!["FLUSHDB"],
            36 if self.random.one_in(8) => command!["FLUSHALL"],
            _ => self.grow_command(),
        }
    }

    /// A collection that is huge at once.
    fn grow_command(&mut self) -> Command {
        let n = if self.random.one_in(5) || self.is_huge() { 2_500 } else { 200 };
        let first = self.random.below(ELEMENTS);
        let name = |i: usize| {
            let n = (first + i) % ELEMENTS;
            if n.is_multiple_of(2) { n.to_string() } else { format!("element-{n}") }
        };
        let (command, pool) =
            self.random.pick(&[&("RPUSH", "list"), &("HSET", "hash"), &("SADD", "set"), &("ZADD", "zset")]);
        let mut c = command![command, self.key(pool)];
        for i in 0..n {
            if *pool == "zset" {
                c.push(self.score().into_bytes());
            }
            c.push(name(i).into_bytes());
            if *pool == "hash" {
                c.push(self.text(20).into_bytes());
            }
        }
        c
    }
}
