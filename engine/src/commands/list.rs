//! List commands; those that wait build on them in `blocking.rs`.
//!
//! All are logged as they came, except LMPOP, which becomes the LPOP or RPOP of the key it found.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::encoding::LpValue;
use crate::keyspace::{Ctx, Event, Keys, int_arg};
use crate::resp::Reply;
use crate::value::list::NodeLimit;
use crate::value::{List, Type};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

impl End {
    /// `LEFT` or `RIGHT`, in any case.
    pub(super) fn parse(word: &[u8]) -> Result<End, CmdError> {
        if word.eq_ignore_ascii_case(b"left") {
            Ok(End::Left)
        } else if word.eq_ignore_ascii_case(b"right") {
            Ok(End::Right)
        } else {
            Err(CmdError::Syntax)
        }
    }

    /// What a push there is called.
    fn pushed(self) -> Event {
        if self == End::Left { Event::LPush } else { Event::RPush }
    }

    /// What a pop there is called.
    fn popped(self) -> Event {
        if self == End::Left { Event::LPop } else { Event::RPop }
    }

    fn peek(self, list: &List) -> Option<LpValue<'_>> {
        match self {
            End::Left => list.front(),
            End::Right => list.back(),
        }
    }

    fn push(self, list: &mut List, text: &[u8], limit: NodeLimit) {
        match self {
            End::Left => list.push_front(text, limit),
            End::Right => list.push_back(text, limit),
        }
    }

    fn pop(self, list: &mut List) -> Option<Vec<u8>> {
        match self {
            End::Left => list.pop_front(),
            End::Right => list.pop_back(),
        }
    }
}

fn node_limit(keys: &Keys<'_>) -> NodeLimit {
    NodeLimit::from_config(keys.limits().list())
}

fn put(out: &mut Reply<'_>, value: LpValue<'_>) {
    out.bulk(value.as_bytes(&mut itoa::Buffer::new()));
}

/// An integer of at least `least`; whatever else it is, `text` is the error.
fn bounded(arg: &[u8], least: i64, text: &'static str) -> Result<i64, CmdError> {
    crate::num::parse_i64(arg).filter(|n| *n >= least).ok_or(CmdError::text(text))
}

/// `start` and `stop` as LRANGE takes them, as a first index and a count (0 for an empty range).
fn range_of(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len).max(0) } else { i };
    let stop = if stop < 0 { stop.saturating_add(len) } else { stop.min(len - 1) };
    let start = from_end(start);
    if start > stop || start >= len { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

fn index_of(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

fn push(cx: &mut Ctx<'_>, a: &[&[u8]], end: End, create: bool) -> CmdResult {
    let limit = node_limit(&cx.keys);
    let list = if create {
        cx.keys.write_or_create::<List>(a[1])?
    } else {
        match cx.keys.write::<List>(a[1])? {
            Some(list) => list,
            None => {
                cx.out.int(0);
                return Ok(());
            }
        }
    };
    for text in &a[2..] {
        end.push(list, text, limit);
    }
    cx.out.int(list.len() as i64);
    cx.changed_elements(a[1], a.len() - 2, end.pushed());
    Ok(())
}

fn lpush(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    push(cx, a, End::Left, true)
}

fn rpush(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    push(cx, a, End::Right, true)
}

fn lpushx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    push(cx, a, End::Left, false)
}

fn rpushx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    push(cx, a, End::Right, false)
}

/// Replies the first `count` elements from an end as an array and removes them; how many there were.
fn pop_many(out: &mut Reply<'_>, list: &mut List, end: End, count: usize) -> usize {
    let (len, count) = (list.len(), count.min(list.len()));
    out.array(count);
    match end {
        End::Left => {
            list.range(0, count).for_each(|v| put(out, v));
            list.remove_range(0, count)
        }
        End::Right => {
            list.iter_back_from(len - 1).take(count).for_each(|v| put(out, v));
            list.remove_range(len - count, count)
        }
    }
}

