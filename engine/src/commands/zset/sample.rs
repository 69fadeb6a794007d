//! Looking at members in no order: ZSCAN and ZRANDMEMBER.

use super::put_pair;
use crate::command::{CmdError, CmdResult};
use crate::commands::{random, scan};
use crate::encoding::LpValue;
use crate::keyspace::{Ctx, syntax};
use crate::num::fmt_f64;
use crate::value::{ZSet, zset};

pub(super) fn zscan(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    scan::scan::<ZSet>(cx, a, |set, cursor, count, found| {
        // Scores come as they are stored: a listpack holds large whole numbers digit by digit.
        let write = if set.listpack().is_some() { zset::write_packed_score } else { fmt_f64 };
        let mut text = Vec::new();
        set.scan(cursor, count, |member, score| {
            text.clear();
            write(score, &mut text);
            found.add(member, Some(LpValue::Str(&text)));
        })
    })
}

impl<'a> random::Source for &'a ZSet {
    type Item = (LpValue<'a>, f64);

    fn len(self) -> usize {
        ZSet::len(self)
    }

    /// From the highest score down, which is the order in which Redis replies all of them.
    fn each(self, f: impl FnMut(Self::Item)) {
        self.range(0..usize::MAX, true).for_each(f);
    }

    fn pick(self) -> Option<Self::Item> {
        self.table().and_then(|_| self.random())
    }

    fn place((member, _): Self::Item) -> usize {
        random::place(member)
    }
}

pub(super) fn zrandmember(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let Some(count) = a.get(2) else {
        match cx.keys.read::<ZSet>(a[1])?.and_then(ZSet::random) {
            Some((member, _)) => cx.out.element(member),
            None => cx.out.null(),
        }
        return Ok(());
    };
    let count = random::count_arg(count)?;
    let with_scores = a.len() > 3;
    if with_scores {
        syntax(a.len() == 4 && a[3].eq_ignore_ascii_case(b"withscores"))?;
        if !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
            return Err(CmdError::text("ERR value is out of range"));
        }
    }
    let replies = if with_scores && !cx.out.is_resp3() { 2 } else { 1 };
    match cx.keys.read::<ZSet>(a[1])? {
        None => cx.out.array(0),
        Some(set) => random::reply(&mut cx.out, set, count, replies, |out, (member, score)| {
            put_pair(out, member, with_scores.then_some(score));
        })?,
    }
    Ok(())
}
