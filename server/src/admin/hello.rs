//! HELLO, AUTH and RESET: who a connection is and which protocol it speaks.

use std::sync::atomic::Ordering::Relaxed;

use sluice_engine::internals::{CmdError, CmdResult, num::parse_i64, resp::Reply};

use super::{client::valid_name, shown};
use crate::client::conn::Conn;
use crate::client::registry::kind;
use crate::commands::{Call, Flow, Handled};

const WRONG_PASS: CmdError = CmdError::text("WRONGPASS invalid username-password pair or user is disabled.");

/// Compares in a time that does not tell how much of a guess was right.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

/// Whether this name and password are those of the one user. Without `requirepass` any password will do.
fn verify(requirepass: &[u8], user: &[u8], password: &[u8]) -> CmdResult {
    let known = user == b"default" && (requirepass.is_empty() || same_secret(requirepass, password));
    if known { Ok(()) } else { Err(WRONG_PASS) }
}

fn sign_on(conn: &mut Conn) {
    conn.authenticated = true;
    conn.client.authenticated.store(true, Relaxed);
}

pub(super) fn auth(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let config = conn.server.config.load();
    match args {
        [_, password] => {
            if config.requirepass.is_empty() {
                return Err(CmdError::text(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                ));
            }
            verify(&config.requirepass, b"default", password)?;
        }
        [_, user, password] => verify(&config.requirepass, user, password)?,
        _ => return Err(CmdError::Syntax),
    }
    sign_on(conn);
    out.ok();
    Ok(Flow::Next)
}

/// What a HELLO asks for.
#[derive(Debug, Default, PartialEq)]
struct Greeting<'a> {
    resp3: Option<bool>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<String>,
}

impl<'a> Greeting<'a> {
    fn parse(args: &[&'a [u8]]) -> Result<Self, CmdError> {
        let mut greeting = Greeting::default();
        let Some((version, mut options)) = args.split_first() else {
            return Ok(greeting);
        };
        let version = parse_i64(version)
            .ok_or(CmdError::text("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&version) {
            return Err(CmdError::text("NOPROTO unsupported protocol version"));
        }
        greeting.resp3 = Some(version == 3);
        while let Some((option, rest)) = options.split_first() {
            options = match rest {
                [user, password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                    greeting.credentials = Some((user, password));
                    rest
                }
                [name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                    greeting.name = Some(valid_name(name)?);
                    rest
                }
                _ => return Err(format!("ERR Syntax error in HELLO option '{}'", shown(option)).into()),
            };
        }
        Ok(greeting)
    }
}

pub(super) fn hello(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let greeting = Greeting::parse(&args[1..])?;
    if let Some((user, password)) = greeting.credentials {
        verify(&conn.server.config.load().requirepass, user, password)?;
        sign_on(conn);
    }
    if !conn.authenticated {
        return Err(CmdError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = greeting.name {
        *conn.client.name.lock() = name;
    }
    if let Some(resp3) = greeting.resp3 {
        speak(conn, resp3);
    }
    out.set_resp3(conn.session.resp3);
    out.map(7);
    let replica = conn.server.is_replica();
    for (name, value) in [("server", "redis"), ("version", crate::version::REDIS_VERSION)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.int(if conn.session.resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.int(conn.client.id as i64);
    for (name, value) in [("mode", "standalone"), ("role", if replica { "replica" } else { "master" })] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(Flow::Next)
}

fn speak(conn: &mut Conn, resp3: bool) {
    conn.session.resp3 = resp3;
    conn.client.resp.store(if resp3 { 3 } else { 2 }, Relaxed);
}

pub(super) fn reset(conn: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let server = conn.server.clone();
    conn.session = server.engine.session();
    conn.session.may_block = true;
    speak(conn, false);
    conn.reply_off = false;
    conn.reply_skip = 0;
    conn.client.name.lock().clear();
    conn.client.set_kind(kind::NO_EVICT, false);
    conn.authenticated = server.config.load().requirepass.is_empty();
    conn.client.authenticated.store(conn.authenticated, Relaxed);
    out.set_resp3(false);
    out.simple("RESET");
    Ok(Flow::Next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_and_their_errors() {
        let parse = |words: &[&'static str]| {
            let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
            Greeting::parse(&words).map_err(|e| e.to_string())
        };
        assert_eq!(parse(&[]), Ok(Greeting::default()));
        let full = parse(&["3", "AUTH", "default", "x", "setname", "me"]).expect("parses");
        assert_eq!((full.resp3, full.name.as_deref()), (Some(true), Some("me")));
        for (words, error) in [
            (&["x"][..], "ERR Protocol version is not an integer or out of range"),
            (&["4"], "NOPROTO unsupported protocol version"),
            (&["2", "setname"], "ERR Syntax error in HELLO option 'setname'"),
            (
                &["2", "setname", "a b"],
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ),
        ] {
            assert_eq!(parse(words), Err(error.to_owned()));
        }
    }

    #[test]
    fn passwords() {
        assert!(verify(b"", b"default", b"anything").is_ok());
        assert!(verify(b"secret", b"default", b"secret").is_ok());
        assert!(verify(b"secret", b"default", b"secreT").is_err());
        assert!(verify(b"", b"other", b"x").is_err());
    }
}
