//! The data a primary holds: generated, the same for every server, or a given RDB file.

use crate::error::Result;
use crate::random::{Blob, Random};
use crate::resp::{self, Client};
use crate::traffic::{self, Traffic};
use clap::ValueEnum;
use std::path::PathBuf;
use std::sync::Arc;

/// Hashes in the dataset `bighash`.
pub(crate) const BIG_HASHES: u64 = 3;
/// Fields set by one HSET while loading it.
const FIELDS_A_COMMAND: u64 = 64;
/// Bytes sent before their replies are read; two such batches are under way at a time.
const BATCH_BYTES: usize = 256 << 10;
/// Elements of an ordinary collection in `mixed`, and of every hundredth one, which is past the
/// sizes at which compact encodings end.
const ELEMENTS: (u64, u64) = (20, 400);

/// What `--dataset` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Random strings (300,000 of 512 bytes).
    Strings,
    /// Many tiny strings (1,000,000 of 16 bytes).
    Tiny,
    /// All five types, half of them strings (200,000 keys).
    Mixed,
    /// Three huge hashes (2,000,000 fields of 32 bytes each); the probe is a paced HSET into them.
    Bighash,
    /// A given RDB file.
    #[value(skip)]
    File,
}

impl Kind {
    /// Keys (fields of each hash, for `bighash`) and bytes a value, unless told otherwise.
    fn defaults(self) -> (u64, usize) {
        match self {
            Kind::Strings => (300_000, 512),
            Kind::Tiny => (1_000_000, 16),
            Kind::Mixed => (200_000, 128),
            Kind::Bighash => (2_000_000, 32),
            Kind::File => (0, 64),
        }
    }
}

/// How much of what.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Keys, or fields of each hash.
    pub(crate) keys: u64,
    /// Bytes of a value.
    pub(crate) size: usize,
}

/// A dataset.
pub(crate) struct Dataset {
    shape: Shape,
    blob: Arc<Blob>,
    /// The RDB file, where that is the data.
    pub(crate) rdb: Option<PathBuf>,
}

impl Dataset {
    /// A dataset of a kind, with the kind's own defaults for what is not given.
    pub(crate) fn new(kind: Kind, keys: Option<u64>, size: Option<usize>, rdb: Option<PathBuf>) -> Dataset {
        let kind = if rdb.is_some() { Kind::File } else { kind };
        let (default_keys, default_size) = kind.defaults();
        let size = size.unwrap_or(default_size);
        let shape = Shape { kind, keys: keys.unwrap_or(default_keys).max(1), size };
        Dataset { shape, blob: Arc::new(Blob::new(size)), rdb }
    }

    /// In words, for the report.
    pub(crate) fn describe(&self) -> String {
        let Shape { kind, keys, size } = self.shape;
        let keys = group_digits(keys);
        match kind {
            Kind::Strings => format!("{keys} strings of {size} random bytes"),
            Kind::Tiny => format!("{keys} tiny strings of {size} random bytes"),
            Kind::Mixed => format!("{keys} keys of all five types, values of {size} random bytes"),
            Kind::Bighash => format!("{BIG_HASHES} hashes of {keys} fields of {size} random bytes"),
            Kind::File => {
                format!("{}", self.rdb.as_deref().unwrap_or(std::path::Path::new("an RDB file")).display())
            }
        }
    }

    /// Whether the writer is off unless asked for: the probe of `bighash` writes already.
    pub(crate) fn probe_writes(&self) -> bool {
        self.shape.kind == Kind::Bighash
    }

    /// Puts the data into a fresh server; a file has been loaded at its start.
    pub(crate) fn load(&self, client: &mut Client) -> Result<()> {
        let mut load = Load { client, batch: Vec::with_capacity(2 * BATCH_BYTES), commands: 0, unread: 0 };
        let mut random = Random::new(4);
        match self.shape.kind {
            Kind::Strings | Kind::Tiny => self.load_strings(&mut load, &mut random)?,
            Kind::Mixed => self.load_mixed(&mut load, &mut random)?,
            Kind::Bighash => self.load_hashes(&mut load, &mut random)?,
            Kind::File => {}
        }
        load.finish()
    }

    /// What clients do over it; to be asked when it is loaded.
    pub(crate) fn traffic(&self, client: &mut Client) -> Result<Traffic> {
        traffic::over(&self.shape, &self.blob, client)
    }

