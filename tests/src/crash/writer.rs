//! Writers: threads that send units in small pipelines until the server is gone, and note when what was acknowledged.

use super::work::{State, Work};
use crate::client::{Client, Reply, request};
use crate::data::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Units in one pipeline, at most.
const PIPELINE: u64 = 8;

/// What a writer sent since a state was known.
#[derive(Clone, Debug)]
pub struct History {
    /// Its units.
    pub work: Work,
    /// The state all this began from.
    pub base: State,
    /// Units in the base.
    pub from: u64,
    /// When each unit after those was sent, in ticks all writers share.
    pub sent: Vec<u64>,
    /// When each was acknowledged; shorter than `sent` by those that were not.
    pub acknowledged: Vec<u64>,
}

impl History {
    /// Nothing written yet.
    pub fn new(work: Work) -> History {
        History { work, base: State::default(), from: 0, sent: Vec::new(), acknowledged: Vec::new() }
    }

    /// Goes on from what was recovered: the state after `n` units.
    pub fn rebase(&mut self, state: State, n: u64) {
        *self = History { base: state, from: n, ..History::new(self.work) };
    }

    /// Forgets what came before unit `n`, whose state is given.
    pub fn forget(&mut self, state: State, n: u64) {
        let count = (n - self.from) as usize;
        self.sent.drain(..count.min(self.sent.len()));
        self.acknowledged.drain(..count.min(self.acknowledged.len()));
        (self.base, self.from) = (state, n);
    }

    /// Units sent in all.
    pub fn end(&self) -> u64 {
        self.from + self.sent.len() as u64
    }

    /// Units acknowledged in all.
    pub fn acknowledged_end(&self) -> u64 {
        self.from + self.acknowledged.len() as u64
    }
}

/// What the threads of one run share.
#[derive(Debug, Default)]
pub struct Shared {
    clock: AtomicU64,
    stop: AtomicBool,
    /// Units acknowledged in all, by writer.
    acknowledged: Vec<AtomicU64>,
}

impl Shared {
    /// The acknowledged units of every writer, at some moment before this returns.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect()
    }

    /// Whether the run is over.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// Writers at work.
pub struct Writers {
    /// What they share with those who watch.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<(History, Option<String>)>>,
}

impl Writers {
    /// Goes on with these histories on the server at `port`, with a rest after each pipeline.
    pub fn start(port: u16, histories: Vec<History>, rest: Duration, random: &mut Random) -> Writers {
        // Ticks go on where those of an earlier start ended.
        let ticks =
            histories.iter().flat_map(|h| h.acknowledged.last().into_iter().chain(h.sent.last())).max();
        let shared = Arc::new(Shared {
            clock: AtomicU64::new(ticks.map_or(0, |t| t + 1)),
            stop: AtomicBool::new(false),
            acknowledged: histories.iter().map(|h| AtomicU64::new(h.acknowledged_end())).collect(),
        });
        let threads = histories.into_iter().map(|mut history| {
            let (shared, mut random) = (shared.clone(), Random(random.below(u64::MAX)));
            std::thread::spawn(move || {
                let error = write(port, &mut history, &shared, rest, &mut random);
                (history, error)
            })
        });
        Writers { threads: threads.collect(), shared }
    }

    /// Ends them after their pipelines, or when they notice that the server is gone. An error reply is a failure.
    pub fn stop(self) -> (Vec<History>, Vec<String>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let (mut histories, mut errors) = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (history, error) = thread.join().expect("a writer does not panic");
            histories.push(history);
            errors.extend(error);
        }
        (histories, errors)
    }
}

/// Writes until told to stop or the connection ends; returns an error the server replied.
fn write(
    port: u16,
    history: &mut History,
    shared: &Shared,
    rest: Duration,
    random: &mut Random,
) -> Option<String> {
    let mut client = Client::connect(port).ok()?;
    // A pipeline cut short by a stop earlier is not there: stops happen between pipelines, ends in a new base.
    debug_assert_eq!(history.sent.len(), history.acknowledged.len());
    while !shared.stopped() {
        let count = 1 + random.below(PIPELINE);
        let first = history.end() + 1;
        let units: Vec<_> = (first..first + count).map(|n| history.work.commands(n)).collect();
        let bytes: Vec<u8> = units.iter().flatten().flat_map(|args| request(args)).collect();
        let tick = shared.tick();
        history.sent.extend(units.iter().map(|_| tick));
        client.send(&bytes).ok()?;
        for unit in units {
            for args in unit {
                let reply = client.reply().ok()?;
                if let Some(error) = refused(&reply) {
                    return Some(format!("{}: {error}", args[0].escape_ascii()));
                }
            }
            history.acknowledged.push(shared.tick());
            shared.acknowledged[history.work.writer].fetch_add(1, Ordering::SeqCst);
        }
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }
    None
}

/// The error in a reply, also within EXEC's.
fn refused(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Error(text) => Some(text),
        Reply::Array(items) => items.iter().find_map(refused),
        _ => None,
    }
}
