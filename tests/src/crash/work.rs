//! What writers write: units as a pure function of seed, writer and number, and the state they make.
//!
//! A state is small enough to be read back and compared whole, yet holds each type, small and large encodings, large
//! values, a key with an expiry, and keys that only MULTI blocks touch.

use crate::client::{Client, Reply};
use crate::data::{Args, Random};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

/// Fields and members: enough to make the large encodings and values that a cut delivers in slices.
const NAMES: u64 = 1500;
/// Items a list is trimmed to.
const ITEMS: usize = 400;
/// Expiries lie in the year 2100, a millisecond apart.
const FAR: i64 = 4_102_444_800_000;
/// One unit in so many removes the hash at once.
const CLEAR_EVERY: u64 = 5000;

/// What one writer's keys hold. Compared field by field, the ones that change most and cost least first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// `SET`, and `MSET` with the mirror.
    last: u64,
    /// `MSET` only: half of an MSET would show here.
    mirror: u64,
    /// `INCRBY`.
    counter: u64,
    /// In MULTI only.
    block_last: u64,
    /// In MULTI only: how many there were.
    block_counter: u64,
    /// `SET ... PXAT`: value and expiry.
    expiring: (u64, i64),
    /// Long strings.
    blob: Vec<u8>,
    /// `APPEND`.
    text: Vec<u8>,
    block_list: VecDeque<u64>,
    list: VecDeque<u64>,
    queue: VecDeque<u64>,
    block_hash: BTreeMap<u64, u64>,
    hash: BTreeMap<u64, u64>,
    set: BTreeSet<u64>,
    zset: BTreeMap<u64, u64>,
}

/// What is sent as one: a command, or a MULTI block with its EXEC.
pub type Unit = Vec<Args>;

/// One writer's endless list of units.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The run's seed.
    pub seed: u64,
    /// Which writer.
    pub writer: usize,
}

fn trim(list: &mut VecDeque<u64>) {
    while list.len() > ITEMS {
        list.pop_front();
    }
}

fn blob(n: u64, size: u64) -> Vec<u8> {
    format!("{n}-").repeat(size as usize).into_bytes()
}

