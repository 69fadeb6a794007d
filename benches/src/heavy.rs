//! The heavy work of one client: what is stored before, and what is then asked for.
//!
//! Each is a row of [`WORKS`]: adding one is adding a row.

use crate::error::{Error, Result};
use crate::resp::{self, Client, Reply};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Members one command adds while a value is made.
const MEMBERS_A_COMMAND: u64 = 500;
/// Commands sent before their replies are read.
const BATCH: u64 = 64;
/// Between two looks at whether keys have gone.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Keys that are due at once are due so long after the first of them was set, times the scale.
const DUE_AFTER: Duration = Duration::from_secs(6);
/// Seconds until everything that is due has gone, at most.
const GONE_LIMIT: Duration = Duration::from_secs(120);

/// A work.
pub(crate) struct Work {
    /// What `--work` calls it.
    pub(crate) name: &'static str,
    /// In words, for the table.
    pub(crate) about: &'static str,
    /// Stores what it needs.
    prepare: fn(&mut Client, &Scale) -> Result<()>,
    /// Does it, and says when it began: when the request was ready to be sent, or at an event of its own.
    run: fn(&mut Client, &Scale) -> Result<Instant>,
}

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    by: f64,
    /// When the keys of the work `due` are due, in milliseconds of the system's clock.
    due_ms: u64,
}

impl Scale {
    /// Times what the rows say.
    pub(crate) fn new(by: f64) -> Scale {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Scale { by, due_ms: (now + DUE_AFTER.mul_f64(by.max(0.2))).as_millis() as u64 }
    }

    fn of(&self, n: u64) -> u64 {
        ((n as f64 * self.by) as u64).max(1)
    }

    fn due(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.due_ms)
    }
}

/// All there are, in the table's order.
pub(crate) static WORKS: &[Work] = &[
    Work {
        name: "big-set",
        about: "SET of 511 MB",
        prepare: nothing,
        run: |client, scale| plain(client, &[b"SET", b"big", &vec![b'x'; scale.of(511 << 20) as usize]]),
    },
    Work {
        name: "big-get",
        about: "GET of 511 MB",
        prepare: |client, scale| {
            plain(client, &[b"SET", b"big", &vec![b'x'; scale.of(511 << 20) as usize]]).map(drop)
        },
        run: |client, _| plain(client, &[b"GET", b"big"]),
    },
    Work {
        name: "big-append",
        about: "APPEND of 255 MB to as much",
        prepare: |client, scale| {
            plain(client, &[b"SET", b"big", &vec![b'x'; scale.of(255 << 20) as usize]]).map(drop)
        },
        run: |client, scale| plain(client, &[b"APPEND", b"big", &vec![b'y'; scale.of(255 << 20) as usize]]),
    },
    Work {
        name: "lrem",
        about: "100,000 LREM in a pipeline",
        prepare: |client, _| members(client, b"RPUSH", b"list", 1_000, 1),
        run: |client, scale| pipeline(client, &[b"LREM", b"list", b"0", b"none"], scale.of(100_000), 1),
    },
    Work {
        name: "pipelines",
        about: "1,000,000 SET, 1,000 at a time",
        prepare: nothing,
        run: |client, scale| {
            pipeline(client, &[b"SET", b"key", b"a value of so many bytes"], 1_000, scale.of(1_000))
        },
    },
    Work {
        name: "del",
        about: "DEL of 1,000,000 members",
        prepare: set,
        run: |c, _| plain(c, &[b"DEL", b"set"]),
    },
    Work {
        name: "overwrite",
        about: "SET over 1,000,000 members",
        prepare: set,
        run: |c, _| plain(c, &[b"SET", b"set", b"x"]),
    },
    Work {
        name: "rename",
        about: "RENAME over 1,000,000 members",
        prepare: |client, scale| {
            set(client, scale)?;
            plain(client, &[b"SET", b"small", b"x"]).map(drop)
        },
        run: |c, _| plain(c, &[b"RENAME", b"small", b"set"]),
    },
    Work {
        name: "expire",
        about: "expiry of 1,000,000 members",
        prepare: set,
        run: |client, _| {
            let began = plain(client, &[b"PEXPIRE", b"set", b"20"])?;
            gone(client, 1)?;
            Ok(began)
        },
    },
    Work {
        name: "flushdb",
        about: "FLUSHDB of 1,000,000 members",
        prepare: set,
        run: |c, _| plain(c, &[b"FLUSHDB"]),
    },
    Work {
        name: "flushall-async",
        about: "FLUSHALL ASYNC of 3,000,000 fields",
        prepare: |client, scale| members(client, b"HSET", b"hash", scale.of(3_000_000), 2),
        run: |c, _| plain(c, &[b"FLUSHALL", b"ASYNC"]),
    },
    Work {
        name: "zunionstore",
        about: "ZUNIONSTORE of 2 x 500,000",
        prepare: |client, scale| {
            members(client, b"ZADD", b"z1", scale.of(500_000), 3)?;
            members(client, b"ZADD", b"z2", scale.of(500_000), 3)
        },
        run: |c, _| plain(c, &[b"ZUNIONSTORE", b"to", b"2", b"z1", b"z2"]),
    },
    Work {
        name: "sort-store",
        about: "SORT STORE of 1,000,000",
        prepare: |client, scale| members(client, b"RPUSH", b"list", scale.of(1_000_000), 1),
        run: |c, _| plain(c, &[b"SORT", b"list", b"STORE", b"to"]),
    },
    Work {
        name: "due",
        about: "1,000,000 keys due at once",
        prepare: |client, scale| {
            let due = scale.due_ms.to_string();
            each(client, scale.of(1_000_000), |out, n| {
                resp::push(out, &[b"SET", format!("due:{n}").as_bytes(), b"x", b"PXAT", due.as_bytes()]);
            })
        },
        run: |client, scale| {
            let Ok(left) = scale.due().duration_since(SystemTime::now()) else {
                return Err(Error::Usage(
                    "keys were due before all of them were set; try a smaller --scale".into(),
                ));
            };
            std::thread::sleep(left);
            let began = Instant::now();
            gone(client, 1)?;
            Ok(began)
        },
    },
    Work {
        name: "exists-expired",
        about: "EXISTS of 80,000 expired keys",
        prepare: |client, scale| {
            plain(client, &[b"DEBUG", b"SET-ACTIVE-EXPIRE", b"0"])?;
            each(client, scale.of(80_000), |out, n| {
                resp::push(out, &[b"SET", format!("gone:{n}").as_bytes(), b"x", b"PX", b"1"]);
            })
        },
        run: |client, scale| names(client, b"EXISTS", b"gone", scale.of(80_000), &[]),
    },
    Work {
        name: "blpop",
        about: "BLPOP of 80,000 missing keys",
        prepare: nothing,
        run: |client, scale| names(client, b"BLPOP", b"none", scale.of(80_000), &[b"0.01"]),
    },
];

