//! Whether a file of log is whole, and up to where: what `check-aof` reports.
//!
//! Stricter than loading, as redis-check-aof is: every length and line end is looked at, and a block must be opened
//! once and closed. Nothing is run and nothing is changed. The words of an error and the counting of lines are
//! those of redis-check-aof 7.0, so that what people know to look for stands in the output.

use sluice_engine::internals::num::parse_i64;

/// Bytes between two reports of progress.
const REPORT_EVERY: usize = 16 << 20;
/// A number of arguments or bytes has no more digits than this.
const MAX_NUMBER: usize = 32;

/// What was found in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Size of the file.
    pub size: u64,
    /// End of the last whole command outside of a block, or of the last whole block.
    pub ok_up_to: u64,
    /// The line the check came to, counted over all files.
    pub line: u64,
    /// What is wrong where the check ended, if anything.
    pub error: Option<String>,
    /// Commands that were whole.
    pub commands: u64,
    /// Offset of the first annotation of a later time than was asked for.
    pub later: Option<u64>,
}

/// Checks files one after the other.
#[derive(Debug)]
pub struct Checker {
    line: u64,
    /// Stop at an annotation of a later time, in Unix seconds.
    until: Option<i64>,
}

/// The end of a check before the end of the file; the message, where there is one.
type Stop = Option<String>;

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Checker {
    /// Checks to the end, or to the first annotation of a time later than `until`.
    pub fn new(until: Option<i64>) -> Self {
        Self { line: 1, until }
    }

    /// Checks the log in `bytes` from offset `from`. `name` stands in messages; `progress` is told the offset now
    /// and then.
    pub fn check(&mut self, name: &str, bytes: &[u8], from: usize, progress: &mut dyn FnMut(u64)) -> Checked {
        let mut scan = Scan { bytes, at: from.min(bytes.len()), line: self.line };
        let mut found = Checked { size: bytes.len() as u64, ..Checked::default() };
        let mut in_block = false;
        let mut reported = scan.at;
        loop {
            if !in_block {
                found.ok_up_to = scan.at as u64;
            }
            if scan.at - reported >= REPORT_EVERY {
                reported = scan.at;
                progress(reported as u64);
            }
            match bytes.get(scan.at) {
                None => {
                    if in_block {
                        let why = "Reached EOF before reading EXEC for MULTI";
                        found.error = Some(place(scan.at, why));
                    }
                    break;
                }
                Some(b'#') => match self.annotation(&mut scan) {
                    Ok(()) => {}
                    Err(at) => {
                        found.later = Some(at);
                        break;
                    }
                },
                Some(b'*') => match scan.command(name, &mut in_block) {
                    Ok(()) => found.commands += 1,
                    Err(why) => {
                        found.error = why;
                        break;
                    }
                },
                Some(_) => {
                    found.error = Some(format!("AOF {name} format error"));
                    break;
                }
            }
        }
        self.line = scan.line;
        found.line = scan.line;
        found
    }

    /// Passes an annotation, or gives its offset if it is of a later time.
    fn annotation(&self, scan: &mut Scan<'_>) -> Result<(), u64> {
        let rest = &scan.bytes[scan.at..];
        let end = memchr(b'\n', rest).map_or(rest.len(), |n| n + 1);
        let time = rest[..end].trim_ascii_end().strip_prefix(b"#TS:").and_then(parse_i64);
        if let (Some(time), Some(until)) = (time, self.until)
            && time > until
        {
            return Err(scan.at as u64);
        }
        scan.at += end;
        Ok(())
    }
}

fn memchr(byte: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|b| *b == byte)
}

fn place(at: usize, why: &str) -> String {
    format!("0x{at:16x}: {why}")
}

