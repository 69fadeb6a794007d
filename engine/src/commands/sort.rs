//! SORT and SORT_RO: the elements of a list, set or sorted set in order, by themselves or by values of other keys.
//!
//! BY and GET reach keys that only the data names, so these commands run exclusively. SORT ... STORE is logged as what
//! it stored (DEL and RPUSH), which does not depend on what was read.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::encoding::LpValue;
use crate::entry::Payload;
use crate::keyspace::{Ctx, Event, int_arg, syntax};
use crate::lazy_free;
use crate::num::parse_f64;
use crate::value::list::NodeLimit;
use crate::value::{Hash, List, Type, Value};
use std::cmp::Ordering;

/// The words of a SORT.
#[derive(Default)]
struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]], may_store: bool) -> Result<Options<'a>, CmdError> {
        let mut options = Options::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut next = || words.next().ok_or(CmdError::Syntax);
            match word.to_ascii_lowercase().as_slice() {
                b"asc" => options.descending = false,
                b"desc" => options.descending = true,
                b"alpha" => options.alpha = true,
                b"limit" => options.limit = Some((int_arg(next()?)?, int_arg(next()?)?)),
                b"by" => options.by = Some(next()?),
                b"get" => options.get.push(next()?),
                b"store" if may_store => options.store = Some(next()?),
                _ => return Err(CmdError::Syntax),
            }
        }
        Ok(options)
    }

    /// BY a name without a star: the elements stay in the order they are in.
    fn unsorted(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    /// The part of `len` elements that LIMIT leaves.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else { return 0..len };
        let from = usize::try_from(offset).unwrap_or(0).min(len);
        let to = usize::try_from(count).map_or(len, |count| from.saturating_add(count).min(len));
        from..to
    }
}

/// The elements of a list, set or sorted set; those of a sorted set in its order where the order stays.
fn elements(cx: &mut Ctx<'_>, key: &[u8], options: &Options<'_>) -> Result<Vec<Vec<u8>>, CmdError> {
    let own = |v: LpValue<'_>| v.as_bytes(&mut itoa::Buffer::new()).to_vec();
    match cx.keys.find(key).map(|e| e.payload()) {
        None => Ok(Vec::new()),
        Some(Payload::Value(Value::List(list))) => Ok(list.iter().map(own).collect()),
        Some(Payload::Value(Value::Set(set))) => Ok(set.iter().map(own).collect()),
        Some(Payload::Value(Value::ZSet(set))) => {
            let backward = options.unsorted() && options.descending;
            Ok(set.range(0..set.len(), backward).map(|(member, _)| own(member)).collect())
        }
        Some(_) => Err(CmdError::WrongType),
    }
}

/// What a pattern of BY or GET finds for an element: `#` the element, else the string of the key that the pattern
/// names once its star is replaced, or the field behind `->` of the hash there.
fn lookup(cx: &mut Ctx<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|b| *b == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|w| w == b"->").filter(|at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let key = [before, element, after].concat();
    match field {
        None => Some(cx.keys.string(&key).ok()??.with(<[u8]>::to_vec)),
        Some(field) => {
            let value = cx.keys.read::<Hash>(&key).ok()??.get(field)?;
            Some(value.as_bytes(&mut itoa::Buffer::new()).to_vec())
        }
    }
}

/// What an element is compared by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn weigh(cx: &mut Ctx<'_>, options: &Options<'_>, element: &[u8]) -> Result<Weight, CmdError> {
    let not_a_number = CmdError::text("ERR One or more scores can't be converted into double");
    let number = match options.by {
        // Of equal weight, they are compared by themselves.
        None if options.alpha => return Ok(Weight::Text(None)),
        None => parse_f64(element),
        Some(pattern) => {
            let value = lookup(cx, pattern, element);
            if options.alpha {
                return Ok(Weight::Text(value));
            }
            // No value counts as nothing.
            value.map_or(Some(0.0), |text| parse_f64(&text))
        }
    };
    number.filter(|n| !n.is_nan()).map(Weight::Number).ok_or(not_a_number)
}

