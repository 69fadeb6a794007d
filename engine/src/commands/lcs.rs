//! LCS: the longest common subsequence of two strings, by the classic table of prefix lengths.
//!
//! The table has a cell for every pair of prefixes, so its size is the product of the lengths; it is bounded by
//! `proto-max-bulk-len`, as in Redis.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::keyspace::{Ctx, StrRef, int_arg};
use std::sync::atomic::Ordering;

#[derive(Default)]
struct Options {
    idx: bool,
    len: bool,
    with_match_len: bool,
    min_match_len: i64,
}

impl Options {
    fn parse(words: &[&[u8]]) -> Result<Options, CmdError> {
        let mut o = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("IDX") {
                o.idx = true;
            } else if is("LEN") {
                o.len = true;
            } else if is("WITHMATCHLEN") {
                o.with_match_len = true;
            } else if is("MINMATCHLEN") {
                o.min_match_len = int_arg(words.next().ok_or(CmdError::Syntax)?)?.max(0);
            } else {
                return Err(CmdError::Syntax);
            }
        }
        if o.idx && o.len {
            return Err(CmdError::text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(o)
    }
}

/// A stretch that both strings share: where it begins in each, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// Lengths of the common subsequences of all prefixes.
struct Prefixes<'s> {
    a: &'s [u8],
    b: &'s [u8],
    cells: Vec<u32>,
}

impl<'s> Prefixes<'s> {
    fn new(a: &'s [u8], b: &'s [u8], max_bytes: usize) -> Result<Prefixes<'s>, CmdError> {
        let bytes = (a.len() as u128 + 1) * (b.len() as u128 + 1) * size_of::<u32>() as u128;
        if bytes > max_bytes as u128 {
            return Err(CmdError::text(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let n = (a.len() + 1) * (b.len() + 1);
        let mut cells = Vec::new();
        cells.try_reserve_exact(n).map_err(|_| {
            CmdError::text("ERR Insufficient memory, failed allocating transient memory for LCS")
        })?;
        cells.resize(n, 0);
        let mut p = Prefixes { a, b, cells };
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                let longest = if a[i - 1] == b[j - 1] {
                    p.at(i - 1, j - 1) + 1
                } else {
                    p.at(i - 1, j).max(p.at(i, j - 1))
                };
                p.cells[i * (b.len() + 1) + j] = longest;
            }
        }
        Ok(p)
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.b.len() + 1) + j]
    }

    fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The stretches of the subsequence, last first. Among equally long ones the choice is Redis'.
    fn matches(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut found: Vec<Match> = Vec::new();
        let mut contiguous = false;
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                i -= 1;
                j -= 1;
                match found.last_mut() {
                    Some(m) if contiguous => *m = Match { a: i, b: j, len: m.len + 1 },
                    _ => found.push(Match { a: i, b: j, len: 1 }),
                }
                contiguous = true;
            } else {
                contiguous = false;
                if self.at(i - 1, j) > self.at(i, j - 1) { i -= 1 } else { j -= 1 }
            }
        }
        found
    }
}

fn lcs(cx: &mut Ctx<'_>, args: &[&[u8]]) -> CmdResult {
    let mut texts = [Vec::new(), Vec::new()];
    for (text, key) in texts.iter_mut().zip(&args[1..3]) {
        let value = cx.keys.string(key);
        match value.map_err(|_| CmdError::text("ERR The specified keys must contain string values"))? {
            None => {}
            Some(StrRef::Bytes(b)) => text.extend_from_slice(b),
            Some(StrRef::Int(i)) => crate::num::fmt_i64(i, text),
        }
    }
    let o = Options::parse(&args[3..])?;
    let [a, b] = &texts;
    let prefixes = Prefixes::new(a, b, cx.keys.limits().max_string.load(Ordering::Relaxed))?;
    if o.len {
        cx.out.int(prefixes.len() as i64);
        return Ok(());
    }
    let mut matches = prefixes.matches();
    if !o.idx {
        let text: Vec<u8> = matches.iter().rev().flat_map(|m| &a[m.a..m.a + m.len]).copied().collect();
        cx.out.bulk(&text);
        return Ok(());
    }
    matches.retain(|m| m.len as i64 >= o.min_match_len);
    cx.out.map(2);
    cx.out.bulk(b"matches");
    cx.out.array(matches.len());
    for m in &matches {
        cx.out.array(2 + usize::from(o.with_match_len));
        for start in [m.a, m.b] {
            cx.out.array(2);
            cx.out.int(start as i64);
            cx.out.int((start + m.len - 1) as i64);
        }
        if o.with_match_len {
            cx.out.int(m.len as i64);
        }
    }
    cx.out.bulk(b"len");
    cx.out.int(prefixes.len() as i64);
    Ok(())
}

/// The row.
pub(crate) const COMMANDS: &[Command] = &[Command::row(
    "lcs",
    -3,
    Flags::READONLY,
    KeySpec::TWO,
    "string",
    "7.0.0",
    "The longest sequence that two strings have in common",
    Run::Keys(lcs),
)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsequence_and_its_stretches_are_found() {
        let p = Prefixes::new(b"ohmytext", b"mynewtext", 1 << 20).unwrap();
        assert_eq!(p.len(), 6);
        assert_eq!(p.matches(), [Match { a: 4, b: 5, len: 4 }, Match { a: 2, b: 0, len: 2 }]);
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused() {
        assert!(Prefixes::new(&[b'a'; 100], &[b'b'; 100], 1000).is_err());
    }
}
