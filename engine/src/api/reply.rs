//! Commands by name for embedders, and their replies as owned values.

use super::{Error, Result, STALL_PAUSE, fits};
use crate::engine::{Engine, Outcome, Request};
use crate::session::Session;
use smallvec::SmallVec;

/// A reply, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyValue {
    /// Nothing.
    Null,
    /// `OK` and the like.
    Status(String),
    /// A string.
    Bytes(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A double (RESP3).
    Double(f64),
    /// A boolean (RESP3).
    Bool(bool),
    /// An array, set or push.
    Array(Vec<ReplyValue>),
    /// A map (RESP3; in RESP2 it is an array of keys and values in turn).
    Map(Vec<(ReplyValue, ReplyValue)>),
    /// An error inside of an array, as EXEC replies it of one of its commands; elsewhere an error is the `Err` of the call.
    Error(Error),
}

impl ReplyValue {
    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            ReplyValue::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The bytes of a string or status.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            ReplyValue::Bytes(b) => Some(b),
            ReplyValue::Status(s) => Some(s.as_bytes()),
            _ => None,
        }
    }

    /// The text of a string or status, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[ReplyValue]> {
        match self {
            ReplyValue::Array(a) => Some(a),
            _ => None,
        }
    }

    /// Decodes the reply at the front of `at` and moves on; `None` where it is no whole reply. The replies come
    /// from this process, so depth and lengths are those of what we wrote.
    fn decode(at: &mut &[u8]) -> Option<ReplyValue> {
        let (mark, head) = line(at)?;
        let text = || String::from_utf8_lossy(head).into_owned();
        let number = || std::str::from_utf8(head).ok()?.parse::<i64>().ok();
        Some(match mark {
            b'+' => ReplyValue::Status(text()),
            b'-' => ReplyValue::Error(Error::of_line(&text())),
            b':' => ReplyValue::Int(number()?),
            b',' => ReplyValue::Double(crate::num::parse_f64(head)?),
            b'#' => ReplyValue::Bool(head == b"t"),
            b'_' => ReplyValue::Null,
            b'$' | b'=' | b'*' | b'~' | b'>' | b'%' if number()? < 0 => ReplyValue::Null,
            b'$' | b'=' => {
                let len = usize::try_from(number()?).ok()?;
                let bytes = at.get(..len)?;
                *at = at.get(len + 2..)?;
                // A verbatim string begins with its format and a colon.
                ReplyValue::Bytes(if mark == b'=' { bytes.get(4..)?.to_vec() } else { bytes.to_vec() })
            }
            b'*' | b'~' | b'>' => {
                ReplyValue::Array((0..number()?).map(|_| ReplyValue::decode(at)).collect::<Option<_>>()?)
            }
            b'%' => {
                let mut pair = |_| Some((ReplyValue::decode(at)?, ReplyValue::decode(at)?));
                ReplyValue::Map((0..number()?).map(&mut pair).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }
}

fn line<'x>(at: &mut &'x [u8]) -> Option<(u8, &'x [u8])> {
    let end = memchr::memmem::find(at, b"\r\n")?;
    let (head, rest) = at.split_at(end);
    *at = &rest[2..];
    Some((*head.first()?, &head[1..]))
}

/// # Commands by name
impl Engine {
    /// Runs a command in database 0 and returns its reply.
    ///
    /// ```
    /// # use sluice_engine::{Engine, Error, ReplyValue};
    /// let engine = Engine::default();
    /// assert_eq!(engine.execute(&["SET", "visits", "41"])?.as_str(), Some("OK"));
    /// assert_eq!(engine.execute(&["INCR", "visits"])?, ReplyValue::Int(42));
    /// let refused = engine.execute(&["LPUSH", "visits", "x"]);
    /// assert_eq!(refused, Err(Error::WrongType));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn execute(&self, args: &[impl AsRef<[u8]>]) -> Result<ReplyValue> {
        self.execute_in(&mut self.session(), args)
    }

    /// Runs a command in a session, which keeps the selected database, MULTI and WATCH from one to the next.
    ///
    /// ```
    /// # use sluice_engine::{Engine, Error, ReplyValue};
    /// let engine = Engine::default();
    /// let mut session = engine.session();
    /// for command in [&["WATCH", "stock"][..], &["MULTI"], &["SET", "stock", "9"], &["INCR", "sold"]] {
    ///     engine.execute_in(&mut session, command)?;
    /// }
    /// let results = engine.execute_in(&mut session, &["EXEC"])?;
    /// assert_eq!(results.as_array().unwrap()[1], ReplyValue::Int(1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn execute_in(&self, session: &mut Session, args: &[impl AsRef<[u8]>]) -> Result<ReplyValue> {
        let args: SmallVec<[&[u8]; 8]> = args.iter().map(AsRef::as_ref).collect();
        let Some(row) = args.first().and_then(|name| self.lookup(name)) else {
            session.break_multi();
            return Err(Error::unknown_command(&args));
        };
        fits(args.iter().copied()).inspect_err(|_| session.break_multi())?;
        let mut out = Vec::new();
        let external = || Error::from(format!("ERR '{}' is for the embedder to run", row.command.name));
        loop {
            let request = Request { args: &args, raw: None };
            match self.call(session, row, request, &mut out) {
                Outcome::Stalled => std::thread::sleep(STALL_PAUSE),
                Outcome::External | Outcome::Interrupted => return Err(external()),
                Outcome::Done | Outcome::Refused => break,
                Outcome::Blocked => {
                    // The typed API never waits: what the session allows is for those who call the engine themselves.
                    if let Some(blocked) = session.blocked.take() {
                        out = self.unblock(&blocked).unwrap_or_else(|| blocked.nothing());
                    }
                    break;
                }
            }
        }
        match ReplyValue::decode(&mut out.as_slice()) {
            Some(ReplyValue::Error(e)) => Err(e),
            Some(value) => Ok(value),
            None => Err(Error::text("ERR the reply is not whole")),
        }
    }
}