    fn load_strings(&self, load: &mut Load<'_>, random: &mut Random) -> Result<()> {
        let mut key = Vec::new();
        for n in 0..self.shape.keys {
            key.clear();
            traffic::string_key(&mut key, n);
            resp::push(&mut load.batch, &[b"SET", &key, self.blob.value(random, self.shape.size)]);
            load.command()?;
        }
        Ok(())
    }

    fn load_hashes(&self, load: &mut Load<'_>, random: &mut Random) -> Result<()> {
        for hash in 0..BIG_HASHES {
            let name = format!("hash:{hash}");
            let mut field = 0;
            while field < self.shape.keys {
                let end = (field + FIELDS_A_COMMAND).min(self.shape.keys);
                resp::push_header(&mut load.batch, 2 + 2 * (end - field) as usize);
                resp::push_arg(&mut load.batch, b"HSET");
                resp::push_arg(&mut load.batch, name.as_bytes());
                for n in field..end {
                    resp::push_arg(&mut load.batch, format!("field:{n:010}").as_bytes());
                    resp::push_arg(&mut load.batch, self.blob.value(random, self.shape.size));
                }
                load.command()?;
                field = end;
            }
        }
        Ok(())
    }

    /// Even numbers are strings, a few of them expiring far ahead; the odd ones take turns.
    fn load_mixed(&self, load: &mut Load<'_>, random: &mut Random) -> Result<()> {
        for n in 0..self.shape.keys {
            let size = self.shape.size;
            if n % 2 == 0 {
                let mut key = Vec::new();
                traffic::string_key(&mut key, n);
                let value = self.blob.value(random, size);
                if n % 10 == 0 {
                    resp::push(&mut load.batch, &[b"SET", &key, value, b"EX", b"864000"]);
                } else {
                    resp::push(&mut load.batch, &[b"SET", &key, value]);
                }
            } else {
                let elements = if n % 200 == 1 { ELEMENTS.1 } else { ELEMENTS.0 };
                self.push_collection(&mut load.batch, random, n, elements);
            }
            load.command()?;
        }
        Ok(())
    }

    fn push_collection(&self, out: &mut Vec<u8>, random: &mut Random, n: u64, elements: u64) {
        // Elements share the size of one value, so that a key is about as heavy as the option says.
        let size = (self.shape.size / 8).max(1);
        let (command, name, pairs) = match n / 2 % 4 {
            0 => ("HSET", "hash", true),
            1 => ("RPUSH", "list", false),
            2 => ("SADD", "set", false),
            _ => ("ZADD", "zset", true),
        };
        resp::push_header(out, 2 + (elements * if pairs { 2 } else { 1 }) as usize);
        resp::push_arg(out, command.as_bytes());
        resp::push_arg(out, format!("{name}:{n:012}").as_bytes());
        for e in 0..elements {
            match command {
                "HSET" => {
                    resp::push_arg(out, format!("field:{e}").as_bytes());
                    resp::push_arg(out, self.blob.value(random, size));
                }
                "ZADD" => {
                    resp::push_arg(out, format!("{}.5", random.below(1_000_000)).as_bytes());
                    resp::push_arg(out, format!("member:{e}").as_bytes());
                }
                // Every other set holds whole numbers only.
                "SADD" if (n / 8).is_multiple_of(2) => {
                    resp::push_arg(out, random.below(1 << 30).to_string().as_bytes())
                }
                _ => resp::push_arg(out, self.blob.value(random, size)),
            }
        }
    }
}

/// A pipelined load: while the server works on one batch, the next is made.
struct Load<'a> {
    client: &'a mut Client,
    batch: Vec<u8>,
    commands: usize,
    /// Replies of the batch before.
    unread: usize,
}

impl Load<'_> {
    /// Tells that one command more is in the batch.
    fn command(&mut self) -> Result<()> {
        self.commands += 1;
        if self.batch.len() >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        self.client.send(&self.batch)?;
        self.batch.clear();
        let before = std::mem::replace(&mut self.unread, std::mem::take(&mut self.commands));
        self.client.expect(before)
    }

    fn finish(mut self) -> Result<()> {
        self.send()?;
        self.client.expect(self.unread)
    }
}

/// 1234567 as "1,234,567".
pub(crate) fn group_digits(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(group_digits(7), "7");
        assert_eq!(group_digits(1_000), "1,000");
        assert_eq!(group_digits(1_234_567), "1,234,567");
    }

    #[test]
    fn a_file_is_the_dataset_when_given() {
        let dataset = Dataset::new(Kind::Strings, None, None, Some("dump.rdb".into()));
        assert_eq!(dataset.shape.kind, Kind::File);
    }
}
