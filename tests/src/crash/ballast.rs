//! Ballast: keys that make snapshots and loads take a while, and never change.

use super::mode::{Mode, Promise};
use super::report::Tally;
use crate::client::{Client, Reply};
use crate::data::{Args, Random};

/// Keys of ballast.
const KEYS: usize = 4000;
const BYTES: usize = 500;

/// How much of it must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ballast {
    /// It was not written yet.
    Missing,
    /// It was written, but nothing promised it.
    Written,
    /// It was made durable, or seen after a start.
    Durable,
}

fn key(n: usize) -> Vec<u8> {
    format!("ballast:{n}").into_bytes()
}

fn value(n: usize) -> Vec<u8> {
    Random(n as u64).noise(BYTES)
}

/// Writes all of it.
pub(crate) fn write(client: &mut Client) {
    let sets: Vec<Args> = (0..KEYS).map(|n| vec![b"SET".to_vec(), key(n), value(n)]).collect();
    client.pipeline(&sets);
}

/// How much is there from the first key on, and how much in all.
pub(crate) fn count(client: &mut Client) -> (usize, usize) {
    let gets: Vec<Args> = (0..KEYS).map(|n| vec![b"GET".to_vec(), key(n)]).collect();
    let replies = client.pipeline(&gets);
    let there: Vec<bool> =
        replies.iter().enumerate().map(|(n, reply)| *reply == Reply::Bulk(value(n))).collect();
    let first = there.iter().take_while(|there| **there).count();
    (first, there.iter().filter(|there| **there).count())
}

/// Whether all of it, or none, is there.
pub(crate) fn whole(client: &mut Client) -> Result<bool, String> {
    match count(client) {
        (_, KEYS) => Ok(true),
        (_, 0) => Ok(false),
        (_, found) => Err(format!("{found} of {KEYS} keys that never change are there")),
    }
}

impl Ballast {
    /// Checks it after a start, and writes it if it may be missing.
    pub(crate) fn settle(&mut self, client: &mut Client, mode: &Mode, tally: &mut Tally) -> bool {
        let (first, found) = count(client);
        let durable = *self == Ballast::Durable;
        if first != found || (durable && found != KEYS) {
            tally.lost += (KEYS - found) as u64;
            tally
                .failures
                .push(format!("{found} of {KEYS} keys that never change are there, {first} without a gap"));
            return false;
        }
        if found == KEYS {
            *self = Ballast::Durable;
            return true;
        }
        write(client);
        *self = match mode.promise {
            Promise::Saved => {
                client.say("SAVE");
                Ballast::Durable
            }
            Promise::Synced => {
                client.say("WAITAOF 1 0 20000");
                Ballast::Durable
            }
            Promise::Acknowledged => Ballast::Durable,
            Promise::Moment => Ballast::Written,
        };
        true
    }
}
