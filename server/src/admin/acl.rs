//! ACL, as far as one user goes: `default`, who may do everything, with the password of `requirepass` if there is one.

use std::io::Read;

use sluice_engine::internals::{CmdError, num::parse_i64, resp::Reply};

use super::command::in_category;
use super::{help, lower, shown};
use crate::client::conn::Conn;
use crate::commands::{Call, Flow, Handled};

/// The categories of Redis 7.0, in its order.
pub(super) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Bits of a generated password, unless asked for otherwise, and the most.
const GENPASS_BITS: i64 = 256;
const GENPASS_MAX_BITS: i64 = 4096;

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let password = conn.server.config.load().requirepass.clone();
    match lower(args[1]).as_slice() {
        b"whoami" => out.bulk(b"default"),
        b"users" => {
            out.array(1);
            out.bulk(b"default");
        }
        b"list" => {
            out.array(1);
            // Redis shows a hash of the password; here nothing of it leaves the server.
            let secret = if password.is_empty() { "nopass" } else { "#redacted" };
            out.bulk(format!("user default on {secret} ~* &* +@all").as_bytes());
        }
        b"getuser" if args[2] == b"default" => user(&password, out),
        b"getuser" => out.null(),
        b"cat" => cat(conn, args, out)?,
        b"genpass" => {
            let bits = match args.get(2) {
                None => GENPASS_BITS,
                Some(word) => parse_i64(word).filter(|b| (1..=GENPASS_MAX_BITS).contains(b)).ok_or(CmdError::text(
                    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
                ))?,
            };
            out.bulk(&random_hex((bits as usize).div_ceil(4)));
        }
        b"log" => match args.get(2) {
            Some(word) if word.eq_ignore_ascii_case(b"reset") => out.ok(),
            _ => out.array(0),
        },
        b"help" => help("ACL", HELP, out),
        b"load" | b"save" => {
            return Err(CmdError::text(
                "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
                 ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) \
                 in order to store users in the Redis configuration.",
            ));
        }
        other => {
            return Err(format!(
                "ERR ACL {} is not supported yet: there is one user, 'default'",
                String::from_utf8_lossy(other).to_uppercase()
            )
            .into());
        }
    }
    Ok(Flow::Next)
}

fn user(password: &[u8], out: &mut Reply<'_>) {
    out.map(6);
    out.bulk(b"flags");
    let flags: &[&str] = if password.is_empty() { &["on", "nopass"] } else { &["on"] };
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"passwords");
    out.array(usize::from(!password.is_empty()));
    if !password.is_empty() {
        out.bulk(b"redacted");
    }
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"selectors");
    out.array(0);
}

fn cat(conn: &Conn, args: &[&[u8]], out: &mut Reply<'_>) -> Result<(), CmdError> {
    let Some(wanted) = args.get(2) else {
        out.array(CATEGORIES.len());
        CATEGORIES.iter().for_each(|name| out.bulk(name.as_bytes()));
        return Ok(());
    };
    if args.len() > 3 {
        return Err(CmdError::arity("acl|cat"));
    }
    let Some(category) = CATEGORIES.iter().find(|c| c.as_bytes().eq_ignore_ascii_case(wanted)) else {
        return Err(format!("ERR Unknown category '{}'", shown(wanted)).into());
    };
    let names = in_category(&conn.server.engine, category);
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

fn random_hex(digits: usize) -> Vec<u8> {
    let mut bytes = vec![0; digits.div_ceil(2)];
    // /dev/urandom is there on every system this runs on; should it not be, the password is refused by its look.
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    let mut hex: Vec<u8> = bytes.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect();
    hex.truncate(digits);
    hex
}

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];
