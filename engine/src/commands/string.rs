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
    Command {
        name: "get",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: KeySpec::ONE,
        categories: "string",
        group: "string",
        since: "1.0.0",
        summary: "Get the value of a key",
        run: Run::Keys(get),
    },
    Command {
        name: "set",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: KeySpec::ONE,
        categories: "string",
        group: "string",
        since: "1.0.0",
        summary: "Set the string value of a key",
        run: Run::Keys(set),
    },
    Command {
        name: "del",
        arity: -2,
        flags: Flags::WRITE,
        keys: KeySpec::ALL,
        categories: "keyspace",
        group: "generic",
        since: "1.0.0",
        summary: "Delete a key",
        run: Run::Keys(del),
    },
];