impl Work {
    /// Runs unit `n` on `state`, and returns what to send if `send`.
    fn unit(&self, n: u64, state: &mut State, send: bool) -> Unit {
        let mut random =
            Random(self.seed ^ (self.writer as u64) << 56 ^ n.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let (kind, name) = (random.below(20), random.below(NAMES));
        let mut unit = Unit::new();
        let mut say = |line: String| {
            if send {
                let key = |word: &str| match word.strip_prefix('@') {
                    Some(key) => format!("w{}:{key}", self.writer).into_bytes(),
                    None => word.as_bytes().to_vec(),
                };
                unit.push(line.split(' ').map(key).collect());
            }
        };
        match kind {
            _ if n.is_multiple_of(CLEAR_EVERY) => {
                state.hash.clear();
                state.last = n;
                say("MULTI".into());
                say("DEL @hash".into());
                say(format!("SET @last {n}"));
                say("EXEC".into());
            }
            0 | 1 => {
                state.last = n;
                say(format!("SET @last {n}"));
            }
            2 => {
                (state.last, state.mirror) = (n, n);
                say(format!("MSET @last {n} @mirror {n}"));
            }
            3 | 4 => {
                state.counter += n;
                say(format!("INCRBY @counter {n}"));
            }
            5 if name % 40 == 0 => {
                state.text = format!("{n}.").into_bytes();
                say(format!("SET @text {n}."));
            }
            5 => {
                state.text.extend(format!("{n},").bytes());
                say(format!("APPEND @text {n},"));
            }
            6 => {
                state.blob = blob(n, name);
                say(format!("SET @blob {}", String::from_utf8_lossy(&blob(n, name * u64::from(send)))));
            }
            7 => {
                state.expiring = (n, FAR + n as i64);
                say(format!("SET @expiring {n} PXAT {}", FAR + n as i64));
            }
            8 | 9 => {
                state.list.push_back(n);
                say(format!("RPUSH @list {n}"));
            }
            10 => {
                if let Some(item) = state.list.pop_front() {
                    state.queue.push_back(item);
                }
                say("LMOVE @list @queue LEFT RIGHT".into());
            }
            11 if n.is_multiple_of(2) => {
                trim(&mut state.list);
                say(format!("LTRIM @list -{ITEMS} -1"));
            }
            11 => {
                trim(&mut state.queue);
                say(format!("LTRIM @queue -{ITEMS} -1"));
            }
            12 | 13 => {
                state.hash.insert(name, n);
                say(format!("HSET @hash f{name} {n}"));
            }
            14 => {
                state.hash.remove(&name);
                say(format!("HDEL @hash f{name}"));
            }
            15 if n.is_multiple_of(3) => {
                state.set.remove(&name);
                say(format!("SREM @set {name}"));
            }
            15 => {
                state.set.insert(name);
                say(format!("SADD @set {name}"));
            }
            16 if n.is_multiple_of(3) => {
                state.zset.remove(&name);
                say(format!("ZREM @zset m{name}"));
            }
            16 => {
                state.zset.insert(name, n);
                say(format!("ZADD @zset {n} m{name}"));
            }
            _ => {
                state.block_last = n;
                state.block_counter += 1;
                state.block_list.push_back(n);
                trim(&mut state.block_list);
                state.block_hash.insert(name % 100, n);
                say("MULTI".into());
                say(format!("SET @block-last {n}"));
                say("INCR @block-counter".into());
                say(format!("RPUSH @block-list {n}"));
                say(format!("LTRIM @block-list -{ITEMS} -1"));
                say(format!("HSET @block-hash f{} {n}", name % 100));
                say("EXEC".into());
            }
        }
        unit
    }

    /// Moves `state` on by unit `n`.
    pub fn apply(&self, n: u64, state: &mut State) {
        self.unit(n, state, false);
    }

    /// What to send for unit `n`.
    pub fn commands(&self, n: u64) -> Unit {
        self.unit(n, &mut State::default(), true)
    }

    /// Reads what a server holds for this writer.
    ///
    /// # Errors
    ///
    /// Where a key holds what no unit puts there, or the connection fails.
    pub fn read(&self, client: &mut Client) -> io::Result<State> {
        let mut ask = |line: &str| {
            let (command, rest) = line.split_once(' ').expect("a command and a key");
            let (key, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let key = format!("w{}:{key}", self.writer);
            let mut args = vec![command, &key];
            args.extend(rest.split_whitespace());
            match client.try_run(&args)? {
                Reply::Error(text) => Err(io::Error::other(format!("{line}: {text}"))),
                reply => Ok(reply),
            }
        };
        let mut state = State {
            last: number(&ask("GET last")?)?,
            mirror: number(&ask("GET mirror")?)?,
            counter: number(&ask("GET counter")?)?,
            block_last: number(&ask("GET block-last")?)?,
            block_counter: number(&ask("GET block-counter")?)?,
            expiring: (number(&ask("GET expiring")?)?, ask("PEXPIRETIME expiring")?.int().max(0)),
            blob: bytes(ask("GET blob")?),
            text: bytes(ask("GET text")?),
            block_list: numbers(&ask("LRANGE block-list 0 -1")?)?.into(),
            list: numbers(&ask("LRANGE list 0 -1")?)?.into(),
            queue: numbers(&ask("LRANGE queue 0 -1")?)?.into(),
            block_hash: BTreeMap::new(),
            hash: BTreeMap::new(),
            set: numbers(&ask("SMEMBERS set")?)?.into_iter().collect(),
            zset: BTreeMap::new(),
        };
        for (map, line) in [
            (&mut state.block_hash, "HGETALL block-hash"),
            (&mut state.hash, "HGETALL hash"),
            (&mut state.zset, "ZRANGE zset 0 -1 WITHSCORES"),
        ] {
            let pairs = numbers(&ask(line)?)?;
            map.extend(pairs.chunks(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(state)
    }
}

impl State {
    /// How many of the cheap fields are equal: to name the nearest state in a message.
    pub fn likeness(&self, other: &State) -> u32 {
        let equal = [
            self.last == other.last,
            self.mirror == other.mirror,
            self.counter == other.counter,
            self.block_last == other.block_last,
            self.block_counter == other.block_counter,
            self.expiring == other.expiring,
            self.text == other.text,
            self.blob == other.blob,
            self.list == other.list,
            self.queue == other.queue,
            self.block_list == other.block_list,
            self.block_hash == other.block_hash,
            self.hash == other.hash,
            self.set == other.set,
            self.zset == other.zset,
        ];
        equal.into_iter().map(u32::from).sum()
    }

    /// Where two states differ, for a message.
    pub fn difference(&self, other: &State) -> String {
        let (expected, found) = (format!("{self:#?}"), format!("{other:#?}"));
        let first = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
        let counters = |s: &State| {
            format!(
                "last {} mirror {} counter {} block {} x{} list {} queue {} block-list {} hash {} block-hash {} \
                 set {} zset {} text {} blob {}",
                s.last,
                s.mirror,
                s.counter,
                s.block_last,
                s.block_counter,
                s.list.len(),
                s.queue.len(),
                s.block_list.len(),
                s.hash.len(),
                s.block_hash.len(),
                s.set.len(),
                s.zset.len(),
                s.text.len(),
                s.blob.len()
            )
        };
        format!("first difference {first:?}; expected [{}], found [{}]", counters(self), counters(other))
    }
}

fn bytes(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes,
        _ => Vec::new(),
    }
}

/// A number, after a letter or not; nothing is 0.
fn number(reply: &Reply) -> io::Result<u64> {
    let Reply::Bulk(bytes) = reply else { return Ok(0) };
    let text = String::from_utf8_lossy(bytes);
    let digits = text.trim_start_matches(['f', 'm']);
    digits.parse().map_err(|_| io::Error::other(format!("not a number: {text}")))
}

fn numbers(reply: &Reply) -> io::Result<Vec<u64>> {
    reply.items().iter().map(number).collect()
}
