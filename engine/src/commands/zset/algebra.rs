//! Union, intersection and difference of sorted sets, and of plain sets as sorted sets with score 1.
//!
//! Inputs are read one after another into a result in memory, the smallest first, as Redis does: sums of doubles
//! depend on their order.

use super::{put_pair, store};
use crate::command::{CmdError, CmdResult};
use crate::config::Packed;
use crate::encoding::LpValue;
use crate::entry::{EntryRef, Payload};
use crate::keyspace::{Ctx, int_arg};
use crate::num::parse_f64;
use crate::value::{Set, Value, ZSet};
use std::collections::HashMap;

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

/// An input's value; the look that counts as an access was the parser's.
fn source<'k>(cx: &'k mut Ctx<'_>, key: &[u8]) -> Result<Option<Source<'k>>, CmdError> {
    source_of(cx.keys.peek(key))
}

fn source_of(e: Option<EntryRef<'_>>) -> Result<Option<Source<'_>>, CmdError> {
    match e.map(EntryRef::payload) {
        None => Ok(None),
        Some(Payload::Value(Value::ZSet(set))) => Ok(Some(Source::Scored(set))),
        Some(Payload::Value(Value::Set(set))) => Ok(Some(Source::Plain(set))),
        Some(_) => Err(CmdError::WRONG_TYPE),
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
            return Err(CmdError::SYNTAX);
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
                    _ => return Err(CmdError::SYNTAX),
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
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(query)
    }

    /// The members of the result and their scores, in no order.
    fn run(mut self, cx: &mut Ctx<'_>, op: Op) -> Result<Vec<(Vec<u8>, f64)>, CmdError> {
        if op != Op::Diff {
            let mut sized = Vec::with_capacity(self.inputs.len());
            for input in self.inputs {
                sized.push((source(cx, input.0)?.map_or(0, |s| s.len()), input));
            }
            sized.sort_by_key(|(len, _)| *len);
            self.inputs = sized.into_iter().map(|(_, input)| input).collect();
        }
        if op == Op::Union {
            return self.union(cx);
        }
        let (first, others) = self.inputs.split_first().expect("there is at least one input");
        let mut result = Vec::new();
        if let Some(source) = source(cx, first.0)? {
            source.each(|member, score| {
                let score = if op == Op::Diff { score } else { weighted(score, first.1) };
                result.push((member.to_vec(), score));
            });
        }
        for (key, weight) in others {
            if result.is_empty() {
                break;
            }
            let Some(source) = source(cx, key)? else {
                if op == Op::Inter {
                    result.clear();
                }
                continue;
            };
            let aggregate = self.aggregate;
            result.retain_mut(|(member, score)| match (op, source.score(member)) {
                (Op::Diff, found) => found.is_none(),
                (_, None) => false,
                (_, Some(other)) => {
                    *score = aggregate.join(*score, other * weight);
                    true
                }
            });
        }
        Ok(result)
    }

    fn union(&self, cx: &mut Ctx<'_>) -> Result<Vec<(Vec<u8>, f64)>, CmdError> {
        let mut scores: HashMap<Vec<u8>, f64, foldhash::quality::RandomState> = HashMap::default();
        for (key, weight) in &self.inputs {
            let Some(source) = source(cx, key)? else { continue };
            let mut text = itoa::Buffer::new();
            source.each(|member, score| {
                let score = weighted(score, *weight);
                match scores.get_mut(member.as_bytes(&mut text)) {
                    Some(sum) => *sum = self.aggregate.join(*sum, score),
                    None => drop(scores.insert(member.to_vec(), score)),
                }
            });
        }
        Ok(scores.into_iter().collect())
    }
}

/// Infinity times zero counts as zero.
fn weighted(score: f64, weight: f64) -> f64 {
    let product = score * weight;
    if product.is_nan() { 0.0 } else { product }
}

fn sorted(mut members: Vec<(Vec<u8>, f64)>) -> Vec<(Vec<u8>, f64)> {
    members.sort_unstable_by(|a, b| {
        a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.0.cmp(&b.0))
    });
    members
}

fn gather(members: Vec<(Vec<u8>, f64)>, limits: Packed) -> ZSet {
    // What ends up large is large from the start, as a listpack would lose the sign of a -0 on the way.
    let mut set = if members.iter().any(|(member, _)| member.len() > limits.value) {
        ZSet::new_large(members.len())
    } else {
        ZSet::with_capacity(members.len(), limits)
    };
    for (member, score) in sorted(members) {
        set.add(&member, score, limits);
    }
    set
}

fn reply_members(cx: &mut Ctx<'_>, a: &[&[u8]], op: Op) -> CmdResult {
    let query = Query::parse(cx, a, Form { op, at: 1, store: false, count_only: false })?;
    let with_scores = query.with_scores;
    let members = sorted(query.run(cx, op)?);
    cx.out.array(members.len() * if with_scores && !cx.out.is_resp3() { 2 } else { 1 });
    for (member, score) in members {
        put_pair(&mut cx.out, LpValue::Str(&member), with_scores.then_some(score));
    }
    Ok(())
}

fn store_members(cx: &mut Ctx<'_>, a: &[&[u8]], op: Op) -> CmdResult {
    let query = Query::parse(cx, a, Form { op, at: 2, store: true, count_only: false })?;
    let members = query.run(cx, op)?;
    let limits = cx.keys.limits().zset();
    store(cx, a[1], gather(members, limits));
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
