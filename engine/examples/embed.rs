//! Embedding Sluice: typed calls, commands, a transaction, expiry, a cut while another thread writes, the log.
//!
//! `cargo run --example embed`

use sluice_engine::internals::{
    Outcome, Request,
    resp::{Parsed, parse},
};
use sluice_engine::{
    CutSink, Element, Engine, EntryMeta, Expiry, HugeKind, Only, ReplyValue, SetOptions, Step, Ttl, ValueView,
};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::default();
    // Nobody follows yet; from here on, every effect is recorded.
    engine.log().activate();

    typed_calls(&engine)?;
    commands(&engine)?;
    transaction(&engine)?;
    expiry(&engine)?;
    cut_and_log(&engine)
}

fn typed_calls(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let db = engine.db(0);
    db.set("greeting", "hello")?;
    db.append("greeting", ", world")?;
    db.hset_many("user:1", &[("name", "Ada"), ("born", "1815")])?;
    db.rpush("jobs", &["wash", "cook"])?;
    db.zadd("scores", &[(7.5, "ada"), (3.0, "charles")])?;
    println!("greeting: {}", String::from_utf8_lossy(&db.get("greeting")?.unwrap_or_default()));
    println!("lowest score: {:?}", db.zrange("scores", 0, 0)?);
    // A refusal is a value, not a string to compare.
    println!("a list is no hash: {}", db.hget("jobs", "x").unwrap_err());
    Ok(())
}

fn commands(engine: &Engine) -> Result<(), Box<dyn Error>> {
    // Every Redis command the engine knows, by name; a session keeps SELECT, MULTI and WATCH.
    let mut session = engine.session();
    engine.execute_in(&mut session, &["SELECT", "1"])?;
    engine.execute_in(&mut session, &["SET", "elsewhere", "1"])?;
    let reply = engine.execute_in(&mut session, &["GETRANGE", "elsewhere", "0", "-1"])?;
    assert_eq!(reply, ReplyValue::Bytes(b"1".to_vec()));
    println!("database 1 has {} key", engine.db(1).len());
    Ok(())
}

fn transaction(engine: &Engine) -> Result<(), Box<dyn Error>> {
    engine.db(0).set("alice", "100")?;
    let left = engine.transaction(0, |db| {
        db.incr_by("bob", 30)?;
        db.incr_by("alice", -30)
    })?;
    println!("alice has {left} left: one step for everyone, one block in the log");
    Ok(())
}

fn expiry(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let db = engine.db(0);
    let lease = SetOptions { expiry: Expiry::In(Duration::from_millis(20)), only: Only::IfAbsent };
    assert!(db.set_with("lease", "me", lease)?);
    assert!(!db.set_with("lease", "you", lease)?, "taken");
    while db.exists("lease") {
        std::thread::yield_now();
    }
    assert_eq!(db.ttl("lease"), Ttl::NoKey);
    // Keys nobody asks for are removed by a call like this one, made now and then.
    engine.expire_cycle(Duration::from_millis(1));
    println!("the lease is over");
    Ok(())
}

/// A consumer of cuts that writes the commands which make the keys again, for strings and huge hashes.
#[derive(Default)]
struct Rebuild {
    commands: Vec<Vec<Vec<u8>>>,
    keys: usize,
    bytes: usize,
}

impl CutSink for Rebuild {
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        self.keys += 1;
        self.bytes += meta.key.len() + 64;
        let value = match value {
            ValueView::Str(text) => text.to_vec(),
            ValueView::Int(n) => n.to_string().into_bytes(),
            // Small collections come whole: iterate, or copy their packed encoding as it stands.
            _ => return,
        };
        self.commands.push(vec![b"SET".to_vec(), meta.key.to_vec(), value]);
    }

    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, elements: u64) {
        self.keys += 1;
        println!("a huge {kind:?} of {elements} comes in parts: {}", String::from_utf8_lossy(meta.key));
        self.commands.push(vec![b"HSET".to_vec(), meta.key.to_vec()]);
    }

    fn element(&mut self, element: Element<'_>) {
        if let (Element::Field(field, value), Some(last)) = (element, self.commands.last_mut()) {
            last.extend([field.to_vec(), value.to_vec()]);
            self.bytes += field.len() + value.len();
        }
    }

    fn end_huge(&mut self) {}

    fn pending(&self) -> usize {
        self.bytes
    }
}

fn cut_and_log(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let db = engine.db(2);
    for n in 0..10_000 {
        db.set(format!("key:{n}"), n.to_string())?;
        db.hset("big", format!("field:{n}"), "old")?;
    }

    // The cut holds what is true now, whatever the writer below does meanwhile.
    let mut cut = engine.begin_cut()?;
    let mut log = engine.log().reader(cut.offset())?;
    let writer = std::thread::spawn({
        let engine = engine.clone();
        move || -> sluice_engine::Result<()> {
            let db = engine.db(2);
            for n in 0..10_000 {
                db.set(format!("key:{n}"), "changed")?;
                db.hset("big", format!("field:{n}"), "new")?;
            }
            db.del(&["key:0"]);
            Ok(())
        }
    });
    let mut image = Rebuild::default();
    while cut.step(&mut image, 16 << 10) == Step::More {
        // Here a consumer would write what it has to a file or a socket. The pace is its own: writers wait only
        // where what they overwrite would exceed `Engine::set_preimage_limit`.
        image.bytes = 0;
    }
    println!(
        "cut at offset {}: {} keys, {} bytes handed over by the writer",
        cut.offset(),
        image.keys,
        cut.preimage_bytes()
    );
    writer.join().expect("the writer does not panic")?;

    // A follower: the cut, then the log from its offset, give the live state.
    let follower = Engine::default();
    let mut session = follower.session();
    follower.execute_in(&mut session, &["SELECT", "2"])?;
    for command in image.commands {
        follower.execute_in(&mut session, &command)?;
    }
    assert_eq!(follower.db(2).hget("big", "field:1")?.as_deref(), Some(&b"old"[..]));
    let applied = follow(&follower, &mut log)?;
    println!("{applied} commands of the log applied");
    assert_eq!(follower.db(2).hget("big", "field:1")?, db.hget("big", "field:1")?);
    assert_eq!(follower.db(2).get("key:1")?.as_deref(), Some(&b"changed"[..]));
    assert!(!follower.db(2).exists("key:0"));
    Ok(())
}

/// Applies the log up to its end, as a replica does.
fn follow(follower: &Engine, log: &mut sluice_engine::LogReader) -> Result<usize, Box<dyn Error>> {
    let mut session = follower.session();
    // What comes from a primary sees expired keys: it is the primary that deletes them.
    session.from_primary = true;
    let (mut bytes, mut applied) = (Vec::new(), 0);
    loop {
        // A read may end inside of a command; the rest comes with the next one.
        let more = log.read(64 << 10)?;
        if more.is_empty() {
            return Ok(applied);
        }
        bytes.extend_from_slice(&more);
        let mut at = 0;
        while let Parsed::Command { args, used, .. } = parse(&bytes[at..], 512 << 20, true) {
            let row = follower.lookup(args[0]).ok_or("an unknown command in the log")?;
            let request = Request { args: &args, raw: Some(&bytes[at..at + used]) };
            let outcome = follower.call(&mut session, row, request, &mut Vec::new());
            assert_eq!(outcome, Outcome::Done);
            at += used;
            applied += 1;
        }
        bytes.drain(..at);
    }
}
