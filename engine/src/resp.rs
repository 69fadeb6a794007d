//! RESP: requests in, replies out.
//!
//! [`parse`] finds one command at the front of a buffer and borrows its arguments from there; it copies nothing
//! and allocates nothing for up to eight arguments. [`Reply`] writes straight into the output buffer, in RESP2 or
//! RESP3 as the session chose. Limits: [`MAX_ARGS`], [`MAX_INLINE`], and the bulk length the caller passes.

use crate::encoding::LpValue;
use smallvec::SmallVec;

/// Most arguments of a command: Redis' 1024 * 1024 limit of a multi bulk request for clients.
pub const MAX_ARGS: i64 = 1024 * 1024;
/// Longest inline command, and longest length line, in bytes.
pub const MAX_INLINE: usize = 64 * 1024;

/// A command's arguments, borrowed from the input buffer.
pub type Args<'a> = SmallVec<[&'a [u8]; 8]>;

/// What stands at the front of the input.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// More bytes are needed; at least this many in all where that is known, else 0.
    Incomplete(usize),
    /// A command that took `used` bytes. No arguments: an empty line, to be skipped. `canonical` where the bytes
    /// are a RESP array and may be copied into the log as they stand.
    Command {
        /// The arguments.
        args: Args<'a>,
        /// Bytes taken from the front.
        used: usize,
        /// The bytes are a RESP array.
        canonical: bool,
    },
    /// An inline command with quotes, unescaped.
    Quoted {
        /// The arguments.
        args: Vec<Vec<u8>>,
        /// Bytes taken from the front.
        used: usize,
    },
    /// The client broke the protocol: reply this error and close.
    Invalid(String),
}

#[inline]
fn line(buf: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let at = memchr::memchr(b'\r', &buf[from..])? + from;
    if at + 1 >= buf.len() {
        return None;
    }
    Some((&buf[from..at], at + 2))
}

/// A length of up to 7 digits, the common case, else the exact parser.
#[inline]
fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 7 || (digits[0] == b'0' && digits.len() > 1) {
        return crate::num::parse_i64(digits);
    }
    let mut n = 0i64;
    for d in digits {
        if !d.is_ascii_digit() {
            return crate::num::parse_i64(digits);
        }
        n = n * 10 + i64::from(d - b'0');
    }
    Some(n)
}

/// Parses the command at the front of `buf`. `max_bulk` bounds one argument (`proto-max-bulk-len`); before
/// authentication the caller passes `authenticated = false`, which bounds arguments as Redis does (10 arguments of
/// at most 16384 bytes).
pub fn parse(buf: &[u8], max_bulk: usize, authenticated: bool) -> Parsed<'_> {
    match buf.first() {
        None => Parsed::Incomplete(0),
        Some(b'*') => parse_array(buf, max_bulk, authenticated),
        Some(_) => parse_inline(buf),
    }
}

fn parse_array(buf: &[u8], max_bulk: usize, authenticated: bool) -> Parsed<'_> {
    let Some((digits, mut at)) = line(buf, 1) else {
        if buf.len() > MAX_INLINE {
            return Parsed::Invalid("ERR Protocol error: too big mbulk count string".into());
        }
        return Parsed::Incomplete(0);
    };
    let n = match number(digits) {
        Some(n) if n <= MAX_ARGS => n,
        _ => return Parsed::Invalid("ERR Protocol error: invalid multibulk length".into()),
    };
    if n > 10 && !authenticated {
        return Parsed::Invalid("ERR Protocol error: unauthenticated multibulk length".into());
    }
    let mut args = Args::new();
    if n <= 0 {
        return Parsed::Command { args, used: at, canonical: false };
    }
    for _ in 0..n {
        match buf.get(at) {
            None => return Parsed::Incomplete(0),
            Some(b'$') => {}
            Some(c) => {
                let shown = char::from(*c);
                return Parsed::Invalid(format!("ERR Protocol error: expected '$', got '{shown}'"));
            }
        }
        let Some((digits, start)) = line(buf, at + 1) else {
            if buf.len() - at > MAX_INLINE {
                return Parsed::Invalid("ERR Protocol error: too big bulk count string".into());
            }
            return Parsed::Incomplete(0);
        };
        let len = match number(digits) {
            Some(len) if len >= 0 && len as u64 <= max_bulk as u64 => len as usize,
            _ => return Parsed::Invalid("ERR Protocol error: invalid bulk length".into()),
        };
        if len > 16384 && !authenticated {
            return Parsed::Invalid("ERR Protocol error: unauthenticated bulk length".into());
        }
        if buf.len() < start + len + 2 {
            return Parsed::Incomplete(start + len + 2);
        }
        args.push(&buf[start..start + len]);
        at = start + len + 2;
    }
    Parsed::Command { args, used: at, canonical: true }
}

