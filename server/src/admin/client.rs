//! CLIENT: who is connected, under which name, and ending connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluice_engine::internals::{CmdError, CmdResult, num::parse_i64, resp::Reply};

use super::{help, lower, shown};
use crate::client::conn::Conn;
use crate::client::pause::{self, Mode, Reason};
use crate::client::registry::{Client, kind};
use crate::client::stream::Address;
use crate::client::waiting::Unblock;
use crate::commands::{Call, Flow, Handled};
use crate::server::Server;

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    match lower(args[1]).as_slice() {
        b"id" => out.int(conn.client.id as i64),
        b"info" => out.verbatim(&format!("{}\n", line(&conn.server, &conn.client, Some((conn, args))))),
        b"list" => list(conn, args, out)?,
        b"getname" => match conn.client.name.lock().as_str() {
            "" => out.null(),
            name => out.bulk(name.as_bytes()),
        },
        b"setname" => {
            *conn.client.name.lock() = valid_name(args[2])?;
            out.ok();
        }
        b"kill" => return kill(conn, args, out),
        b"no-evict" => {
            conn.client.set_kind(kind::NO_EVICT, on_off(args[2])?);
            out.ok();
        }
        b"reply" => reply_mode(conn, args[2], out)?,
        b"getredir" => out.int(-1),
        b"trackinginfo" => {
            out.map(3);
            out.bulk(b"flags");
            out.set(1);
            out.bulk(b"off");
            out.bulk(b"redirect");
            out.int(-1);
            out.bulk(b"prefixes");
            out.array(0);
        }
        b"tracking" if !on_off(args[2])? => out.ok(),
        b"tracking" => return Err(CmdError::text("ERR CLIENT TRACKING is not supported yet")),
        b"caching" => {
            return Err(CmdError::text(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ));
        }
        // What they change is looked at under the locks.
        b"pause" | b"unpause" if conn.in_block() => return Ok(Flow::Apart),
        b"pause" => {
            let (mode, ms) = pause_arguments(args)?;
            let until = conn.server.clock().saturating_add(ms);
            pause::pause(&conn.server, Reason::Client, mode, until);
            out.ok();
        }
        b"unpause" => {
            pause::resume(&conn.server, Reason::Client);
            out.ok();
        }
        b"unblock" => unblock(conn, args, out)?,
        _ => help("CLIENT", HELP, out),
    }
    Ok(Flow::Next)
}

fn on_off(word: &[u8]) -> Result<bool, CmdError> {
    match lower(word).as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CmdError::Syntax),
    }
}

