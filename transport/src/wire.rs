//! The little of RESP that replication itself needs: commands as arrays of bulk strings, and lines.
//!
//! The command stream proper is parsed by the engine; the handshake only ever exchanges short
//! commands and one-line replies, read here with a bound so that a peer that never sends a line end
//! cannot make us buffer.

use thiserror::Error;

/// The longest line accepted during a handshake (Redis reads replies into 1024 bytes too).
pub const MAX_LINE: usize = 1024;

/// Appends `args` to `out` as an array of bulk strings.
pub fn encode_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A peer sent more than [`MAX_LINE`] bytes without a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a line of more than {MAX_LINE} bytes")]
pub struct LineTooLong;

/// Collects bytes up to a line end. CR before LF is dropped.
#[derive(Debug, Default)]
pub struct LineReader {
    line: Vec<u8>,
    done: bool,
}

impl LineReader {
    /// Takes bytes from the front of `input` up to and with the next LF. Returns the line without its
    /// end once it is whole, `None` when more input is needed.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, LineTooLong> {
        if self.done {
            self.line.clear();
            self.done = false;
        }
        let end = input.iter().position(|&b| b == b'\n');
        let take = end.unwrap_or(input.len());
        if self.line.len() + take > MAX_LINE {
            return Err(LineTooLong);
        }
        self.line.extend_from_slice(&input[..take]);
        *input = &input[end.map_or(take, |e| e + 1)..];
        if end.is_none() {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        self.done = true;
        Ok(Some(&self.line))
    }
}

/// Text from a peer made fit for a log line: not UTF-8 or not printable becomes escapes, long is cut.
pub fn printable(text: &[u8]) -> String {
    const SHOWN: usize = 256;
    let shown = &text[..text.len().min(SHOWN)];
    match std::str::from_utf8(shown) {
        Ok(s) if !s.chars().any(char::is_control) => s.to_owned(),
        _ => shown.escape_ascii().to_string(),
    }
}

/// A whole-buffer decimal number: digits with an optional minus, nothing else, within `i64`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let s = std::str::from_utf8(text).ok()?;
    if s.starts_with('+') {
        return None;
    }
    s.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_the_same_however_they_are_split() {
        let wire = b"+PONG\r\n\n-ERR x\n";
        for cut in 0..wire.len() {
            let mut reader = LineReader::default();
            let mut lines = Vec::new();
            for mut part in [&wire[..cut], &wire[cut..]] {
                while !part.is_empty() {
                    if let Some(line) = reader.read(&mut part).unwrap() {
                        lines.push(line.to_vec());
                    }
                }
            }
            assert_eq!(lines, [b"+PONG".to_vec(), b"".to_vec(), b"-ERR x".to_vec()], "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut reader = LineReader::default();
        let mut some: &[u8] = &[b'x'; MAX_LINE];
        assert_eq!(reader.read(&mut some), Ok(None));
        assert_eq!(reader.read(&mut &b"x"[..]), Err(LineTooLong));
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode_command(&mut out, &[b"PSYNC", b"?", b"-1"]);
        assert_eq!(out, b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    }
}
