//! Single bits of strings: SETBIT and GETBIT. Bit 0 is the highest bit of the first byte.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::entry::MAX_STRING_LEN;
use crate::keyspace::{Ctx, Event, int_arg};
use std::sync::atomic::Ordering;

/// A bit's byte and its mask in it.
fn position(cx: &Ctx<'_>, arg: &[u8]) -> Result<(usize, u8), CmdError> {
    let error = CmdError::text("ERR bit offset is not an integer or out of range");
    let bit = int_arg(arg).ok().and_then(|n| usize::try_from(n).ok()).ok_or(error.clone())?;
    // As everywhere, the primary's word is obeyed.
    let limit = cx.keys.limits().max_string.load(Ordering::Relaxed).min(MAX_STRING_LEN);
    if bit / 8 >= if cx.keys.see_expired { MAX_STRING_LEN } else { limit } {
        return Err(error);
    }
    Ok((bit / 8, 0x80 >> (bit % 8)))
}

fn getbit(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (at, mask) = position(cx, a[2])?;
    let byte = match cx.keys.string(a[1])? {
        Some(s) => s.with(|bytes| bytes.get(at).copied().unwrap_or(0)),
        None => 0,
    };
    cx.out.int(i64::from(byte & mask != 0));
    Ok(())
}

fn setbit(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (at, mask) = position(cx, a[2])?;
    let on = match a[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(CmdError::text("ERR bit is not an integer or out of range")),
    };
    let old = match cx.keys.string_to_change(a[1])? {
        Some(s) => s.with(|bytes| bytes.get(at).copied()),
        None => None,
    };
    let (byte, was_on) = (old.unwrap_or(0), old.unwrap_or(0) & mask != 0);
    // The string grows to the bit even where the bit stays 0.
    if old.is_none() || was_on != on {
        cx.keys.splice_string(a[1], at, &[if on { byte | mask } else { byte & !mask }]);
        cx.changed(a[1], Event::SetBit);
    }
    cx.out.int(i64::from(was_on));
    Ok(())
}

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    Command::row("getbit", 3, Flags::READ_FAST, KeySpec::ONE, "bitmap", "2.2.0",
        "One bit of a string", Run::Keys(getbit)),
    Command::row("setbit", 4, Flags::WRITE_OOM, KeySpec::ONE, "bitmap", "2.2.0",
        "Changes one bit of a string", Run::Keys(setbit)),
];

#[cfg(test)]
mod tests {
    use crate::commands::console::Console;

    #[test]
    fn bits_count_from_the_highest_of_the_first_byte_and_grow_the_string() {
        let mut c = Console::new();
        assert_eq!(c.run("SETBIT k 1 1"), ":0");
        assert_eq!(c.run("GET k"), "$1 @");
        assert_eq!(c.effects("SETBIT k 23 0"), ["SETBIT k 23 0"]);
        assert_eq!(c.run("STRLEN k"), ":3");
        assert!(c.effects("SETBIT k 1 1").is_empty());
        assert_eq!(c.run("SETBIT k 1 0"), ":1");
        assert_eq!(c.run("GETBIT k 1000"), ":0");
        assert_eq!(c.run("SETBIT k 4294967296 1"), "-ERR bit offset is not an integer or out of range");
        assert_eq!(c.run("SETBIT k 0 2"), "-ERR bit is not an integer or out of range");
        c.run("SET n 1");
        assert_eq!(c.run("SETBIT n 6 1"), ":0");
        assert_eq!(c.run("GET n"), "$1 3");
    }
}