fn pop(cx: &mut Ctx<'_>, a: &[&[u8]], end: End, name: &str) -> CmdResult {
    if a.len() > 3 {
        return Err(CmdError::arity(name));
    }
    let count = match a.get(2) {
        Some(arg) => Some(bounded(arg, 0, "ERR value is out of range, must be positive")?),
        None => None,
    };
    if count == Some(0) {
        // A pop of nothing is no write.
        match cx.keys.read::<List>(a[1])? {
            Some(_) => cx.out.array(0),
            None => cx.out.null_array(),
        }
        return Ok(());
    }
    let Some(list) = cx.keys.write::<List>(a[1])? else {
        match count {
            Some(_) => cx.out.null_array(),
            None => cx.out.null(),
        }
        return Ok(());
    };
    let removed = match count {
        Some(n) => pop_many(&mut cx.out, list, end, usize::try_from(n).unwrap_or(usize::MAX)),
        None => {
            if let Some(value) = end.peek(list) {
                put(&mut cx.out, value);
            }
            match end {
                End::Left => list.drop_front(),
                End::Right => list.drop_back(),
            };
            1
        }
    };
    cx.removed_elements(a[1], removed, end.popped());
    Ok(())
}

fn lpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    pop(cx, a, End::Left, "lpop")
}

fn rpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    pop(cx, a, End::Right, "rpop")
}

fn llen(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let len = cx.keys.read::<List>(a[1])?.map_or(0, List::len);
    cx.out.int(len as i64);
    Ok(())
}

fn lrange(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (start, stop) = (int_arg(a[2])?, int_arg(a[3])?);
    let Some(list) = cx.keys.read::<List>(a[1])? else {
        cx.out.array(0);
        return Ok(());
    };
    let (start, count) = range_of(start, stop, list.len());
    cx.out.array(count);
    list.range(start, count).for_each(|v| put(&mut cx.out, v));
    Ok(())
}

fn lindex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let Some(list) = cx.keys.read::<List>(a[1])? else {
        cx.out.null();
        return Ok(());
    };
    match index_of(int_arg(a[2])?, list.len()).and_then(|at| list.get(at)) {
        Some(value) => put(&mut cx.out, value),
        None => cx.out.null(),
    }
    Ok(())
}

fn lset(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let len = cx.keys.read_to_change::<List>(a[1])?.ok_or(CmdError::NoSuchKey)?.len();
    let at = index_of(int_arg(a[2])?, len).ok_or(CmdError::IndexOutOfRange)?;
    let limit = node_limit(&cx.keys);
    if let Some(list) = cx.keys.write::<List>(a[1])? {
        list.set(at, a[3], limit);
    }
    cx.changed(a[1], Event::LSet);
    cx.out.ok();
    Ok(())
}

fn linsert(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let after = if a[2].eq_ignore_ascii_case(b"after") {
        1
    } else if a[2].eq_ignore_ascii_case(b"before") {
        0
    } else {
        return Err(CmdError::Syntax);
    };
    let Some(list) = cx.keys.read_to_change::<List>(a[1])? else {
        cx.out.int(0);
        return Ok(());
    };
    let Some(pivot) = list.find(a[3]) else {
        cx.out.int(-1);
        return Ok(());
    };
    let limit = node_limit(&cx.keys);
    if let Some(list) = cx.keys.write::<List>(a[1])? {
        list.insert(pivot + after, a[4], limit);
        cx.out.int(list.len() as i64);
    }
    cx.changed(a[1], Event::LInsert);
    Ok(())
}

fn lrem(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let count = int_arg(a[2])?;
    // Looking first spares a list without the element a pre-image.
    if cx.keys.read_to_change::<List>(a[1])?.is_none_or(|list| list.find(a[3]).is_none()) {
        cx.out.int(0);
        return Ok(());
    }
    let removed = cx.keys.write::<List>(a[1])?.map_or(0, |list| list.remove(count, a[3]));
    cx.out.int(removed as i64);
    cx.removed_elements(a[1], removed, Event::LRem);
    Ok(())
}

fn ltrim(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (start, stop) = (int_arg(a[2])?, int_arg(a[3])?);
    let Some(len) = cx.keys.read_to_change::<List>(a[1])?.map(List::len) else {
        cx.out.ok();
        return Ok(());
    };
    let (start, count) = range_of(start, stop, len);
    if count == len {
        // Nothing goes, but watchers of the key are told, as Redis does.
        let db = cx.keys.db;
        cx.keys.touched(db, a[1], Event::LTrim);
    } else {
        if let Some(list) = cx.keys.write::<List>(a[1])? {
            list.trim(start, count);
        }
        cx.removed_elements(a[1], len - count, Event::LTrim);
    }
    cx.out.ok();
    Ok(())
}