/// A name without spaces or control characters.
pub(super) fn valid_name(word: &[u8]) -> Result<String, CmdError> {
    if word.iter().all(|b| (b'!'..=b'~').contains(b)) {
        Ok(String::from_utf8_lossy(word).into_owned())
    } else {
        Err(CmdError::text("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}

fn reply_mode(conn: &mut Conn, mode: &[u8], out: &mut Reply<'_>) -> CmdResult {
    match lower(mode).as_slice() {
        b"on" => {
            conn.reply_off = false;
            conn.reply_skip = 0;
            out.ok();
        }
        b"off" => conn.reply_off = true,
        // This command's own (absent) reply counts as one.
        b"skip" if !conn.reply_off => conn.reply_skip = 2,
        b"skip" => {}
        _ => return Err(CmdError::Syntax),
    }
    Ok(())
}

/// What to pause, and for how many milliseconds.
fn pause_arguments(args: &[&[u8]]) -> Result<(Mode, u64), CmdError> {
    let mode = match args.get(3).map(|word| lower(word)).as_deref() {
        _ if args.len() > 4 => return Err(CmdError::Syntax),
        None | Some(b"all") => Mode::All,
        Some(b"write") => Mode::Write,
        Some(_) => return Err(CmdError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout =
        parse_i64(args[2]).ok_or(CmdError::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(timeout).map_err(|_| CmdError::text("ERR timeout is negative"))?;
    Ok((mode, ms))
}

fn unblock(conn: &Conn, args: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    let why = match args.get(3).map(|how| lower(how)).as_deref() {
        None | Some(b"timeout") => Unblock::Timeout,
        Some(b"error") => Unblock::Error,
        Some(_) => return Err(CmdError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = parse_i64(args[2]).ok_or(CmdError::NotInteger)?;
    let waits =
        conn.server.clients.all().into_iter().find(|c| c.id as i64 == id).is_some_and(|c| c.unblock(why));
    out.int(waits.into());
    Ok(())
}

/// The kinds CLIENT LIST TYPE and CLIENT KILL TYPE know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Primary,
    Replica,
    Pubsub,
}

impl Kind {
    fn parse(word: &[u8]) -> Result<Kind, CmdError> {
        Ok(match lower(word).as_slice() {
            b"normal" => Kind::Normal,
            b"master" => Kind::Primary,
            b"slave" | b"replica" => Kind::Replica,
            b"pubsub" => Kind::Pubsub,
            _ => return Err(format!("ERR Unknown client type '{}'", shown(word)).into()),
        })
    }

    fn of(client: &Client) -> Kind {
        if client.is(kind::REPLICA) {
            Kind::Replica
        } else if client.is(kind::PRIMARY) {
            Kind::Primary
        } else {
            Kind::Normal
        }
    }
}

fn list(conn: &Conn, args: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    let mut wanted_kind = None;
    let mut ids = None;
    if let Some(option) = args.get(2) {
        match lower(option).as_slice() {
            b"type" if args.len() == 4 => wanted_kind = Some(Kind::parse(args[3])?),
            b"id" if args.len() > 3 => {
                ids = Some(args[3..].iter().map(|w| client_id(w)).collect::<Result<HashSet<_>, _>>()?)
            }
            _ => return Err(CmdError::Syntax),
        }
    }
    let mut text = String::new();
    for client in conn.server.clients.all() {
        let listed = wanted_kind.is_none_or(|kind| Kind::of(&client) == kind)
            && ids.as_ref().is_none_or(|ids| ids.contains(&client.id));
        if listed {
            let me = (client.id == conn.client.id).then_some((conn, args));
            text.push_str(&line(&conn.server, &client, me));
            text.push('\n');
        }
    }
    out.verbatim(&text);
    Ok(())
}

fn client_id(word: &[u8]) -> Result<u64, CmdError> {
    parse_i64(word)
        .and_then(|id| u64::try_from(id).ok())
        .filter(|id| *id > 0)
        .ok_or(CmdError::text("ERR Invalid client ID"))
}

/// A client as CLIENT LIST shows it, for log lines.
pub(crate) fn describe_client(server: &Server, client: &Client) -> String {
    line(server, client, None)
}

/// A client as CLIENT LIST shows it. `me` gives what only the asking connection knows of itself.
fn line(server: &Server, client: &Client, me: Option<(&Conn, &[&[u8]])>) -> String {
    const UNIX: u32 = 1 << 30;
    const BLOCKED: u32 = 1 << 31;
    let flags: String = [
        (kind::REPLICA, 'S'),
        (kind::PRIMARY, 'M'),
        (UNIX, 'U'),
        (kind::MULTI, 'x'),
        (BLOCKED, 'b'),
        (kind::CLOSING, 'A'),
        (kind::NO_EVICT, 'e'),
    ]
    .into_iter()
    .filter(|(bit, _)| match *bit {
        UNIX => matches!(client.addr, Address::Unix(_)),
        BLOCKED => client.is_blocked(),
        bit => client.is(bit),
    })
    .map(|(_, letter)| letter)
    .collect();
    let last = client.last_command.load(Relaxed);
    let mut command = server.engine.row(last).map_or("NULL", |row| row.command.name).to_owned();
    let (mut db, mut multi, mut resp) =
        (client.db.load(Relaxed), i64::from(client.multi.load(Relaxed)), client.resp.load(Relaxed));
    if let Some((conn, args)) = me {
        (db, multi, resp) = (conn.session.db, conn.session.queued(), if conn.session.resp3 { 3 } else { 2 });
        command = format!("client|{}", String::from_utf8_lossy(&lower(args[1])));
    }
    let (input, input_room) = (client.input_bytes.load(Relaxed), client.input_room.load(Relaxed));
    let (waits, reply_room) = (client.output_beyond_free(), client.reply_room.load(Relaxed));
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={db} sub=0 psub=0 ssub=0 multi={multi} \
         qbuf={input} qbuf-free={input_room} argv-mem=0 multi-mem=0 rbs={reply_room} rbp=0 obl={} oll={} omem={waits} tot-mem={} \
         events=r cmd={command} user={} redir=-1 resp={resp}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        client.name.lock(),
        client.age(),
        client.idle(),
        if flags.is_empty() { "N" } else { &flags },
        client.output() - waits,
        client.frames(),
        client.memory(),
        if client.authenticated.load(Relaxed) { "default" } else { "(superuser)" },
    )
}

/// What CLIENT KILL looks for; everything given must match.
struct Victims {
    id: Option<u64>,
    kind: Option<Kind>,
    addr: Option<String>,
    laddr: Option<String>,
    skip_me: bool,
}

impl Victims {
    fn parse(options: &[&[u8]]) -> Result<Victims, CmdError> {
        let mut victims = Victims { id: None, kind: None, addr: None, laddr: None, skip_me: true };
        if !options.len().is_multiple_of(2) {
            return Err(CmdError::Syntax);
        }
        for pair in options.chunks_exact(2) {
            let value = pair[1];
            let text = || Some(String::from_utf8_lossy(value).into_owned());
            match lower(pair[0]).as_slice() {
                b"id" => {
                    let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                    victims.id = Some(id.ok_or(CmdError::text("ERR client-id should be greater than 0"))?);
                }
                b"type" => victims.kind = Some(Kind::parse(value)?),
                b"addr" => victims.addr = text(),
                b"laddr" => victims.laddr = text(),
                b"user" if value == b"default" => {}
                b"user" => return Err(format!("ERR No such user '{}'", shown(value)).into()),
                b"skipme" => match lower(value).as_slice() {
                    b"yes" => victims.skip_me = true,
                    b"no" => victims.skip_me = false,
                    _ => return Err(CmdError::Syntax),
                },
                _ => return Err(CmdError::Syntax),
            }
        }
        Ok(victims)
    }

    fn holds(&self, client: &Client, me: u64) -> bool {
        let at =
            |wanted: &Option<String>, addr: &Address| wanted.as_ref().is_none_or(|w| *w == addr.to_string());
        !(self.skip_me && client.id == me)
            && self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == Kind::of(client))
            && at(&self.addr, &client.addr)
            && at(&self.laddr, &client.laddr)
    }
}

fn kill(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let old_form = args.len() == 3;
    let victims = if old_form {
        // CLIENT KILL addr:port may name the caller.
        Victims { skip_me: false, ..Victims::parse(&[b"addr", args[2]])? }
    } else {
        Victims::parse(&args[2..])?
    };
    let me = conn.client.id;
    let found: Vec<Arc<Client>> = conn
        .server
        .clients
        .all()
        .into_iter()
        .filter(|c| !c.is(kind::CLOSING) && victims.holds(c, me))
        .collect();
    found.iter().filter(|client| client.id != me).for_each(|client| client.kill());
    match (old_form, found.len()) {
        (true, 0) => return Err(CmdError::text("ERR No such client")),
        (true, _) => out.ok(),
        (false, n) => out.int(n as i64),
    }
    // The caller itself gets its reply first.
    Ok(if found.iter().any(|client| client.id == me) { Flow::Close } else { Flow::Next })
}

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are: ADDR, LADDR, TYPE, USER, ID and SKIPME.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> [<id> ...]]",
    "    Return information about client connections.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKING (ON|OFF)",
    "    Control server assisted client side caching (not supported yet).",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
];
