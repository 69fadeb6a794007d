//! Requests: one command at the front of a buffer.
//!
//! [`parse`] borrows the arguments from the buffer; it copies nothing and allocates nothing for up to eight of them.
//! What is read from the length lines never decides how much is allocated: that is bounded by the bytes that are there.
//! Limits: [`MAX_ARGS`], [`MAX_INLINE`], and the bulk length the caller passes.
//!
//! Who has several requests at hand, and wants to know of all before it runs the first, has their arguments put into one list
//! ([`front`]).
//!
//! A request whose bytes come in many pieces is not read from its beginning each time: [`resume`] keeps in a
//! [`ParseState`] how far it came, and says how many bytes it needs before it is worth asking again.
//!
//! **Canonical.** Like Redis, the parser steps over the two bytes behind an argument, and over the one behind the `\r` of a length
//! line, without asking what they are: a client that sends `helloXX` for `hello\r\n` is served. Files and replicas are not so
//! generous, so such bytes must never reach the log. [`Parsed::Command`] says whether the request's bytes are exactly
//! what [`encode_command`](crate::resp::encode_command) makes of its arguments; only then may they be logged as they came. Where an
//! array's bytes are not, what is made of its arguments is as long as they are, since lengths themselves have one spelling.

use crate::words;
use smallvec::{Array, SmallVec};

/// Most arguments of a command: what Redis counts in an `int`. What a request may take is bounded by its bytes.
pub const MAX_ARGS: i64 = i32::MAX as i64;
/// Longest inline command, and longest length line, in bytes.
pub(crate) const MAX_INLINE: usize = 64 * 1024;
/// Most arguments before authentication.
const UNAUTHENTICATED_ARGS: i64 = 10;
/// Longest argument before authentication, in bytes.
const UNAUTHENTICATED_BULK: usize = 16384;
/// An argument takes at least so many bytes: `$0\r\n\r\n`.
const LEAST_ARG: usize = 6;

/// A command's arguments, borrowed from the input buffer.
pub type Args<'a> = SmallVec<[&'a [u8]; 8]>;

/// What stands at the front of the input; `A` are a command's arguments, or nothing where they went into a list of the
/// caller's ([`front`]).
#[derive(Debug)]
pub enum Parsed<A> {
    /// More bytes are needed; at least this many in all (from the request's first byte on) where that is known, else 0.
    Incomplete(usize),
    /// A command that took `used` bytes. No arguments: an empty line or array, to be skipped.
    Command {
        /// The arguments.
        args: A,
        /// Bytes taken from the front.
        used: usize,
        /// The bytes are exactly the arguments as [`encode_command`](crate::resp::encode_command) writes them, and may be
        /// copied into the log as they stand.
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

/// How far the parsing of an incomplete request came, between calls of [`resume`].
///
/// It belongs to the request at the front of one buffer: until that is complete, each call must see a buffer that begins with the
/// same bytes. It is two numbers and starts anew by itself behind each request, so a connection keeps one for all.
///
/// Who reads from a socket may ask [`ParseState::needed`] how large the buffer must become, and read as much at once: in the middle of
/// a large argument it is exact, otherwise it is 0. It is what a client *announces*, up to the limit for one argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseState {
    /// Offset of the next argument, 0 where the request has to be read from its beginning.
    at: usize,
    /// Arguments from there on.
    left: usize,
    /// See [`ParseState::needed`].
    needed: usize,
}

impl ParseState {
    /// Bytes the buffer must hold in all, from the incomplete request's first byte on, before it is worth asking again; 0 where
    /// that is not known.
    pub fn needed(&self) -> usize {
        self.needed
    }
}

/// Why a request is not complete.
enum Stop {
    /// As [`Parsed::Incomplete`].
    Need(usize),
    /// As [`Parsed::Invalid`].
    Broken(String),
}

impl Stop {
    #[cold]
    fn broken(text: &str) -> Stop {
        Stop::Broken(format!("ERR Protocol error: {text}"))
    }
}

/// What one argument may be.
#[derive(Clone, Copy)]
struct Bounds {
    bulk: usize,
    authenticated: bool,
}

/// Parses the command at the front of `buf`. `max_bulk` bounds one argument (`proto-max-bulk-len`); before
/// authentication the caller passes `authenticated = false`, which bounds arguments as Redis does (10 arguments of
/// at most 16384 bytes).
#[inline]
pub fn parse(buf: &[u8], max_bulk: usize, authenticated: bool) -> Parsed<Args<'_>> {
    resume(buf, max_bulk, authenticated, &mut ParseState::default())
}

