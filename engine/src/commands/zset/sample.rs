//! Looking at members in no order: ZSCAN and ZRANDMEMBER.

use super::{put_member, put_pair};
use crate::command::{CmdError, CmdResult};
use crate::commands::keys::cursor_arg;
use crate::glob::glob_match;
use crate::hash::random_u64;
use crate::keyspace::{Ctx, int_arg};
use crate::num::fmt_f64;
use crate::resp::Reply;
use crate::value::{ZSet, zset};
use std::collections::HashSet;

/// Most members ZRANDMEMBER repeats for a negative count: a reply is built in memory.
const MAX_REPEATED: u64 = 1 << 26;

pub(super) fn zscan(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let cursor = cursor_arg(a[2])?;
    let Some(set) = cx.keys.read::<ZSet>(a[1])? else {
        cx.out.array(2);
        cx.out.bulk(b"0");
        cx.out.array(0);
        return Ok(());
    };
    let (mut count, mut pattern) = (10, None);
    for option in a[3..].chunks(2) {
        let &[name, value] = option else { return Err(CmdError::SYNTAX) };
        if name.eq_ignore_ascii_case(b"count") {
            count = int_arg(value)?;
            if count < 1 {
                return Err(CmdError::SYNTAX);
            }
        } else if name.eq_ignore_ascii_case(b"match") {
            pattern = (value != b"*").then_some(value);
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    // The cursor stands before the members in the reply but is known after them.
    let (mut found, mut n) = (Vec::new(), 0);
    let mut reply = Reply::new(&mut found, cx.out.is_resp3());
    let mut text = Vec::new();
    // Scores come as they are stored: a listpack holds large whole numbers digit by digit.
    let packed = set.listpack().is_some();
    let next = set.scan(cursor, count as usize, |member, score| {
        let mut buffer = itoa::Buffer::new();
        let member = member.as_bytes(&mut buffer);
        if pattern.is_none_or(|pattern| glob_match(pattern, member, false)) {
            text.clear();
            if packed {
                zset::write_packed_score(score, &mut text)
            } else {
                fmt_f64(score, &mut text)
            }
            reply.bulk(member);
            reply.bulk(&text);
            n += 2;
        }
    });
    cx.out.array(2);
    cx.out.bulk(itoa::Buffer::new().format(next).as_bytes());
    cx.out.array(n);
    cx.out.raw().extend_from_slice(&found);
    Ok(())
}

pub(super) fn zrandmember(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (count, with_scores) = match a {
        [_, key] => {
            match cx.keys.read::<ZSet>(key)?.and_then(ZSet::random) {
                Some((member, _)) => put_member(&mut cx.out, member),
                None => cx.out.null(),
            }
            return Ok(());
        }
        [_, _, count, options @ ..] => {
            let count = int_arg(count)?;
            if count == i64::MIN {
                return Err(CmdError::text(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
            match options {
                [] => (count, false),
                [word] if word.eq_ignore_ascii_case(b"withscores") => (count, true),
                _ => return Err(CmdError::SYNTAX),
            }
        }
        _ => return Err(CmdError::SYNTAX),
    };
    const OUT_OF_RANGE: CmdError = CmdError::text("ERR value is out of range");
    if with_scores && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(OUT_OF_RANGE);
    }
    let Some(set) = cx.keys.read::<ZSet>(a[1])? else {
        cx.out.array(0);
        return Ok(());
    };
    let repeated = count < 0;
    if repeated && count.unsigned_abs() > MAX_REPEATED {
        return Err(OUT_OF_RANGE);
    }
    let n = match usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) {
        n if repeated => n,
        n => n.min(set.len()),
    };
    cx.out.array(n * if with_scores && !cx.out.is_resp3() { 2 } else { 1 });
    let out = &mut cx.out;
    let mut put = |(member, score)| put_pair(out, member, with_scores.then_some(score));
    if repeated {
        (0..n).filter_map(|_| set.random()).for_each(put);
    } else if n == set.len() {
        // All of them come from the highest score down, as in Redis.
        set.range(0..n, true).for_each(put);
    } else {
        // Floyd: a set of n different ranks, each with the same chance, in n steps.
        let mut chosen = HashSet::with_capacity(n);
        for top in set.len() - n..set.len() {
            let rank = (random_u64() % (top as u64 + 1)) as usize;
            let rank = if chosen.insert(rank) { rank } else { top };
            chosen.insert(rank);
            set.get(rank).into_iter().for_each(&mut put);
        }
    }
    Ok(())
}