impl Scan<'_> {
    fn command(&mut self, name: &str, in_block: &mut bool) -> Result<(), Stop> {
        let arguments = self.number(b'*')?;
        for index in 0..arguments {
            let begin = self.at;
            let len = self.number(b'$')?;
            let Some(text) = usize::try_from(len)
                .ok()
                .and_then(|len| self.at.checked_add(len)?.checked_add(2))
                .and_then(|end| self.bytes.get(self.at..end))
            else {
                let (want, have) = (i128::from(len) + 2, self.bytes.len() - self.at);
                if !(0..i64::MAX - 1).contains(&len) {
                    let why =
                        format!("Expected to read string of {len} bytes, which is not in the suitable range");
                    return Err(Some(place(begin, &why)));
                }
                let why = format!("Expected to read {want} bytes, got {have} bytes");
                return Err(Some(place(self.at, &why)));
            };
            let (text, end) = text.split_at(text.len() - 2);
            self.newline(end, self.at)?;
            self.at += text.len() + 2;
            if index == 0 {
                let opens = text.eq_ignore_ascii_case(b"multi");
                if opens || text.eq_ignore_ascii_case(b"exec") {
                    if *in_block == opens {
                        let word = if opens { "MULTI" } else { "EXEC" };
                        return Err(Some(place(begin, &format!("Unexpected {word} in AOF {name}"))));
                    }
                    *in_block = opens;
                }
            }
        }
        Ok(())
    }

    /// A line of a prefix and a number.
    fn number(&mut self, prefix: u8) -> Result<i64, Stop> {
        let rest = &self.bytes[self.at..];
        let Some(first) = rest.first() else { return Err(None) };
        if *first != prefix {
            let why = format!("Expected prefix '{}', got: '{}'", char::from(prefix), char::from(*first));
            return Err(Some(place(self.at, &why)));
        }
        let digits = &rest[1..rest.len().min(MAX_NUMBER)];
        let len = digits.iter().position(|b| !b.is_ascii_digit() && *b != b'-').unwrap_or(digits.len());
        // No digits are 0, too many as much as there is, as `strtol` has it.
        let number = parse_i64(&digits[..len]).unwrap_or(if len == 0 { 0 } else { i64::MAX });
        let end = &rest[(1 + len).min(rest.len())..];
        self.newline(&end[..end.len().min(2)], self.at)?;
        self.at += 1 + len + 2;
        Ok(number)
    }

    fn newline(&mut self, found: &[u8], at: usize) -> Result<(), Stop> {
        if found != b"\r\n" {
            let byte = |n: usize| found.get(n).copied().unwrap_or(0);
            let why = format!("Expected \\r\\n, got: {:02x}{:02x}", byte(0), byte(1));
            return Err(Some(place(at, &why)));
        }
        self.line += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &[u8]) -> Checked {
        Checker::new(None).check("x", log, 0, &mut |_| ())
    }

    const SET: &[u8] = b"*3\r\n$3\r\nset\r\n$3\r\nfoo\r\n$5\r\nhello\r\n";

    #[test]
    fn a_whole_log_is_whole() {
        let log = [b"#TS:5\r\n", SET, b"*1\r\n$5\r\nMULTI\r\n", SET, b"*1\r\n$4\r\nEXEC\r\n"].concat();
        let found = check(&log);
        assert_eq!((found.error, found.ok_up_to), (None, log.len() as u64));
        assert_eq!((found.commands, found.line), (4, 21));
    }

    #[test]
    fn damage_is_told_with_its_place_in_the_words_of_redis() {
        let line = |tail: &[u8]| check(&[SET, tail].concat());
        let found = line(b"!!!");
        assert_eq!(found.error.as_deref(), Some("AOF x format error"));
        assert_eq!((found.ok_up_to, found.line), (SET.len() as u64, 8));
        for (tail, expected) in [
            (&b"*1\r\n$10\r\nabc\r\n"[..], "Expected to read 12 bytes, got 5 bytes"),
            (b"*1\r\n:1\r\na\r\n", "Expected prefix '$', got: ':'"),
            (b"*1\r\n$1\r\nabc", "Expected \\r\\n, got: 6263"),
            (b"*1\r\n$-3\r\nabc", "Expected to read string of -3 bytes"),
            (b"*1\r\n$4\r\nexec\r\n", "Unexpected EXEC in AOF x"),
            (b"*1\r\n$5\r\nmulti\r\n*1\r\n$5\r\nmulti\r\n", "Unexpected MULTI in AOF x"),
            (b"*1\r\n$5\r\nmulti\r\n", "Reached EOF before reading EXEC for MULTI"),
            (b"*1", "Expected \\r\\n, got: 0000"),
            (b"*1\r\n$99999999999999999999999\r\n", "not in the suitable range"),
        ] {
            let found = line(tail);
            let error = found.error.unwrap_or_default();
            assert!(error.contains(expected), "{tail:?}: {error}");
            assert_eq!(found.ok_up_to, SET.len() as u64, "{tail:?}");
        }
    }

    #[test]
    fn no_prefix_and_no_byte_changed_makes_it_panic() {
        let log = [b"#TS:5\r\n", SET, b"*1\r\n$5\r\nMULTI\r\n", SET, b"*1\r\n$4\r\nEXEC\r\n"].concat();
        for at in 0..log.len() {
            let found = check(&log[..at]);
            assert!(found.ok_up_to <= at as u64);
            for byte in [0, b'9', b'-', b'\n', b'*', 0xff] {
                let mut bad = log.clone();
                bad[at] = byte;
                assert!(check(&bad).ok_up_to <= bad.len() as u64);
            }
        }
    }

    #[test]
    fn a_time_ends_the_check_before_the_first_later_annotation() {
        let log = [b"#TS:5\r\n", SET, b"#TS:6\r\n", SET].concat();
        let until = |t| Checker::new(Some(t)).check("x", &log, 0, &mut |_| ()).later;
        assert_eq!(until(4), Some(0));
        assert_eq!(until(5), Some(7 + SET.len() as u64));
        assert_eq!(until(6), None);
    }
}