/// As [`parse`], and goes on where the last call for an incomplete request ended; see [`ParseState`].
#[inline]
pub fn resume<'a>(
    buf: &'a [u8],
    max_bulk: usize,
    authenticated: bool,
    state: &mut ParseState,
) -> Parsed<Args<'a>> {
    let mut args = Args::new();
    match front(buf, max_bulk, authenticated, state, &mut args) {
        Parsed::Command { used, canonical, .. } => Parsed::Command { args, used, canonical },
        Parsed::Incomplete(needed) => Parsed::Incomplete(needed),
        Parsed::Quoted { args, used } => Parsed::Quoted { args, used },
        Parsed::Invalid(message) => Parsed::Invalid(message),
    }
}

/// As [`resume`], with the arguments of a command put behind what is in `list`; of anything else nothing is.
#[inline]
pub fn front<'a, A: Array<Item = &'a [u8]>>(
    buf: &'a [u8],
    max_bulk: usize,
    authenticated: bool,
    state: &mut ParseState,
    list: &mut SmallVec<A>,
) -> Parsed<()> {
    let bounds = Bounds { bulk: max_bulk, authenticated };
    if state.at != 0 {
        if let Err(stop) = skim(buf, bounds, state) {
            return stopped(stop, state);
        }
        // All of it is there: once more from the beginning, for the arguments.
        *state = ParseState::default();
    }
    match buf.first() {
        None => Parsed::Incomplete(0),
        Some(b'*') => {
            let before = list.len();
            match array(buf, bounds, state, list) {
                Ok((used, canonical)) => Parsed::Command { args: (), used, canonical },
                Err(stop) => {
                    list.truncate(before);
                    stopped(stop, state)
                }
            }
        }
        Some(_) => inline(buf, list),
    }
}

#[cold]
fn stopped(stop: Stop, state: &mut ParseState) -> Parsed<()> {
    match stop {
        Stop::Need(needed) => {
            state.needed = needed;
            Parsed::Incomplete(needed)
        }
        Stop::Broken(text) => {
            *state = ParseState::default();
            Parsed::Invalid(text)
        }
    }
}

/// Steps over arguments that are complete.
#[cold]
fn skim(buf: &[u8], bounds: Bounds, state: &mut ParseState) -> Result<(), Stop> {
    if buf.len() < state.needed {
        return Err(Stop::Need(state.needed));
    }
    while state.left > 0 {
        let (_, end) = argument(buf, state.at, bounds, &mut true)?;
        state.at = end + 2;
        state.left -= 1;
    }
    Ok(())
}

/// A length line.
enum Line {
    /// Its number, where it is one, and the offset behind the line.
    Whole(Option<i64>, usize),
    /// Its end is not there.
    Open,
}

/// The length line at `at`, where it is what nearly all are: the mark, one or two digits and `\r\n`, with something behind it.
/// Its number, and the offset behind it.
#[inline(always)]
fn short_line(buf: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let [first, a, b, c, d] = *buf.get(at..)?.first_chunk::<5>()?;
    let (tens, ones) = (usize::from(a.wrapping_sub(b'0')), usize::from(b.wrapping_sub(b'0')));
    if first != mark || tens > 9 {
        return None;
    }
    if [b, c] == *b"\r\n" {
        return Some((tens, at + 4));
    }
    (ones <= 9 && tens > 0 && [c, d] == *b"\r\n").then_some((tens * 10 + ones, at + 5))
}

/// The length line whose digits begin at `from`. `canonical` becomes false where it does not end in `\r\n`.
#[inline]
fn length(buf: &[u8], from: usize, canonical: &mut bool) -> Line {
    // The common case: a few digits and a line end, all there.
    const DIGITS: usize = 7;
    let (mut n, mut at) = (0u32, from);
    while let Some(c) = buf.get(at) {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 || at - from == DIGITS {
            break;
        }
        n = n * 10 + u32::from(digit);
        at += 1;
    }
    let one_spelling = at > from && (buf[from] != b'0' || at == from + 1);
    if one_spelling && buf.get(at..at + 2) == Some(b"\r\n") {
        return Line::Whole(Some(n.into()), at + 2);
    }
    any_length(buf, from, canonical)
}

#[cold]
fn any_length(buf: &[u8], from: usize, canonical: &mut bool) -> Line {
    let end = buf.get(from..).and_then(|rest| memchr::memchr(b'\r', rest)).map(|n| from + n);
    let Some((end, behind)) = end.and_then(|end| Some((end, buf.get(end + 1)?))) else { return Line::Open };
    *canonical &= *behind == b'\n';
    Line::Whole(crate::num::parse_i64(&buf[from..end]), end + 2)
}

