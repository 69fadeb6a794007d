//! What HSCAN, SSCAN and ZSCAN share: their options, and a reply whose cursor is known only after its elements.

use super::keys::cursor_arg;
use crate::command::{CmdError, CmdResult};
use crate::encoding::LpValue;
use crate::glob::glob_match;
use crate::keyspace::{Ctx, int_arg, syntax};
use crate::resp::Reply;
use crate::value::Collection;

/// Elements a call looks at where COUNT does not say.
const DEFAULT_COUNT: usize = 10;

/// `[MATCH pattern] [COUNT count]`
struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a [u8]]) -> Result<Options<'a>, CmdError> {
        let mut options = Options { pattern: None, count: DEFAULT_COUNT };
        for option in args.chunks(2) {
            let &[name, value] = option else { return Err(CmdError::SYNTAX) };
            if name.eq_ignore_ascii_case(b"COUNT") {
                let count = int_arg(value)?;
                syntax(count >= 1)?;
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if name.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = (value != b"*").then_some(value);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }
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
        let options = Options::parse(&a[3..])?;
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