fn parse_inline(buf: &[u8]) -> Parsed<'_> {
    let Some(nl) = memchr::memchr(b'\n', buf) else {
        if buf.len() > MAX_INLINE {
            return Parsed::Invalid("ERR Protocol error: too big inline request".into());
        }
        return Parsed::Incomplete(0);
    };
    let text = buf[..nl].strip_suffix(b"\r").unwrap_or(&buf[..nl]);
    if text.iter().any(|c| matches!(c, b'"' | b'\'')) {
        // Quoted arguments need unescaping, so they cannot be borrowed.
        return match split_quoted(text) {
            Some(args) => Parsed::Quoted { args, used: nl + 1 },
            None => Parsed::Invalid("ERR Protocol error: unbalanced quotes in request".into()),
        };
    }
    let args = text.split(|c| c.is_ascii_whitespace()).filter(|a| !a.is_empty()).collect();
    Parsed::Command { args, used: nl + 1, canonical: false }
}

/// Splits a line into arguments with Redis' quoting rules: double quotes with `\\n`, `\\xHH` and the like, single
/// quotes with `\\'` only, and nothing but white space after a closing quote. `None` where quotes do not balance.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut i = 0;
    loop {
        while i < line.len() && line[i].is_ascii_whitespace() {
            i += 1;
        }
        if i == line.len() {
            return Some(args);
        }
        let mut arg = Vec::new();
        while i < line.len() && !line[i].is_ascii_whitespace() {
            match line[i] {
                quote @ (b'"' | b'\'') => {
                    i = unquote(line, i + 1, quote, &mut arg)?;
                    if i < line.len() && !line[i].is_ascii_whitespace() {
                        return None;
                    }
                }
                c => {
                    arg.push(c);
                    i += 1;
                }
            }
        }
        args.push(arg);
    }
}

/// Reads up to the closing quote; returns the position behind it.
fn unquote(line: &[u8], mut i: usize, quote: u8, arg: &mut Vec<u8>) -> Option<usize> {
    let hex = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16)).map(|d| d as u8);
    loop {
        let c = *line.get(i)?;
        i += 1;
        if c == quote {
            return Some(i);
        }
        if c != b'\\' || (quote == b'\'' && line.get(i) != Some(&b'\'')) {
            arg.push(c);
            continue;
        }
        let e = *line.get(i)?;
        if e == b'x'
            && let (Some(h), Some(l)) = (hex(line.get(i + 1)), hex(line.get(i + 2)))
        {
            arg.push(h << 4 | l);
            i += 3;
            continue;
        }
        arg.push(match e {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'a' => 7,
            other => other,
        });
        i += 1;
    }
}

/// Writes replies into an output buffer.
pub struct Reply<'a> {
    buf: &'a mut Vec<u8>,
    resp3: bool,
}

/// The place of a length that is not known yet; see [`Reply::defer_array`].
#[derive(Debug)]
#[must_use = "a deferred length must be filled in"]
pub struct Deferred {
    at: usize,
    mark: u8,
    /// Replies a counted item stands for: 2 for a map in RESP2.
    each: usize,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `buf`.
    pub fn new(buf: &'a mut Vec<u8>, resp3: bool) -> Reply<'a> {
        Reply { buf, resp3 }
    }

    /// Does the session speak RESP3?
    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Sets the protocol for what follows (HELLO).
    pub fn set_resp3(&mut self, on: bool) {
        self.resp3 = on;
    }

    /// The underlying buffer, for bytes that are encoded already.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        self.buf
    }

