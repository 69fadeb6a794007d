//! The small encoding: members and scores in turn in a listpack, in order of score, then of member.
//!
//! Scores are stored as Redis stores them, so that the bytes are the same: an integer where the score is one, else
//! the text `%.17g` prints. Zero has one spelling here, without a sign.

use crate::encoding::{Listpack, LpValue, listpack};
use crate::num::{fmt_f64, fmt_i64};
use std::ops::Range;

/// Whole numbers up to this size are stored as integers: half of what 64 bits hold, as in Redis.
const MAX_WHOLE: f64 = (1u64 << 62) as f64;

/// Appends a score's text as it is stored.
pub(crate) fn write_score(score: f64, out: &mut Vec<u8>) {
    if score.abs() <= MAX_WHOLE && score.trunc() == score {
        fmt_i64(score as i64, out);
    } else {
        fmt_f64(score, out);
    }
}

fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    write_score(score, &mut text);
    text
}

/// A stored score. Scores are checked when they come in.
#[inline]
fn score_of(value: LpValue<'_>) -> f64 {
    value.to_f64().unwrap_or(0.0)
}

/// How many members there are.
pub(super) fn len(lp: &Listpack) -> usize {
    lp.len() / 2
}

/// Members and scores at these ranks, forward or backward.
pub(super) fn range(lp: &Listpack, ranks: Range<usize>, backward: bool) -> Iter<'_> {
    let end = ranks.end.min(len(lp));
    let left = end.saturating_sub(ranks.start);
    let values = match left {
        0 => lp.iter(),
        _ if backward => lp.at(2 * end as i64 - 1).map_or_else(|| lp.iter(), |pos| lp.iter_to(pos)),
        _ => lp.at(2 * ranks.start as i64).map_or_else(|| lp.iter(), |pos| lp.iter_from(pos)),
    };
    Iter { values, left, backward }
}

/// A member's score.
pub(super) fn score(lp: &Listpack, member: &[u8]) -> Option<f64> {
    let pos = lp.find(member, 1)?;
    lp.next(pos).map(|pos| score_of(lp.value(pos)))
}

/// A member's rank from the lowest score.
pub(super) fn rank(lp: &Listpack, member: &[u8]) -> Option<usize> {
    range(lp, 0..usize::MAX, false).position(|(value, _)| value.eq_bytes(member))
}

/// The number of members at the low end for which `before` holds.
pub(super) fn partition_point(lp: &Listpack, mut before: impl FnMut(&[u8], f64) -> bool) -> usize {
    let mut text = itoa::Buffer::new();
    range(lp, 0..usize::MAX, false)
        .take_while(|(member, score)| before(member.as_bytes(&mut text), *score))
        .count()
}

/// Adds a member that is not there, in its place.
pub(super) fn insert_new(lp: &mut Listpack, member: &[u8], score: f64) {
    let text = score_text(score);
    let mut buffer = itoa::Buffer::new();
    let mut next = lp.first();
    while let Some(pos) = next {
        let Some(score_pos) = lp.next(pos) else { break };
        let here = score_of(lp.value(score_pos));
        if here > score || (here == score && lp.value(pos).as_bytes(&mut buffer) > member) {
            let pos = lp.insert_before(pos, member);
            lp.insert_after(pos, &text);
            return;
        }
        next = lp.next(score_pos);
    }
    lp.push_back(member);
    lp.push_back(&text);
}

/// Removes a member; true where it was there.
pub(super) fn remove(lp: &mut Listpack, member: &[u8]) -> bool {
    let Some(pos) = lp.find(member, 1) else { return false };
    lp.remove_run(pos, 2);
    true
}

/// Removes the members at these ranks; how many there were.
pub(super) fn remove_range(lp: &mut Listpack, ranks: Range<usize>) -> usize {
    let count = ranks.end.min(len(lp)).saturating_sub(ranks.start);
    if count > 0 {
        lp.remove_range(2 * ranks.start as i64, 2 * count);
    }
    count
}

/// What is wrong with a listpack as a sorted set.
pub(super) enum Fault {
    /// It is none.
    Invalid(&'static str),
    /// It is one, but out of order.
    Unsorted,
}

/// Checks a listpack from outside.
pub(super) fn check(lp: &Listpack) -> Result<(), Fault> {
    if !lp.len().is_multiple_of(2) {
        return Err(Fault::Invalid("a member without a score"));
    }
    // A member may be stored as text although it reads as an integer: one key for either.
    let mut members: Vec<(Option<i64>, &[u8])> = Vec::with_capacity(len(lp));
    let mut values = lp.iter();
    let mut sorted = true;
    let mut last: Option<(f64, LpValue<'_>)> = None;
    let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let (Some(member), Some(score)) = (values.next(), values.next()) {
        let score = score.to_f64().ok_or(Fault::Invalid("a score that is not a number"))?;
        members.push(match (member.to_i64(), member) {
            (Some(number), _) => (Some(number), &[]),
            (None, LpValue::Str(text)) => (None, text),
            (None, LpValue::Int(_)) => unreachable!("an integer reads as one"),
        });
        if let Some((before, other)) = last {
            sorted &= before < score || (before == score && other.as_bytes(&mut a) < member.as_bytes(&mut b));
        }
        last = Some((score, member));
    }
    members.sort_unstable();
    if members.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::Invalid("a member twice"));
    }
    if sorted { Ok(()) } else { Err(Fault::Unsorted) }
}

/// Members and scores of a run of ranks, in the direction asked for.
pub(super) struct Iter<'a> {
    values: listpack::Iter<'a>,
    left: usize,
    backward: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (LpValue<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.backward {
            let score = score_of(self.values.next_back()?);
            return Some((self.values.next_back()?, score));
        }
        let member = self.values.next()?;
        Some((member, score_of(self.values.next()?)))
    }
}
