//! The log as changes: who wants to know what was written reads commands, not bytes.

use crate::engine::Engine;
use crate::entry::MAX_STRING_LEN;
use crate::log::{LogGone, LogReader};
use crate::resp::{ParseState, Parsed, resume};

/// Bytes read from the log at once.
const PIECE: usize = 64 << 10;

/// One change, as a command that makes it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The database it applies to.
    pub db: u32,
    /// The command, name first. `MULTI` and `EXEC` stand around what is one step.
    pub args: Vec<Vec<u8>>,
    /// The offset of the log behind it.
    pub end: u64,
}

/// What is written to an engine, in the order in which it happened, from an offset of the log on. What has not been read is kept,
/// so a feed that nobody reads takes memory by what is written; one that is dropped takes none.
///
/// ```
/// use sluice_engine::Engine;
///
/// let engine = Engine::default();
/// let mut feed = engine.feed();
/// engine.db(0).set("greeting", "hello")?;
/// engine.db(2).sadd("tags", &["a"])?;
/// engine.db(2).spop("tags")?; // what was taken at random is told as the removal of just that
/// let mut seen = Vec::new();
/// while let Some(change) = feed.read()? {
///     let words: Vec<_> = change.args.iter().map(|a| String::from_utf8_lossy(a)).collect();
///     seen.push(format!("{}: {}", change.db, words.join(" ")));
/// }
/// assert_eq!(seen, ["0: SET greeting hello", "2: SADD tags a", "2: SREM tags a"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Feed {
    reader: LogReader,
    db: u32,
    /// Bytes that were read, the first of them at `at` not taken yet.
    read: Vec<u8>,
    at: usize,
    request: ParseState,
}

impl Engine {
    /// The changes from now on; the log records them from this moment at the latest.
    pub fn feed(&self) -> Feed {
        let (reader, db) = self.follow_here();
        Feed::new(reader, db.unwrap_or(0))
    }
}

impl Feed {
    /// The changes from a cursor of the log on, which stands between two commands, where `db` is selected (behind a cut
    /// [`Cut::stream_db`](crate::Cut::stream_db)).
    pub fn new(reader: LogReader, db: u32) -> Feed {
        Feed { reader, db, read: Vec::new(), at: 0, request: ParseState::default() }
    }

    /// The next change; `None` where there is none yet.
    ///
    /// # Errors
    /// [`LogGone::Ended`]: there will never be more, as the log goes on from elsewhere.
    pub fn read(&mut self) -> Result<Option<Change>, LogGone> {
        loop {
            let rest = &self.read[self.at..];
            if let Parsed::Command { args, used, .. } = resume(rest, MAX_STRING_LEN, true, &mut self.request)
            {
                self.at += used;
                let selects = args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"));
                if let Some(db) = args.get(1).filter(|_| selects) {
                    let db = crate::num::parse_i64(db).and_then(|db| u32::try_from(db).ok());
                    self.db = db.unwrap_or(self.db);
                    continue;
                }
                let args = args.iter().map(|a| a.to_vec()).collect();
                return Ok(Some(Change { db: self.db, args, end: self.offset() }));
            }
            self.read.drain(..std::mem::take(&mut self.at));
            let more = self.reader.read(PIECE)?;
            if more.is_empty() {
                return Ok(None);
            }
            self.read.extend_from_slice(&more);
        }
    }

    /// The offset of the log up to which changes were taken.
    pub fn offset(&self) -> u64 {
        self.reader.offset() - (self.read.len() - self.at) as u64
    }
}