impl Work {
    /// By its name.
    pub(crate) fn named(name: &str) -> Option<&'static Work> {
        WORKS.iter().find(|work| work.name == name)
    }

    pub(crate) fn prepare(&self, client: &mut Client, scale: &Scale) -> Result<()> {
        (self.prepare)(client, scale)
    }

    /// Does it; from when to when.
    pub(crate) fn run(&self, client: &mut Client, scale: &Scale) -> Result<(Instant, Instant)> {
        let began = (self.run)(client, scale)?;
        Ok((began, Instant::now()))
    }
}

fn nothing(_: &mut Client, _: &Scale) -> Result<()> {
    Ok(())
}

fn plain(client: &mut Client, args: &[&[u8]]) -> Result<Instant> {
    let mut out = Vec::new();
    resp::push(&mut out, args);
    sent(client, &out, 1)
}

/// Sends commands that are ready, all of them before the first reply is read.
fn sent(client: &mut Client, commands: &[u8], count: u64) -> Result<Instant> {
    let began = Instant::now();
    client.send(commands)?;
    client.expect(count as usize)?;
    Ok(began)
}

fn set(client: &mut Client, scale: &Scale) -> Result<()> {
    members(client, b"SADD", b"set", scale.of(1_000_000), 1)
}

/// Adds `count` members to a key; each takes so many arguments: itself, a field and a value, or (3) a score and itself.
fn members(client: &mut Client, command: &[u8], key: &[u8], count: u64, shape: u8) -> Result<()> {
    each(client, count.div_ceil(MEMBERS_A_COMMAND), |out, nth| {
        let numbers = nth * MEMBERS_A_COMMAND..count.min((nth + 1) * MEMBERS_A_COMMAND);
        let arguments = if shape == 1 { 1 } else { 2 };
        resp::push_header(out, 2 + arguments * (numbers.end - numbers.start) as usize);
        resp::push_arg(out, command);
        resp::push_arg(out, key);
        for n in numbers {
            // Not in the order of their numbers: no structure gets its easiest case.
            let n = n.wrapping_mul(7_919_999_983) % 10_000_000_019;
            if shape == 3 {
                resp::push_arg(out, n.to_string().as_bytes());
            }
            resp::push_arg(out, n.to_string().as_bytes());
            if shape == 2 {
                resp::push_arg(out, b"value");
            }
        }
    })
}

/// Sends `count` commands, some at a time.
fn each(client: &mut Client, count: u64, command: impl Fn(&mut Vec<u8>, u64)) -> Result<()> {
    let mut out = Vec::new();
    for from in (0..count).step_by(BATCH as usize) {
        out.clear();
        let to = count.min(from + BATCH);
        (from..to).for_each(|n| command(&mut out, n));
        client.send(&out)?;
        client.expect((to - from) as usize)?;
    }
    Ok(())
}

/// The same command so many times at once, and that so many times over.
fn pipeline(client: &mut Client, args: &[&[u8]], count: u64, times: u64) -> Result<Instant> {
    let mut out = Vec::new();
    (0..count).for_each(|_| resp::push(&mut out, args));
    let began = sent(client, &out, count)?;
    (1..times).try_for_each(|_| sent(client, &out, count).map(drop))?;
    Ok(began)
}

/// One command of so many names.
fn names(client: &mut Client, command: &[u8], name: &[u8], count: u64, more: &[&[u8]]) -> Result<Instant> {
    let mut out = Vec::new();
    resp::push_header(&mut out, 1 + count as usize + more.len());
    resp::push_arg(&mut out, command);
    let name = String::from_utf8_lossy(name);
    (0..count).for_each(|n| resp::push_arg(&mut out, format!("{name}:{n}").as_bytes()));
    more.iter().for_each(|arg| resp::push_arg(&mut out, arg));
    sent(client, &out, 1)
}

/// Waits until at most so many keys are there.
fn gone(client: &mut Client, left: i64) -> Result<()> {
    let begun = Instant::now();
    loop {
        match client.command(&[b"DBSIZE"])? {
            Reply::Int(keys) if keys <= left => return Ok(()),
            reply if begun.elapsed() > GONE_LIMIT => {
                return Err(Error::Reply {
                    command: "DBSIZE".into(),
                    reply: format!("{reply:?} after two minutes"),
                });
            }
            _ => std::thread::sleep(ASK_EVERY),
        }
    }
}
