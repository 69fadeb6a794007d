//! The slow log: commands that took longer than `slowlog-log-slower-than`. Passwords, and what tells of users, are not in it.

use crate::os::unix_seconds;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

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

/// Whose command it was.
pub(crate) struct Who {
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
    /// Notes a command of `who` that took so many nanoseconds.
    #[inline]
    pub(crate) fn note(&self, took: u64, args: &[&[u8]], who: impl FnOnce() -> Who) {
        let threshold = self.threshold.load(Ordering::Relaxed);
        if threshold >= 0 && took >= (threshold as u64).saturating_mul(1000) {
            self.push(took / 1000, args, who);
        }
    }

    #[cold]
    fn push(&self, micros: u64, args: &[&[u8]], who: impl FnOnce() -> Who) {
        let who = who();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for (i, a) in args.iter().enumerate() {
            if i == MAX_ARGS - 1 && args.len() > MAX_ARGS {
                kept.push(format!("... ({} more arguments)", args.len() - MAX_ARGS + 1).into_bytes());
                break;
            }
            if is_secret(args, i) {
                kept.push(b"(redacted)".to_vec());
            } else if a.len() > MAX_ARG {
                let mut short = a[..MAX_ARG].to_vec();
                short.extend_from_slice(format!("... ({} more bytes)", a.len() - MAX_ARG).as_bytes());
                kept.push(short);
            } else {
                kept.push(a.to_vec());
            }
        }
        let entry = Entry {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            time: unix_seconds(),
            micros,
            args: kept,
            addr: who.addr,
            name: who.name,
        };
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(self.max_len.load(Ordering::Relaxed));
    }
}

/// Whether argument `at` of a command is one that Redis does not log either.
fn is_secret(args: &[&[u8]], at: usize) -> bool {
    let is = |i: usize, word: &str| args.get(i).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()));
    // The words of an option that stands one or two places before.
    let after = |word: &str, count: usize| (1..=count).any(|back| at > back && is(at - back, word));
    match args[0].to_ascii_lowercase().as_slice() {
        b"auth" => at > 0,
        b"hello" => at > 2 && after("auth", 2),
        b"migrate" => at > 5 && (after("auth", 1) || after("auth2", 2)),
        b"acl" => at > 1 && ["setuser", "getuser", "deluser"].iter().any(|sub| is(1, sub)),
        b"config" => at > 2 && at % 2 == 1 && is(1, "set") && crate::config::is_secret(args[at - 1]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for (line, shown) in [
            ("AUTH s", "AUTH (redacted)"),
            ("auth u s", "auth (redacted) (redacted)"),
            ("HELLO 3 AUTH u s SETNAME n", "HELLO 3 AUTH (redacted) (redacted) SETNAME n"),
            ("HELLO 3 SETNAME n AUTH u s", "HELLO 3 SETNAME n AUTH (redacted) (redacted)"),
            (
                "CONFIG SET requirepass s hz 10 MASTERAUTH s",
                "CONFIG SET requirepass (redacted) hz 10 MASTERAUTH (redacted)",
            ),
            (
                "config set masteruser u tls-key-file-pass s",
                "config set masteruser (redacted) tls-key-file-pass (redacted)",
            ),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
            ("ACL SETUSER u on >s", "ACL SETUSER (redacted) (redacted) (redacted)"),
            ("ACL CAT read", "ACL CAT read"),
            ("MIGRATE h 1 k 0 9 COPY AUTH s KEYS a b", "MIGRATE h 1 k 0 9 COPY AUTH (redacted) KEYS a b"),
            ("MIGRATE h 1 k 0 9 AUTH2 u s", "MIGRATE h 1 k 0 9 AUTH2 (redacted) (redacted)"),
            ("SET auth s", "SET auth s"),
        ] {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let got: Vec<_> = line
                .split(' ')
                .enumerate()
                .map(|(i, w)| if is_secret(&args, i) { "(redacted)" } else { w })
                .collect();
            assert_eq!(got.join(" "), shown);
        }
    }
}
