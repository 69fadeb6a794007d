//! The slow log: commands that took longer than `slowlog-log-slower-than`.

use crate::client::registry::Client;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Arguments kept of a slow command, and bytes of each, as in Redis.
const MAX_ARGS: usize = 32;
const MAX_ARG: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) time: u64,
    pub(crate) micros: u64,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) addr: String,
    pub(crate) name: String,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Slowlog {
    /// Microseconds; negative: off.
    pub(crate) threshold: AtomicI64,
    pub(crate) max_len: AtomicUsize,
    pub(crate) entries: Mutex<VecDeque<Entry>>,
    next: AtomicU64,
}

impl Default for Slowlog {
    fn default() -> Self {
        Slowlog {
            threshold: AtomicI64::new(10_000),
            max_len: AtomicUsize::new(128),
            entries: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }
}

impl Slowlog {
    /// Notes a command that took `took`.
    #[inline]
    pub(crate) fn note(&self, took: Duration, args: &[&[u8]], client: &Client) {
        let threshold = self.threshold.load(Ordering::Relaxed);
        if threshold >= 0 && took.as_micros() as i64 >= threshold {
            self.push(took, args, client);
        }
    }

    #[cold]
    fn push(&self, took: Duration, args: &[&[u8]], client: &Client) {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for (i, a) in args.iter().enumerate() {
            if i == MAX_ARGS - 1 && args.len() > MAX_ARGS {
                kept.push(format!("... ({} more arguments)", args.len() - MAX_ARGS + 1).into_bytes());
                break;
            }
            if a.len() > MAX_ARG {
                let mut short = a[..MAX_ARG].to_vec();
                short.extend_from_slice(format!("... ({} more bytes)", a.len() - MAX_ARG).as_bytes());
                kept.push(short);
            } else {
                kept.push(a.to_vec());
            }
        }
        let entry = Entry {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            time: crate::state::unix_seconds(),
            micros: took.as_micros() as u64,
            args: kept,
            addr: client.addr.to_string(),
            name: client.name.lock().clone(),
        };
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(self.max_len.load(Ordering::Relaxed));
    }
}
