//! String commands.

use crate::command::{CmdResult, Command, Flags, KeySpec, Run};
use crate::keyspace::{Ctx, NewExpiry, StrRef};

fn get(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    match cx.keys.string(a[1])? {
        None => cx.out.null(),
        Some(StrRef::Bytes(b)) => cx.out.bulk(b),
        Some(StrRef::Int(i)) => cx.out.bulk_int(i),
    }
    Ok(())
}

fn set(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    // (options follow)
    cx.keys.set_string(a[1], a[2], NewExpiry::Clear);
    cx.changed(a[1]);
    cx.out.ok();
    Ok(())
}

fn del(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let mut n = 0;
    for key in &a[1..] {
        if cx.keys.delete(key) {
            cx.changed(key);
            n += 1;
        }
    }
    cx.out.int(n);
    Ok(())
}

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::row(
        "get",
        2,
        Flags::READ_FAST,
        KeySpec::ONE,
        "string",
        "1.0.0",
        "Get the value of a key",
        Run::Keys(get),
    ),
    Command::row(
        "set",
        -3,
        Flags::WRITE_OOM,
        KeySpec::ONE,
        "string",
        "1.0.0",
        "Set the string value of a key",
        Run::Keys(set),
    ),
    Command::row("del", -2, Flags::WRITE, KeySpec::ALL, "generic", "1.0.0", "Delete a key", Run::Keys(del)),
];
