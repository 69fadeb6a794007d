//! Union, intersection and difference of sorted sets, and of plain sets as sorted sets with score 1.
//!
//! Inputs are read one after another into a result in memory, the smallest first, as Redis does: sums of doubles
//! depend on their order.

use super::{put_pair, store};
use crate::command::{CmdError, CmdResult};
use crate::config::Packed;
use crate::encoding::LpValue;
use crate::entry::{Entry, EntryRef, Payload};
use crate::hash::hash;
use crate::keyspace::{Ctx, Event, int_arg};
use crate::num::parse_f64;
use crate::table::Table;
use crate::value::{Set, Value, ZSet};

/// The operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Union,
    Inter,
    Diff,
}

/// How the scores of a member in several inputs become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of both signs cancel out.
            Aggregate::Sum if (a + b).is_nan() => 0.0,
            Aggregate::Sum => a + b,
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// Which options a command takes.
#[derive(Clone, Copy)]
struct Form {
    op: Op,
    /// Position of the number of keys.
    at: usize,
    /// The result goes to the key at argument 1.
    store: bool,
    /// Only the size is asked for.
    count_only: bool,
}

struct Query<'a> {
    /// Keys with their weights.
    inputs: Vec<(&'a [u8], f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    /// 0: none.
    limit: usize,
}

