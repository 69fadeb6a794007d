//! What SCAN, HSCAN, SSCAN and ZSCAN share: their cursor and options; and, of the last three, a reply whose cursor is
//! known only after its elements.

use crate::command::{CmdError, CmdResult};
use crate::encoding::LpValue;
use crate::glob::glob_match;
use crate::keyspace::{Ctx, int_arg, syntax};
use crate::resp::Reply;
use crate::value::Collection;

/// Elements a call looks at where COUNT does not say.
const DEFAULT_COUNT: usize = 10;

/// `[MATCH pattern] [COUNT count] [TYPE type]`
pub(super) struct ScanOptions<'a> {
    pub(super) pattern: Option<&'a [u8]>,
    pub(super) count: usize,
    /// The name of a type, where only keys of that type are asked for.
    pub(super) kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options; TYPE is one only where keys are scanned.
    pub(super) fn parse(args: &[&'a [u8]], of_keys: bool) -> Result<ScanOptions<'a>, CmdError> {
        let mut options = ScanOptions { pattern: None, count: DEFAULT_COUNT, kind: None };
        for option in args.chunks(2) {
            let &[name, value] = option else { return Err(CmdError::Syntax) };
            if name.eq_ignore_ascii_case(b"COUNT") {
                let count = int_arg(value)?;
                syntax(count >= 1)?;
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if name.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = (value != b"*").then_some(value);
            } else if name.eq_ignore_ascii_case(b"TYPE") && of_keys {
                options.kind = Some(value);
            } else {
                return Err(CmdError::Syntax);
            }
        }
        Ok(options)
    }
}

/// Reads a cursor as `strtoul` does: digits, perhaps a sign, perhaps nothing at all.
pub(super) fn cursor_arg(arg: &[u8]) -> Result<u64, CmdError> {
    let (negative, digits) = match arg {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, arg),
    };
    let invalid = CmdError::text("ERR invalid cursor");
    if digits.is_empty() && !arg.is_empty() {
        return Err(invalid);
    }
    let mut n = 0u64;
    for d in digits {
        let digit = d.wrapping_sub(b'0');
        if digit > 9 {
            return Err(invalid);
        }
        n = n
            .checked_mul(10)
            .and_then(|n| n.checked_add(digit.into()))
            .ok_or(CmdError::text("ERR invalid cursor"))?;
    }
    Ok(if negative { n.wrapping_neg() } else { n })
}

/// The elements of one step, as they gather.
pub(crate) struct Found<'a, 'b> {
    reply: Reply<'b>,
    replies: usize,
    pattern: Option<&'a [u8]>,
}

impl Found<'_, '_> {
    /// Adds an element, followed by what belongs to it (a hash field's value), if it matches the pattern.
    pub(crate) fn add(&mut self, element: LpValue<'_>, with: Option<LpValue<'_>>) {
        let text = &mut itoa::Buffer::new();
        if self.pattern.is_none_or(|p| glob_match(p, element.as_bytes(text), false)) {
            self.reply.element(element);
            self.replies += 1;
            if let Some(with) = with {
                self.reply.element(with);
                self.replies += 1;
            }
        }
    }
}

/// Runs `NAME key cursor [options]`; `step` reports elements from the cursor on and returns the next cursor.
pub(crate) fn scan<T: Collection + 'static>(
    cx: &mut Ctx<'_>,
    a: &[&[u8]],
    step: impl FnOnce(&T, u64, usize, &mut Found<'_, '_>) -> u64,
) -> CmdResult {
    let cursor = cursor_arg(a[2])?;
    let mut buffer = Vec::new();
    let mut found = Found { reply: Reply::new(&mut buffer, cx.out.is_resp3()), replies: 0, pattern: None };
    // Without a key the options are not looked at, as in Redis.
    let mut next = 0;
    if let Some(collection) = cx.keys.read::<T>(a[1])? {
        let options = ScanOptions::parse(&a[3..], false)?;
        found.pattern = options.pattern;
        next = step(collection, cursor, options.count, &mut found);
    }
    let replies = found.replies;
    cx.out.array(2);
    cx.out.bulk(itoa::Buffer::new().format(next).as_bytes());
    cx.out.array(replies);
    cx.out.raw().extend_from_slice(&buffer);
    Ok(())
}
