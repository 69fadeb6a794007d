//! Replies, written straight into an output buffer.

use crate::encoding::LpValue;

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
        // Nearly every length has one or two digits.
        let digit = |n: i64| b'0' + n as u8;
        match n {
            0..10 => self.buf.extend_from_slice(&[mark, digit(n), b'\r', b'\n']),
            10..100 => self.buf.extend_from_slice(&[mark, digit(n / 10), digit(n % 10), b'\r', b'\n']),
            _ => self.long_header(mark, n),
        }
    }

    #[inline(never)]
    fn long_header(&mut self, mark: u8, n: i64) {
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
        self.buf.reserve(s.len() + 32);
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