/// An input: a sorted set, or a set.
enum Source<'a> {
    Scored(&'a ZSet),
    Plain(&'a Set),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::Scored(set) => set.len(),
            Source::Plain(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Scored(set) => set.score(member),
            Source::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    fn each(&self, mut f: impl FnMut(LpValue<'_>, f64)) {
        match self {
            Source::Scored(set) => set.iter().for_each(|(member, score)| f(member, score)),
            Source::Plain(set) => set.iter().for_each(|member| f(member, 1.0)),
        }
    }
}

fn source_of(e: Option<EntryRef<'_>>) -> Result<Option<Source<'_>>, CmdError> {
    match e.map(EntryRef::payload) {
        None => Ok(None),
        Some(Payload::Value(Value::ZSet(set))) => Ok(Some(Source::Scored(set))),
        Some(Payload::Value(Value::Set(set))) => Ok(Some(Source::Plain(set))),
        Some(_) => Err(CmdError::WrongType),
    }
}

impl<'a> Query<'a> {
    fn parse(cx: &mut Ctx<'_>, a: &[&'a [u8]], form: Form) -> Result<Query<'a>, CmdError> {
        let count = int_arg(a[form.at])?;
        if count < 1 {
            let name = String::from_utf8_lossy(a[0]).to_ascii_lowercase();
            return Err(format!("ERR at least 1 input key is needed for '{name}' command").into());
        }
        let rest = &a[form.at + 1..];
        let Some((keys, mut rest)) = usize::try_from(count).ok().and_then(|n| rest.split_at_checked(n))
        else {
            return Err(CmdError::Syntax);
        };
        // Types are checked before options.
        for key in keys {
            source_of(cx.keys.find(key))?;
        }
        let mut query = Query {
            inputs: keys.iter().map(|key| (*key, 1.0)).collect(),
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        let scored = form.op != Op::Diff && !form.count_only;
        while let [word, tail @ ..] = rest {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            if scored && is(b"weights") && tail.len() >= keys.len() {
                let (weights, tail) = tail.split_at(keys.len());
                for (input, weight) in query.inputs.iter_mut().zip(weights) {
                    input.1 = parse_f64(weight).ok_or(CmdError::text("ERR weight value is not a float"))?;
                }
                rest = tail;
            } else if scored && is(b"aggregate") && !tail.is_empty() {
                query.aggregate = match tail[0].to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    _ => return Err(CmdError::Syntax),
                };
                rest = &tail[1..];
            } else if !form.store && !form.count_only && is(b"withscores") {
                query.with_scores = true;
                rest = tail;
            } else if form.count_only && is(b"limit") && !tail.is_empty() {
                query.limit = int_arg(tail[0])
                    .ok()
                    .and_then(|n| usize::try_from(n).ok())
                    .ok_or(CmdError::text("ERR LIMIT can't be negative"))?;
                rest = &tail[1..];
            } else {
                return Err(CmdError::Syntax);
            }
        }
        Ok(query)
    }

    /// The members of the result with their scores, as elements of a table: those of a sorted set, if it becomes one.
    fn run(&self, cx: &Ctx<'_>, op: Op) -> Result<Table, CmdError> {
        let mut sources = Vec::with_capacity(self.inputs.len());
        for (key, weight) in &self.inputs {
            // The look that counts as an access was the parser's.
            sources.push((source_of(cx.keys.peek_shared(key))?, *weight));
        }
        if op != Op::Diff {
            sources.sort_by_key(|(source, _)| source.as_ref().map_or(0, Source::len));
        }
        Ok(match op {
            Op::Union => self.union(&sources),
            Op::Inter => self.intersection(&sources),
            Op::Diff => difference(&sources),
        })
    }

    fn union(&self, sources: &[(Option<Source<'_>>, f64)]) -> Table {
        let mut result = Table::new();
        // The last is the largest. Others may have the same members.
        result.reserve(sources.last().and_then(|(source, _)| source.as_ref()).map_or(0, Source::len));
        let mut text = itoa::Buffer::new();
        for (source, weight) in sources {
            let Some(source) = source else { continue };
            source.each(|member, score| {
                let (member, score) = (member.as_bytes(&mut text), weighted(score, *weight));
                let h = hash(member);
                match result.get_mut_hashed(h, member) {
                    Some(mut e) => {
                        let sum = e.as_ref().payload().score().unwrap_or_default();
                        e.overwrite(Payload::Score(self.aggregate.join(sum, score)));
                    }
                    None => result.insert_new(h, Entry::score(member, score)),
                }
            });
        }
        result
    }

    fn intersection(&self, sources: &[(Option<Source<'_>>, f64)]) -> Table {
        let mut result = Table::new();
        let present: Option<Vec<_>> =
            sources.iter().map(|(source, weight)| Some((source.as_ref()?, *weight))).collect();
        let Some(((first, weight), others)) = present.as_deref().and_then(<[_]>::split_first) else {
            return result;
        };
        let mut text = itoa::Buffer::new();
        first.each(|member, score| {
            let member = member.as_bytes(&mut text);
            let joined = others.iter().try_fold(weighted(score, *weight), |sum, (source, weight)| {
                Some(self.aggregate.join(sum, source.score(member)? * weight))
            });
            if let Some(score) = joined {
                result.insert_new(hash(member), Entry::score(member, score));
            }
        });
        result
    }
}

fn difference(sources: &[(Option<Source<'_>>, f64)]) -> Table {
    let mut result = Table::new();
    let Some(((Some(first), _), others)) = sources.split_first() else { return result };
    let mut text = itoa::Buffer::new();
    first.each(|member, score| {
        let member = member.as_bytes(&mut text);
        let found =
            others.iter().any(|(source, _)| source.as_ref().is_some_and(|s| s.score(member).is_some()));
        if !found {
            result.insert_new(hash(member), Entry::score(member, score));
        }
    });
    result
}

/// Infinity times zero counts as zero.
fn weighted(score: f64, weight: f64) -> f64 {
    let product = score * weight;
    if product.is_nan() { 0.0 } else { product }
}

/// Members and scores in the order of a sorted set.
fn sorted(members: &Table) -> Vec<(&[u8], f64)> {
    let pair = |e: EntryRef<'_>| e.payload().score().unwrap_or_default();
    let mut members: Vec<_> = members.iter().map(|e| (e.key(), pair(e))).collect();
    members.sort_unstable_by(|a, b| {
        a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.0.cmp(b.0))
    });
    members
}

fn gather(members: Table, limits: Packed) -> ZSet {
    // What ends up large is large from the start, as a listpack would lose the sign of a -0 on the way.
    if members.len() > limits.entries || members.iter().any(|e| e.key().len() > limits.value) {
        return ZSet::from_table(members);
    }
    let mut set = ZSet::with_capacity(members.len(), limits);
    for (member, score) in sorted(&members) {
        set.add(member, score, limits);
    }
    set
}

fn reply_members(cx: &mut Ctx<'_>, a: &[&[u8]], op: Op) -> CmdResult {
    let query = Query::parse(cx, a, Form { op, at: 1, store: false, count_only: false })?;
    let with_scores = query.with_scores;
    let result = query.run(cx, op)?;
    let members = sorted(&result);
    cx.out.array(members.len() * if with_scores && !cx.out.is_resp3() { 2 } else { 1 });
    for (member, score) in members {
        put_pair(&mut cx.out, LpValue::Str(member), with_scores.then_some(score));
    }
    Ok(())
}

fn store_members(cx: &mut Ctx<'_>, a: &[&[u8]], op: Op) -> CmdResult {
    let query = Query::parse(cx, a, Form { op, at: 2, store: true, count_only: false })?;
    let members = query.run(cx, op)?;
    let limits = cx.keys.limits().zset();
    let event = match op {
        Op::Union => Event::ZUnionStore,
        Op::Inter => Event::ZInterStore,
        Op::Diff => Event::ZDiffStore,
    };
    store(cx, a[1], gather(members, limits), event);
    Ok(())
}

pub(super) fn zunion(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_members(cx, a, Op::Union)
}

pub(super) fn zinter(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_members(cx, a, Op::Inter)
}

pub(super) fn zdiff(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_members(cx, a, Op::Diff)
}

pub(super) fn zunionstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    store_members(cx, a, Op::Union)
}

pub(super) fn zinterstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    store_members(cx, a, Op::Inter)
}

pub(super) fn zdiffstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    store_members(cx, a, Op::Diff)
}

pub(super) fn zintercard(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let query = Query::parse(cx, a, Form { op: Op::Inter, at: 1, store: false, count_only: true })?;
    let limit = if query.limit == 0 { usize::MAX } else { query.limit };
    let count = query.run(cx, Op::Inter)?.len();
    cx.out.int(count.min(limit) as i64);
    Ok(())
}