fn compare(a: &Weight, b: &Weight) -> Ordering {
    match (a, b) {
        (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        // No value comes before every value.
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

fn sort_generic(cx: &mut Ctx<'_>, a: &[&[u8]], may_store: bool) -> CmdResult {
    let mut options = Options::parse(&a[2..], may_store)?;
    if options.store.is_some() && options.unsorted() && cx.keys.type_of(a[1]) == Some(Type::Set) {
        // A set has no order to stay in: what is stored of it is the same everywhere.
        (options.by, options.alpha) = (None, true);
    }
    let mut found = elements(cx, a[1], &options)?;
    if !options.unsorted() {
        let mut weighed = Vec::with_capacity(found.len());
        for element in found {
            weighed.push((weigh(cx, &options, &element)?, element));
        }
        weighed.sort_unstable_by(|(a, x), (b, y)| {
            let order = compare(a, b).then_with(|| x.cmp(y));
            if options.descending { order.reverse() } else { order }
        });
        found = weighed.into_iter().map(|(_, element)| element).collect();
    }
    let window = options.window(found.len());
    let mut output: Vec<Option<Vec<u8>>> = Vec::new();
    for element in found.drain(window) {
        if options.get.is_empty() {
            output.push(Some(element));
            continue;
        }
        for pattern in &options.get {
            output.push(lookup(cx, pattern, &element));
        }
    }
    match options.store {
        Some(key) => store(cx, key, output),
        None => {
            cx.out.array(output.len());
            for item in output {
                match item {
                    Some(text) => cx.out.bulk(&text),
                    None => cx.out.null(),
                }
            }
            Ok(())
        }
    }
}

fn store(cx: &mut Ctx<'_>, key: &[u8], output: Vec<Option<Vec<u8>>>) -> CmdResult {
    let there = cx.keys.live(key);
    cx.propagate_nothing();
    if there {
        cx.propagate(&[b"DEL", key]);
    }
    let count = output.len();
    if count > 0 {
        let limit = NodeLimit::from_config(cx.keys.limits().list());
        let items: Vec<Vec<u8>> = output.into_iter().map(Option::unwrap_or_default).collect();
        let mut list = List::new();
        items.iter().for_each(|text| list.push_back(text, limit));
        cx.keys.set_value(key, Value::List(list), None);
        cx.changed(key, Event::SortStore);
        cx.propagate_items(&[b"RPUSH", key], items.iter().map(Vec::as_slice), 1);
        if count > lazy_free::LAZY_FREE_ELEMENTS {
            lazy_free::free(items, count);
        }
    } else {
        cx.delete(key);
    }
    cx.out.int(count as i64);
    Ok(())
}

fn sort(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    sort_generic(cx, a, true)
}

fn sort_ro(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    syntax(!a[2..].iter().any(|w| w.eq_ignore_ascii_case(b"store")))?;
    sort_generic(cx, a, false)
}

/// The source, and the destination of the last STORE.
fn keys(args: &[&[u8]]) -> Vec<usize> {
    let mut found = vec![1];
    let mut at = 2;
    let mut stored = None;
    while at < args.len() {
        at += match args[at].to_ascii_lowercase().as_slice() {
            b"limit" => 3,
            b"by" | b"get" => 2,
            b"store" => {
                stored = (at + 1 < args.len()).then_some(at + 1);
                2
            }
            _ => 1,
        };
    }
    found.extend(stored);
    found
}

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    Command { categories: "set sortedset list dangerous", ..Command::row("sort", -2,
        Flags::WRITE_OOM.union(Flags::MOVABLEKEYS), KeySpec::Custom(keys), "generic", "1.0.0",
        "Sorts the elements of a list, set or sorted set, and may store them", Run::All(sort)) },
    Command { categories: "set sortedset list dangerous", ..Command::row("sort_ro", -2,
        Flags::READONLY.union(Flags::MOVABLEKEYS), KeySpec::ONE, "generic", "7.0.0",
        "Sorts the elements of a list, set or sorted set", Run::All(sort_ro)) },
];

#[cfg(test)]
mod tests {
    use crate::commands::console::Console;

    #[test]
    fn elements_are_ordered_by_themselves_or_by_other_keys() {
        let mut c = Console::new();
        c.run("RPUSH l 3 1 10 2");
        assert_eq!(c.run("SORT l"), "*4 $1 1 $1 2 $1 3 $2 10");
        assert_eq!(c.run("SORT l ALPHA DESC LIMIT 0 2"), "*2 $1 3 $1 2");
        assert_eq!(c.run("SORT l BY nosort"), "*4 $1 3 $1 1 $2 10 $1 2");
        c.run("MSET w1 5 w2 4 w3 3 w10 2");
        c.run("HSET h3 f x");
        assert_eq!(c.run("SORT l BY w* GET # GET h*->f LIMIT 2 1"), "*2 $1 2 $-1");
        assert_eq!(c.run("SORT l BY w* GET h*->f LIMIT 1 1"), "*1 $1 x");
        c.run("RPUSH words b a");
        assert_eq!(c.run("SORT words"), "-ERR One or more scores can't be converted into double");
        assert_eq!(c.run("SORT none"), "*0");
        assert_eq!(c.run("SORT w1"), "-WRONGTYPE Operation against a key holding the wrong kind of value");
        assert_eq!(c.run("SORT_RO l STORE x"), "-ERR syntax error");
    }

    #[test]
    fn what_is_stored_is_logged_and_not_how_it_was_found() {
        let mut c = Console::new();
        c.run("SADD s b a");
        assert_eq!(c.effects("SORT s ALPHA STORE d"), ["RPUSH d a b"]);
        let effects = c.effects("SORT s ALPHA LIMIT 0 1 STORE d");
        assert_eq!(effects, ["MULTI", "DEL d", "RPUSH d a", "EXEC"]);
        assert_eq!(c.effects("SORT none STORE d"), ["DEL d"]);
        assert_eq!(c.run("EXISTS d"), ":0");
    }
}