/// The argument that begins at `at`: where its bytes are.
#[inline(always)]
fn argument(buf: &[u8], at: usize, bounds: Bounds, canonical: &mut bool) -> Result<(usize, usize), Stop> {
    let (len, start) = match short_line(buf, at, b'$') {
        Some((len, start)) if len <= bounds.bulk => (len, start),
        _ => argument_line(buf, at, bounds, canonical)?,
    };
    let end = start + len;
    match buf.get(end..end + 2) {
        None => Err(Stop::Need(end + 2)),
        Some(behind) => {
            *canonical &= behind == b"\r\n";
            Ok((start, end))
        }
    }
}

/// The length line of the argument that begins at `at`: how long that is, and where its bytes begin.
#[inline(never)]
fn argument_line(
    buf: &[u8],
    at: usize,
    bounds: Bounds,
    canonical: &mut bool,
) -> Result<(usize, usize), Stop> {
    match buf.get(at) {
        None => return Err(Stop::Need(0)),
        Some(b'$') => {}
        Some(c) => return Err(Stop::broken(&format!("expected '$', got '{}'", char::from(*c)))),
    }
    let (len, start) = match length(buf, at + 1, canonical) {
        Line::Whole(Some(len), start) if len >= 0 && len as u64 <= bounds.bulk as u64 => {
            (len as usize, start)
        }
        Line::Whole(..) => return Err(Stop::broken("invalid bulk length")),
        Line::Open if buf.len() - at > MAX_INLINE => return Err(Stop::broken("too big bulk count string")),
        Line::Open => return Err(Stop::Need(0)),
    };
    if len > UNAUTHENTICATED_BULK && !bounds.authenticated {
        return Err(Stop::broken("unauthenticated bulk length"));
    }
    Ok((len, start))
}

/// The length line of an array: how many arguments it says, and where the first begins.
#[inline(never)]
fn array_line(buf: &[u8], canonical: &mut bool) -> Result<(i64, usize), Stop> {
    match length(buf, 1, canonical) {
        Line::Whole(Some(n), at) if n <= MAX_ARGS => Ok((n, at)),
        Line::Whole(..) => Err(Stop::broken("invalid multibulk length")),
        Line::Open if buf.len() > MAX_INLINE => Err(Stop::broken("too big mbulk count string")),
        Line::Open => Err(Stop::Need(0)),
    }
}

/// Puts the arguments into the list; where the request is not complete perhaps some of them. The bytes it took, and whether they
/// are canonical.
fn array<'a, A: Array<Item = &'a [u8]>>(
    buf: &'a [u8],
    bounds: Bounds,
    state: &mut ParseState,
    list: &mut SmallVec<A>,
) -> Result<(usize, bool), Stop> {
    let mut canonical = true;
    let (n, mut at) = match short_line(buf, 0, b'*') {
        Some((n, at)) => (n as i64, at),
        None => array_line(buf, &mut canonical)?,
    };
    if n > UNAUTHENTICATED_ARGS && !bounds.authenticated {
        return Err(Stop::broken("unauthenticated multibulk length"));
    }
    if n <= 0 {
        return Ok((at, false));
    }
    let n = n as usize;
    if n > list.inline_size() {
        list.reserve_exact(n.min((buf.len() - at) / LEAST_ARG + 1));
    }
    for done in 0..n {
        match argument(buf, at, bounds, &mut canonical) {
            Ok((start, end)) => {
                list.push(&buf[start..end]);
                at = end + 2;
            }
            Err(stop) => {
                *state = ParseState { at, left: n - done, needed: 0 };
                return Err(stop);
            }
        }
    }
    Ok((at, canonical))
}