    #[inline]
    fn header(&mut self, mark: u8, n: i64) {
        self.buf.push(mark);
        self.buf.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        self.buf.extend_from_slice(b"\r\n");
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.buf.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string. Line ends inside become spaces, as they would break the frame.
    pub fn simple(&mut self, s: &str) {
        self.buf.push(b'+');
        self.buf.extend(s.bytes().map(|c| if matches!(c, b'\r' | b'\n') { b' ' } else { c }));
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An error line; `text` starts with its code (`ERR ...`).
    pub fn error(&mut self, text: &str) {
        self.buf.push(b'-');
        self.buf.extend(text.bytes().map(|c| if matches!(c, b'\r' | b'\n') { b' ' } else { c }));
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        self.header(b':', n);
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, s: &[u8]) {
        self.buf.reserve(s.len() + 16);
        self.header(b'$', s.len() as i64);
        self.buf.extend_from_slice(s);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A bulk string holding an integer.
    pub fn bulk_int(&mut self, n: i64) {
        let mut b = itoa::Buffer::new();
        self.bulk(b.format(n).as_bytes());
    }

    /// A bulk string holding an element of a collection.
    #[inline]
    pub fn element(&mut self, v: LpValue<'_>) {
        match v {
            LpValue::Int(i) => self.bulk_int(i),
            LpValue::Str(s) => self.bulk(s),
        }
    }

    /// Text: a verbatim string (`txt`) in RESP3, a bulk string in RESP2 (INFO, CLIENT LIST).
    pub fn verbatim(&mut self, s: &str) {
        if self.resp3 {
            self.header(b'=', s.len() as i64 + 4);
            self.buf.extend_from_slice(b"txt:");
            self.buf.extend_from_slice(s.as_bytes());
            self.buf.extend_from_slice(b"\r\n");
        } else {
            self.bulk(s.as_bytes());
        }
    }

    /// A double: RESP3's own type, or a bulk string with up to 17 significant digits.
    pub fn double(&mut self, d: f64) {
        let mut text = Vec::with_capacity(24);
        crate::num::fmt_f64(d, &mut text);
        if self.resp3 {
            self.buf.push(b',');
            self.buf.extend_from_slice(&text);
            self.buf.extend_from_slice(b"\r\n");
        } else {
            self.bulk(&text);
        }
    }

    /// A boolean: RESP3's own type, or 1 and 0.
    pub fn boolean(&mut self, b: bool) {
        match (self.resp3, b) {
            (true, true) => self.buf.extend_from_slice(b"#t\r\n"),
            (true, false) => self.buf.extend_from_slice(b"#f\r\n"),
            (false, b) => self.int(b.into()),
        }
    }

    /// Null: `$-1` in RESP2.
    #[inline]
    pub fn null(&mut self) {
        self.buf.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Null where an array was expected: `*-1` in RESP2.
    pub fn null_array(&mut self) {
        self.buf.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The header of an array of `n` replies.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n as i64);
    }

    /// The header of a map of `n` pairs: an array of 2n in RESP2.
    pub fn map(&mut self, n: usize) {
        if self.resp3 { self.header(b'%', n as i64) } else { self.header(b'*', 2 * n as i64) }
    }

    /// The header of a set of `n`: an array in RESP2.
    pub fn set(&mut self, n: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, n as i64);
    }

    /// The header of a push message of `n`: an array in RESP2.
    pub fn push(&mut self, n: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, n as i64);
    }

    /// Begins an array whose length is filled in later with [`Reply::fill`].
    pub fn defer_array(&mut self) -> Deferred {
        Deferred { at: self.buf.len(), mark: b'*', each: 1 }
    }

    /// Begins a set (RESP3) or array whose length is filled in later.
    pub fn defer_set(&mut self) -> Deferred {
        Deferred { at: self.buf.len(), mark: if self.resp3 { b'~' } else { b'*' }, each: 1 }
    }

    /// Begins a map (RESP3) or flat array whose number of pairs is filled in later.
    pub fn defer_map(&mut self) -> Deferred {
        let (mark, each) = if self.resp3 { (b'%', 1) } else { (b'*', 2) };
        Deferred { at: self.buf.len(), mark, each }
    }

    /// Fills in a deferred length: replies for an array or set, pairs for a map.
    pub fn fill(&mut self, place: Deferred, n: usize) {
        let n = n * place.each;
        let mut head = smallvec::SmallVec::<[u8; 24]>::new();
        head.push(place.mark);
        head.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        head.extend_from_slice(b"\r\n");
        self.buf.splice(place.at..place.at, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args_of(buf: &[u8]) -> Vec<Vec<u8>> {
        match parse(buf, 1 << 29, true) {
            Parsed::Command { args, used, .. } => {
                assert_eq!(used, buf.len());
                args.iter().map(|a| a.to_vec()).collect()
            }
            Parsed::Quoted { args, .. } => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arrays_and_inline_commands_parse() {
        assert_eq!(args_of(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), [b"GET".to_vec(), b"k".to_vec()]);
        assert_eq!(args_of(b"SET  a b\r\n"), [b"SET".to_vec(), b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(args_of(b"SET a \"x\\x41\\n y\"\r\n")[2], b"xA\n y");
        assert!(args_of(b"\r\n").is_empty());
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let whole = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
        for n in 0..whole.len() {
            assert!(matches!(parse(&whole[..n], 1 << 29, true), Parsed::Incomplete(_)), "{n}");
        }
    }

    #[test]
    fn broken_frames_say_what_is_wrong() {
        for (bytes, text) in [
            (b"*1\r\n$-5\r\n".as_slice(), "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*2000000\r\n", "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1\r\n!3\r\n", "expected '$', got '!'"),
            (b"SET \"a b\r\n", "unbalanced quotes"),
        ] {
            match parse(bytes, 512 << 20, true) {
                Parsed::Invalid(m) => assert!(m.contains(text), "{m}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
        assert!(matches!(parse(&[b'a'; MAX_INLINE + 1], 1, true), Parsed::Invalid(_)));
        let mut long = b"*".to_vec();
        long.extend_from_slice(&[b'1'; MAX_INLINE + 1]);
        assert!(matches!(parse(&long, 1, true), Parsed::Invalid(_)));
    }

    #[test]
    fn deferred_lengths_land_in_front() {
        let mut buf = Vec::new();
        let mut r = Reply::new(&mut buf, false);
        let d = r.defer_map();
        r.bulk(b"a");
        r.int(1);
        r.fill(d, 1);
        assert_eq!(buf, b"*2\r\n$1\r\na\r\n:1\r\n");
    }
}
