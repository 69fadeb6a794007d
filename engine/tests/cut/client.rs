//! A client of an engine: runs commands, waits where a cut's queue is full, reads replies.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{Db, Engine, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub(crate) struct Client {
    engine: Engine,
    pub(crate) session: Session,
    /// The time all clients of a test share; it moves when they say so.
    clock: Arc<AtomicI64>,
    stalls: Arc<AtomicU64>,
}

impl Client {
    pub(crate) fn new(engine: &Engine, clock: Arc<AtomicI64>, stalls: Arc<AtomicU64>) -> Client {
        Client { engine: engine.clone(), session: engine.session(), clock, stalls }
    }

    pub(crate) fn alone(engine: &Engine) -> Client {
        Client::new(engine, Arc::new(AtomicI64::new(sluice_engine::internals::now_ms())), Arc::default())
    }

    /// The selected database for typed calls.
    pub(crate) fn db(&self) -> Db<'_> {
        self.engine.db(self.session.db)
    }

    pub(crate) fn select(&mut self, db: u32) {
        self.session.select(db.into()).expect("the database exists");
    }

    pub(crate) fn pass_time(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn knows(&self, command: &[u8]) -> bool {
        self.engine.lookup(command).is_some()
    }

    /// Runs a command and returns its reply as it came.
    pub(crate) fn call(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let row = self.engine.lookup(args[0]).expect("a known command");
        let mut out = Vec::new();
        loop {
            self.session.now_ms = self.clock.load(Ordering::Relaxed);
            let request = Request { args, raw: None };
            match self.engine.call(&mut self.session, row, request, &mut out) {
                Outcome::Stalled => {
                    assert!(out.is_empty(), "a stalled command replies nothing");
                    self.stalls.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                _ => return out,
            }
        }
    }

    /// Runs a command that replies strings and returns them.
    pub(crate) fn strings(&mut self, args: &[&[u8]]) -> Vec<Vec<u8>> {
        parse_strings(&self.call(args))
    }
}

fn parse_strings(reply: &[u8]) -> Vec<Vec<u8>> {
    fn line<'a>(at: &mut &'a [u8]) -> &'a [u8] {
        let end = at.windows(2).position(|w| w == b"\r\n").expect("a whole reply");
        let (text, rest) = at.split_at(end);
        *at = &rest[2..];
        text
    }
    let mut rest = reply;
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let head = line(&mut rest);
        let number = || std::str::from_utf8(&head[1..]).unwrap().parse::<i64>().unwrap();
        match head[0] {
            b'*' => {}
            b'$' if number() < 0 => {}
            b'$' => {
                let (text, after) = rest.split_at(number() as usize);
                strings.push(text.to_vec());
                rest = &after[2..];
            }
            b'+' | b':' => strings.push(head[1..].to_vec()),
            _ => panic!("unexpected reply {:?}", String::from_utf8_lossy(reply)),
        }
    }
    strings
}