pub(super) fn move_element(cx: &mut Ctx<'_>, from: &[u8], to: &[u8], take: End, give: End) -> CmdResult {
    if cx.keys.read_to_change::<List>(from)?.is_none() {
        cx.out.null();
        return Ok(());
    }
    if cx.keys.type_of(to).is_some_and(|t| t != Type::List) {
        return Err(CmdError::WrongType);
    }
    let limit = node_limit(&cx.keys);
    let Some(text) = cx.keys.write::<List>(from)?.and_then(|list| take.pop(list)) else {
        cx.out.null();
        return Ok(());
    };
    give.push(cx.keys.write_or_create::<List>(to)?, &text, limit);
    cx.out.bulk(&text);
    let db = cx.keys.db;
    cx.keys.touched(db, to, give.pushed());
    cx.removed_elements(from, 1, take.popped());
    Ok(())
}

fn lmove(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (take, give) = (End::parse(a[3])?, End::parse(a[4])?);
    move_element(cx, a[1], a[2], take, give)
}

fn rpoplpush(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    move_element(cx, a[1], a[2], End::Right, End::Left)
}

fn lpos(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (mut rank, mut count, mut max_len) = (1, None, 0);
    let mut at = 3;
    while at < a.len() {
        let Some(arg) = a.get(at + 1) else { return Err(CmdError::Syntax) };
        if a[at].eq_ignore_ascii_case(b"rank") {
            rank = int_arg(arg)?;
            if rank == 0 {
                return Err(CmdError::text(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                     or use negative to start from the end of the list",
                ));
            }
        } else if a[at].eq_ignore_ascii_case(b"count") {
            count = Some(bounded(arg, 0, "ERR COUNT can't be negative")?);
        } else if a[at].eq_ignore_ascii_case(b"maxlen") {
            max_len = bounded(arg, 0, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 2;
    }
    let Some(list) = cx.keys.read::<List>(a[1])? else {
        match count {
            Some(_) => cx.out.array(0),
            None => cx.out.null(),
        }
        return Ok(());
    };
    let limit = |n: i64| if n == 0 { usize::MAX } else { usize::try_from(n).unwrap_or(usize::MAX) };
    let skip = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let (wanted, last) = (limit(count.unwrap_or(1)), list.len() - 1);
    let hit = |(i, v): (usize, LpValue<'_>)| v.eq_bytes(a[2]).then_some(i);
    let found: Vec<usize> = if rank > 0 {
        let hits = list.iter().enumerate().take(limit(max_len)).filter_map(hit);
        hits.skip(skip).take(wanted).collect()
    } else {
        let backward = list.iter_back_from(last).enumerate().map(|(i, v)| (last - i, v));
        backward.take(limit(max_len)).filter_map(hit).skip(skip).take(wanted).collect()
    };
    if count.is_some() {
        cx.out.array(found.len());
        found.iter().for_each(|i| cx.out.int(*i as i64));
    } else {
        match found.first() {
            Some(i) => cx.out.int(*i as i64),
            None => cx.out.null(),
        }
    }
    Ok(())
}

/// The words of LMPOP behind its name (BLMPOP's behind its timeout).
pub(super) struct MultiPop {
    /// Position of the first word that is no key.
    keys_end: usize,
    end: End,
    count: usize,
}

impl MultiPop {
    /// Reads `? NUMKEYS KEY ... LEFT|RIGHT [COUNT n]`.
    pub(super) fn parse(a: &[&[u8]]) -> Result<MultiPop, CmdError> {
        let keys = bounded(a[1], 1, "ERR numkeys should be greater than 0")?;
        let end_at = usize::try_from(keys).ok().and_then(|n| n.checked_add(2)).filter(|at| *at < a.len());
        let end_at = end_at.ok_or(CmdError::Syntax)?;
        let end = End::parse(a[end_at])?;
        let mut count = None;
        let mut at = end_at + 1;
        while at < a.len() {
            if count.is_some() || !a[at].eq_ignore_ascii_case(b"count") || at + 1 >= a.len() {
                return Err(CmdError::Syntax);
            }
            count = Some(bounded(a[at + 1], 1, "ERR count should be greater than 0")?);
            at += 2;
        }
        let count = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
        Ok(MultiPop { keys_end: end_at, end, count })
    }

    /// Pops from `key`, and replies, where there is a list; false where there is none.
    pub(super) fn take(&self, cx: &mut Ctx<'_>, key: &[u8]) -> Result<bool, CmdError> {
        let Some(list) = cx.keys.write::<List>(key)? else { return Ok(false) };
        cx.out.array(2);
        cx.out.bulk(key);
        let removed = pop_many(&mut cx.out, list, self.end, self.count);
        cx.removed_elements(key, removed, self.end.popped());
        let name: &[u8] = if self.end == End::Left { b"LPOP" } else { b"RPOP" };
        cx.propagate(&[name, key, itoa::Buffer::new().format(removed).as_bytes()]);
        Ok(true)
    }
}

fn lmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let pop = MultiPop::parse(a)?;
    for key in &a[2..pop.keys_end] {
        if pop.take(cx, key)? {
            return Ok(());
        }
    }
    cx.out.null_array();
    Ok(())
}

/// Pops one element of a list that is there and replies it with its key (BLPOP, BRPOP).
pub(super) fn serve_pop(cx: &mut Ctx<'_>, key: &[u8], end: End) -> CmdResult {
    let Some(value) = cx.keys.write::<List>(key)?.and_then(|list| end.pop(list)) else { return Ok(()) };
    cx.out.array(2);
    cx.out.bulk(key);
    cx.out.bulk(&value);
    cx.removed_elements(key, 1, end.popped());
    cx.propagate(&[if end == End::Left { b"LPOP" } else { b"RPOP" }, key]);
    Ok(())
}

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
    run: crate::command::KeyFn,
) -> Command {
    Command::row(name, arity, flags, keys, "list", since, summary, Run::Keys(run))
}

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    row("lpush", -3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0", "Puts elements in front of a list", lpush),
    row(
        "rpush",
        -3,
        Flags::WRITE_OOM_FAST,
        KeySpec::ONE,
        "1.0.0",
        "Puts elements behind the end of a list",
        rpush,
    ),
    row(
        "lpushx",
        -3,
        Flags::WRITE_OOM_FAST,
        KeySpec::ONE,
        "2.2.0",
        "Puts elements in front of a list that is there",
        lpushx,
    ),
    row(
        "rpushx",
        -3,
        Flags::WRITE_OOM_FAST,
        KeySpec::ONE,
        "2.2.0",
        "Puts elements behind the end of a list that is there",
        rpushx,
    ),
    row(
        "lpop",
        -2,
        Flags::WRITE_FAST,
        KeySpec::ONE,
        "1.0.0",
        "Takes elements from the front of a list",
        lpop,
    ),
    row("rpop", -2, Flags::WRITE_FAST, KeySpec::ONE, "1.0.0", "Takes elements from the end of a list", rpop),
    row("llen", 2, Flags::READ_FAST, KeySpec::ONE, "1.0.0", "The length of a list", llen),
    row(
        "lrange",
        4,
        Flags::READONLY,
        KeySpec::ONE,
        "1.0.0",
        "The elements between two places of a list",
        lrange,
    ),
    row("lindex", 3, Flags::READONLY, KeySpec::ONE, "1.0.0", "The element at a place of a list", lindex),
    row(
        "lset",
        4,
        Flags::WRITE_OOM,
        KeySpec::ONE,
        "1.0.0",
        "Replaces the element at a place of a list",
        lset,
    ),
    row(
        "linsert",
        5,
        Flags::WRITE_OOM,
        KeySpec::ONE,
        "2.2.0",
        "Puts an element before or behind another in a list",
        linsert,
    ),
    row("lrem", 4, Flags::WRITE, KeySpec::ONE, "1.0.0", "Removes elements that are equal to one", lrem),
    row(
        "ltrim",
        4,
        Flags::WRITE,
        KeySpec::ONE,
        "1.0.0",
        "Keeps the elements between two places of a list and removes the others",
        ltrim,
    ),
    row(
        "lmove",
        5,
        Flags::WRITE_OOM,
        KeySpec::TWO,
        "6.2.0",
        "Moves an end element of one list to an end of another",
        lmove,
    ),
    row(
        "rpoplpush",
        3,
        Flags::WRITE_OOM,
        KeySpec::TWO,
        "1.2.0",
        "Moves the last element of one list to the front of another",
        rpoplpush,
    ),
    row("lpos", -3, Flags::READONLY, KeySpec::ONE, "6.0.6", "Where in a list an element stands", lpos),
    row(
        "lmpop",
        -4,
        Flags::WRITE.union(Flags::MOVABLEKEYS),
        KeySpec::Counted { at: 1, also: 0 },
        "7.0.0",
        "Takes elements from the first list that has some",
        lmpop,
    ),
];
