//! ZADD and ZINCRBY. Both are logged as they came: adding doubles gives the same everywhere.

use super::wrote;
use crate::command::{CmdError, CmdResult};
use crate::keyspace::{Ctx, Event};
use crate::num::parse_f64;
use crate::value::ZSet;
use smallvec::SmallVec;

/// When a member's score may be set, and what is replied.
#[derive(Clone, Copy, Default)]
struct Options {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Options {
    /// Takes one option; false where it is none.
    fn take(&mut self, word: &[u8]) -> bool {
        let flag = match word.to_ascii_lowercase().as_slice() {
            b"nx" => &mut self.nx,
            b"xx" => &mut self.xx,
            b"gt" => &mut self.gt,
            b"lt" => &mut self.lt,
            b"ch" => &mut self.ch,
            b"incr" => &mut self.incr,
            _ => return false,
        };
        *flag = true;
        true
    }

    fn check(&self, pairs: usize) -> CmdResult {
        if self.nx && self.xx {
            return Err(CmdError::text("ERR XX and NX options at the same time are not compatible"));
        }
        if (self.nx && (self.gt || self.lt)) || (self.gt && self.lt) {
            return Err(CmdError::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.incr && pairs > 1 {
            return Err(CmdError::text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score a member gets, given the one it has; `None` leaves it as it is.
    fn decide(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, CmdError> {
        let Some(old) = old else { return Ok((!self.xx).then_some(given)) };
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + given } else { given };
        if new.is_nan() {
            return Err(CmdError::NotANumber);
        }
        let refused = (self.lt && new >= old) || (self.gt && new <= old);
        Ok((!refused).then_some(new))
    }
}

pub(super) fn zadd(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    add(cx, a, Options::default())
}

pub(super) fn zincrby(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    add(cx, a, Options { incr: true, ..Options::default() })
}

fn add(cx: &mut Ctx<'_>, a: &[&[u8]], mut options: Options) -> CmdResult {
    let key = a[1];
    let at = 2 + a[2..].iter().take_while(|word| options.take(word)).count();
    let pairs = &a[at..];
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(CmdError::Syntax);
    }
    options.check(pairs.len() / 2)?;
    // All scores are read before anything changes.
    let scores: SmallVec<[f64; 8]> = pairs
        .iter()
        .step_by(2)
        .map(|text| parse_f64(text).ok_or(CmdError::NotFloat))
        .collect::<Result<_, _>>()?;

    let limits = cx.keys.limits().zset();
    let set =
        if options.xx { cx.keys.write::<ZSet>(key)? } else { Some(cx.keys.write_or_create::<ZSet>(key)?) };
    let (mut added, mut updated, mut result) = (0, 0, None);
    if let Some(set) = set {
        for (pair, &given) in pairs.chunks_exact(2).zip(&scores) {
            let old = set.score(pair[1]);
            let Some(new) = options.decide(old, given)? else { continue };
            result = Some(new);
            match old {
                None => {
                    set.add(pair[1], new, limits);
                    added += 1;
                }
                Some(old) if old == new => {}
                Some(_) => {
                    set.change(pair[1], new);
                    updated += 1;
                }
            }
        }
    }
    cx.changed_elements(key, added + updated, if options.incr { Event::ZIncr } else { Event::ZAdd });
    match (options.incr, result) {
        (true, Some(score)) => cx.out.double(score),
        (true, None) => cx.out.null(),
        (false, _) => wrote(cx, if options.ch { added + updated } else { added }),
    }
    Ok(())
}
