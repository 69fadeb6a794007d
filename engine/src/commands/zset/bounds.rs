//! Ranges as commands spell them: by rank, by score, by member; each becomes a range of ranks.

use crate::command::CmdError;
use crate::keyspace::int_arg;
use crate::num::parse_f64;
use crate::value::ZSet;
use std::ops::Range;

/// What a range counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

/// A parsed range.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bounds<'a> {
    /// First and last rank; negative ones count from the end.
    Rank(i64, i64),
    Score(Limit<f64>, Limit<f64>),
    Lex(LexLimit<'a>, LexLimit<'a>),
}

/// An end of a range; `open` leaves the value itself out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<T> {
    value: T,
    open: bool,
}

/// An end of a range by member.
#[derive(Clone, Copy, Debug)]
pub(super) enum LexLimit<'a> {
    /// `-`: before every member.
    Lowest,
    /// `+`: behind every member.
    Highest,
    /// `[` or `(` and a member.
    Member(Limit<&'a [u8]>),
}

impl<'a> Bounds<'a> {
    /// Parses the lower and the upper end.
    pub(super) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, CmdError> {
        const NOT_FLOAT: CmdError = CmdError::text("ERR min or max is not a float");
        const NOT_LEX: CmdError = CmdError::text("ERR min or max not valid string range item");
        Ok(match by {
            By::Rank => Bounds::Rank(int_arg(min)?, int_arg(max)?),
            By::Score => {
                Bounds::Score(score_limit(min).ok_or(NOT_FLOAT)?, score_limit(max).ok_or(NOT_FLOAT)?)
            }
            By::Lex => Bounds::Lex(lex_limit(min).ok_or(NOT_LEX)?, lex_limit(max).ok_or(NOT_LEX)?),
        })
    }

    /// The ranks it covers, counted from the lowest score; `backward` where the command counts its own ranks from
    /// the highest. The start is never beyond the end.
    pub(super) fn ranks(&self, set: &ZSet, backward: bool) -> Range<usize> {
        let range = match *self {
            Bounds::Rank(first, last) => {
                let len = set.len();
                let range = index_range(first, last, len);
                if backward { len - range.end..len - range.start } else { range }
            }
            Bounds::Score(min, max) => {
                let below = |_: &[u8], s: f64| if min.open { s <= min.value } else { s < min.value };
                let within = |_: &[u8], s: f64| if max.open { s < max.value } else { s <= max.value };
                set.partition_point(below)..set.partition_point(within)
            }
            Bounds::Lex(min, max) => {
                set.partition_point(|m, _| min.is_above(m))..set.partition_point(|m, _| max.reaches(m))
            }
        };
        range.start..range.end.max(range.start)
    }
}

/// Redis' inclusive indexes with negative ones from the end, as a range within `len`.
fn index_range(first: i64, last: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let absolute = |i: i64| if i < 0 { i + len } else { i };
    let first = absolute(first).max(0);
    let last = absolute(last).min(len - 1);
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

impl LexLimit<'_> {
    /// As a lower end: is this member before it?
    fn is_above(&self, member: &[u8]) -> bool {
        match self {
            LexLimit::Lowest => false,
            LexLimit::Highest => true,
            LexLimit::Member(m) if m.open => member <= m.value,
            LexLimit::Member(m) => member < m.value,
        }
    }

    /// As an upper end: is this member not behind it?
    fn reaches(&self, member: &[u8]) -> bool {
        match self {
            LexLimit::Lowest => false,
            LexLimit::Highest => true,
            LexLimit::Member(m) if m.open => member < m.value,
            LexLimit::Member(m) => member <= m.value,
        }
    }
}

fn score_limit(text: &[u8]) -> Option<Limit<f64>> {
    let (text, open) = match text {
        [b'(', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    strtod(text).map(|value| Limit { value, open })
}

/// A number as C's `strtod` reads it off a C string, which is what ranges are parsed with (scores are not): nothing
/// at all is 0, white space may lead, a NUL ends the text, too large is infinite and too small is 0.
fn strtod(text: &[u8]) -> Option<f64> {
    let text = text.split(|c| *c == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let space = text.iter().take_while(|c| c.is_ascii_whitespace() || **c == 0x0b).count();
    let text = &text[space..];
    parse_f64(text)
        .or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
        .filter(|value: &f64| !value.is_nan())
}

fn lex_limit(text: &[u8]) -> Option<LexLimit<'_>> {
    Some(match text {
        [b'-'] | [b'-', 0, ..] => LexLimit::Lowest,
        [b'+'] | [b'+', 0, ..] => LexLimit::Highest,
        [b'[', value @ ..] => LexLimit::Member(Limit { value, open: false }),
        [b'(', value @ ..] => LexLimit::Member(Limit { value, open: true }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_by_score_are_read_as_strtod_reads_them() {
        for (text, value, open) in [
            ("", 0.0, false),
            ("(", 0.0, true),
            ("(1.5", 1.5, true),
            (" 1", 1.0, false),
            ("(\t1", 1.0, true),
            ("1\0x", 1.0, false),
            ("1e400", f64::INFINITY, false),
            ("-1e400", f64::NEG_INFINITY, false),
            ("1e-400", 0.0, false),
            ("+inf", f64::INFINITY, false),
            ("(-INFINITY", f64::NEG_INFINITY, true),
            ("0x10", 16.0, false),
        ] {
            let limit = score_limit(text.as_bytes()).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!((limit.value, limit.open), (value, open), "{text:?}");
        }
        for text in [" ", "nan", "(nan", "((1", "1 ", "a", "1a", "[1"] {
            assert!(score_limit(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn indexes_are_clipped() {
        assert_eq!(index_range(0, -1, 5), 0..5);
        assert_eq!(index_range(-100, 100, 5), 0..5);
        assert_eq!(index_range(-2, -2, 5), 3..4);
        assert_eq!(index_range(3, 1, 5), 0..0);
        assert_eq!(index_range(5, 9, 5), 0..0);
        assert_eq!(index_range(i64::MIN, i64::MAX, 5), 0..5);
        assert_eq!(index_range(0, -9, 5), 0..0);
        assert_eq!(index_range(0, -1, 0), 0..0);
    }
}