fn inline<'a, A: Array<Item = &'a [u8]>>(buf: &'a [u8], list: &mut SmallVec<A>) -> Parsed<()> {
    let Some(nl) = memchr::memchr(b'\n', buf) else {
        if buf.len() > MAX_INLINE {
            return Parsed::Invalid("ERR Protocol error: too big inline request".into());
        }
        return Parsed::Incomplete(0);
    };
    let text = buf[..nl].strip_suffix(b"\r").unwrap_or(&buf[..nl]);
    if text.iter().any(|c| matches!(c, b'"' | b'\'')) {
        // Quoted arguments need unescaping, so they cannot be borrowed.
        return match words::split(text) {
            Some(args) => Parsed::Quoted { args, used: nl + 1 },
            None => Parsed::Invalid("ERR Protocol error: unbalanced quotes in request".into()),
        };
    }
    list.extend(text.split(|c| words::is_space(*c)).filter(|a| !a.is_empty()));
    Parsed::Command { args: (), used: nl + 1, canonical: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode_command;

    const MAX_BULK: usize = 512 << 20;

    fn args_of(buf: &[u8]) -> Vec<Vec<u8>> {
        match parse(buf, MAX_BULK, true) {
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
        assert_eq!(args_of(b"SET  a\x0bb\r\n"), [b"SET".to_vec(), b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(args_of(b"SET a \"x\\x41\\n y\"\r\n")[2], b"xA\n y");
        assert!(args_of(b"\r\n").is_empty());
        let long = vec![b'x'; 12_345_678];
        let mut buf = Vec::new();
        encode_command(&mut buf, &[b"SET", b"a", &long]);
        assert_eq!(args_of(&buf)[2], long);
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let whole = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
        for n in 0..whole.len() {
            assert!(matches!(parse(&whole[..n], MAX_BULK, true), Parsed::Incomplete(_)), "{n}");
        }
    }

    #[test]
    fn broken_frames_say_what_is_wrong() {
        for (bytes, text) in [
            (b"*1\r\n$-5\r\n".as_slice(), "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$03\r\nGET\r\n", "invalid bulk length"),
            (b"*1\r\n$+3\r\nGET\r\n", "invalid bulk length"),
            (b"*1\r\n$-0\r\n\r\n", "invalid bulk length"),
            (b"*1\r\n$\r\n\r\n", "invalid bulk length"),
            (b"*2147483648\r\n", "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*01\r\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*+1\r\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"* 1\r\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*1 \r\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*1\r\n!3\r\n", "expected '$', got '!'"),
            (b"SET \"a b\r\n", "unbalanced quotes"),
        ] {
            match parse(bytes, MAX_BULK, true) {
                Parsed::Invalid(m) => assert!(m.contains(text), "{m}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
        assert!(matches!(parse(&[b'a'; MAX_INLINE + 1], 1, true), Parsed::Invalid(_)));
        for begin in [b"*".as_slice(), b"*1\r\n$"] {
            let long = [begin, &[b'1'; MAX_INLINE + 1]].concat();
            assert!(matches!(parse(&long, 1, true), Parsed::Invalid(_)));
        }
    }

    #[test]
    fn only_bytes_that_would_be_written_so_are_canonical() {
        let whole = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n";
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut bytes = whole.to_vec();
                bytes[at] = byte;
                let Parsed::Command { args, used, canonical } = parse(&bytes, MAX_BULK, true) else {
                    continue;
                };
                if bytes[0] != b'*' || args.is_empty() {
                    assert!(!canonical);
                    continue;
                }
                let mut encoded = Vec::new();
                encode_command(&mut encoded, &args);
                assert_eq!(canonical, encoded == bytes[..used], "{}", bytes.escape_ascii());
                assert_eq!(encoded.len(), used, "{}", bytes.escape_ascii());
            }
        }
        for served in [&b"*3\rX$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n"[..], b"*1\r\n$4\rXPINGXX"] {
            assert!(matches!(parse(served, MAX_BULK, true), Parsed::Command { canonical: false, .. }));
        }
    }

    #[test]
    fn a_request_in_pieces_is_read_once_and_says_what_it_needs() {
        let long = vec![b'x'; 70_000];
        let mut whole = Vec::new();
        let words: Vec<&[u8]> = std::iter::repeat_n(&b"ab"[..], 5000).collect();
        encode_command(&mut whole, &[&words[..], &[&long], &words].concat());
        let (mut state, mut needed, mut calls) = (ParseState::default(), 0, 0);
        let mut len = 0;
        while len < whole.len() {
            calls += 1;
            match resume(&whole[..len], MAX_BULK, true, &mut state) {
                Parsed::Incomplete(n) => {
                    assert_eq!(n, state.needed());
                    assert!(n == 0 || (n > len && n <= whole.len()));
                    needed = needed.max(n);
                    len = n.max(len + 1);
                }
                other => panic!("{other:?}"),
            }
            // Not from the beginning each time.
            assert!(state.at + 70_100 > len || len < 10, "{} of {len}", state.at);
        }
        assert!(calls > 10_000 && needed > 70_000);
        match resume(&whole, MAX_BULK, true, &mut state) {
            Parsed::Command { args, used, canonical: true } => {
                assert_eq!((args.len(), used), (10_001, whole.len()));
                assert_eq!(args[5000], long);
            }
            other => panic!("{other:?}"),
        }
        // The next one begins anew.
        assert_eq!((state.at, state.needed()), (0, 0));
        let next = resume(b"*1\r\n$4\r\nPING\r\n", MAX_BULK, true, &mut state);
        assert!(matches!(next, Parsed::Command { used: 14, .. }));
    }

    #[test]
    fn what_is_announced_is_not_allocated() {
        let Parsed::Incomplete(_) = parse(b"*2147483647\r\n$1\r\na\r\n", MAX_BULK, true) else {
            panic!("it is complete")
        };
    }
}
