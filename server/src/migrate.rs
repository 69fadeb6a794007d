//! MIGRATE: moves keys to another server, by DUMP here and RESTORE there.
//!
//! Only the caller waits. Redis stops the whole server meanwhile, so that no key changes between its DUMP and its DEL;
//! here every key is watched, and one that changed while it travelled is sent again, with REPLACE. A key is deleted
//! only when the target has acknowledged its latest value.

use crate::client::admission;
use crate::client::conn::Conn;
use crate::commands::{Call, Flow, Handled, OwnCommand};
use crate::server::Server;
use parking_lot::Mutex;
use sluice_engine::Session;
use sluice_engine::internals::{
    CmdError, Flags, KeySpec, Outcome, Request, encode_command, num::parse_i64, resp::Reply,
};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Connections kept, and how long one is kept without being used, as in Redis.
const MAX_SOCKETS: usize = 64;
const KEEP: Duration = Duration::from_secs(10);
/// Time-out where the caller gives none, as in Redis.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often keys that keep changing are sent again before the caller is told so.
const MAX_ROUNDS: usize = 16;
/// Longest reply line of the target that is read.
const MAX_LINE: u64 = 1024;
/// How long a command waits that a running cut holds up.
const STALL_WAIT: Duration = Duration::from_millis(1);

/// Its row.
pub(crate) static ROWS: &[OwnCommand] = &[OwnCommand::row(
    "migrate",
    -6,
    Flags::WRITE.union(Flags::MOVABLEKEYS),
    "keyspace dangerous",
    "generic",
    "2.6.0",
    "Moves keys to another server",
    run,
)
.keys(KeySpec::Custom(keys))
.apart()];

/// Where the keys stand.
fn keys(args: &[&[u8]]) -> Vec<usize> {
    if args.len() > 3 && !args[3].is_empty() {
        return vec![3];
    }
    let mut at = 6;
    while at < args.len() {
        match args[at].to_ascii_lowercase().as_slice() {
            b"auth" => at += 1,
            b"auth2" => at += 2,
            b"keys" => return (at + 1..args.len()).collect(),
            _ => {}
        }
        at += 1;
    }
    Vec::new()
}

/// Connections to targets, kept for the next MIGRATE.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<HashMap<(Vec<u8>, u16), Target>>);

impl Sockets {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Closes those nobody used for a while.
    pub(crate) fn close_old(&self) {
        self.0.lock().retain(|_, target| target.used.elapsed() <= KEEP);
    }

    fn take(&self, to: &(Vec<u8>, u16)) -> Option<Target> {
        self.0.lock().remove(to)
    }

    fn keep(&self, to: &(Vec<u8>, u16), mut target: Target) {
        target.used = Instant::now();
        let mut all = self.0.lock();
        if all.len() >= MAX_SOCKETS
            && let Some(oldest) = all.iter().min_by_key(|(_, t)| t.used).map(|(to, _)| to.clone())
        {
            all.remove(&oldest);
        }
        all.insert(to.clone(), target);
    }
}

/// A connection to a target.
struct Target {
    stream: BufReader<TcpStream>,
    /// The database selected there, if it is known.
    db: Option<i64>,
    used: Instant,
}

/// What failed between us and the target.
enum Failure {
    Connecting,
    Writing(io::Error),
    Reading(io::Error),
}

impl Failure {
    fn timed_out(&self) -> bool {
        match self {
            Failure::Connecting => true,
            Failure::Writing(e) | Failure::Reading(e) => {
                matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            }
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Failure::Connecting => "IOERR error or timeout connecting to the client",
            Failure::Writing(_) => "IOERR error or timeout writing to target instance",
            Failure::Reading(_) => "IOERR error or timeout reading to target instance",
        }
    }
}

impl Target {
    fn connect(to: &(Vec<u8>, u16), timeout: Duration) -> Result<Target, Failure> {
        let host = String::from_utf8_lossy(&to.0).into_owned();
        let addresses = (host.as_str(), to.1).to_socket_addrs().map_err(|_| Failure::Connecting)?;
        let mut failure = Failure::Connecting;
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(Target { stream: BufReader::new(stream), db: None, used: Instant::now() });
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // Redis notices a refusal only when it writes, and says so.
                Err(e) => failure = Failure::Writing(e),
            }
        }
        Err(failure)
    }

    fn send(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Failure> {
        let stream = self.stream.get_ref();
        let set =
            stream.set_write_timeout(Some(timeout)).and_then(|()| stream.set_read_timeout(Some(timeout)));
        set.map_err(Failure::Writing)?;
        self.stream.get_mut().write_all(bytes).map_err(Failure::Writing)
    }

    /// A reply of one line, without its end.
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(Failure::Reading)?;
        if line.last() != Some(&b'\n') {
            return Err(Failure::Reading(ErrorKind::UnexpectedEof.into()));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// What the caller asked for.
struct Job {
    to: (Vec<u8>, u16),
    from_db: u32,
    to_db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// The words of AUTH behind its name.
    auth: Option<Vec<Vec<u8>>>,
    keys: Vec<Vec<u8>>,
}

fn parse(conn: &Conn, a: &[&[u8]]) -> Result<Job, CmdError> {
    let (mut copy, mut replace, mut auth) = (false, false, None);
    let mut names: &[&[u8]] = &a[3..4];
    let mut at = 6;
    while at < a.len() {
        let is = |name: &str| a[at].eq_ignore_ascii_case(name.as_bytes());
        let words = |n: usize| {
            let given = a.get(at + 1..at + 1 + n).ok_or(CmdError::Syntax)?;
            Ok::<_, CmdError>(given.iter().map(|w| w.to_vec()).collect::<Vec<_>>())
        };
        if is("copy") {
            copy = true;
        } else if is("replace") {
            replace = true;
        } else if is("auth") {
            auth = Some(words(1)?);
            at += 1;
        } else if is("auth2") {
            auth = Some(words(2)?);
            at += 2;
        } else if is("keys") {
            if !a[3].is_empty() {
                return Err(CmdError::text(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            names = &a[at + 1..];
            break;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    let timeout = parse_i64(a[5]).ok_or(CmdError::NotInteger)?;
    let to_db = parse_i64(a[4]).ok_or(CmdError::NotInteger)?;
    // As `atoi`: what is no port cannot be connected to.
    let port = parse_i64(a[2]).and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for name in names {
        keys.push(name.to_vec());
    }
    Ok(Job {
        to: (a[1].to_vec(), port),
        from_db: conn.session.db,
        to_db,
        timeout: u64::try_from(timeout)
            .ok()
            .filter(|t| *t > 0)
            .map_or(DEFAULT_TIMEOUT, Duration::from_millis),
        copy,
        replace,
        auth,
        keys,
    })
}

/// Runs the command on a thread of its own.
fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], _: &mut Reply<'_>) -> Handled {
    let job = parse(conn, args)?;
    let server = conn.server.clone();
    let (to, from) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut reply = Vec::new();
        match migrate(&server, job) {
            Ok(word) => Reply::new(&mut reply, false).simple(word),
            Err(text) => {
                server.stats.error(text.as_bytes());
                Reply::new(&mut reply, false).error(&text);
            }
        }
        let _ = to.send(reply);
    });
    Ok(Flow::Later(from))
}

/// A key on its way, and the session that watches it.
struct Travelling {
    key: Vec<u8>,
    session: Session,
}

fn migrate(server: &Arc<Server>, mut job: Job) -> Result<&'static str, String> {
    let mut keys: Vec<Travelling> = Vec::new();
    for key in std::mem::take(&mut job.keys) {
        let mut session = server.engine.session();
        session.db = job.from_db;
        keys.push(Travelling { key, session });
    }
    let mut first = true;
    for _ in 0..MAX_ROUNDS {
        let (payloads, present) = gather(server, keys);
        keys = present;
        if keys.is_empty() {
            return Ok(if first { "NOKEY" } else { "OK" });
        }
        let outcome = transfer(server, &job, &payloads);
        let (replies, end) = match outcome {
            Ok(replies) => (replies, None),
            Err((replies, text)) => (replies, Some(text)),
        };
        let (mut changed, mut refused) = (Vec::new(), None);
        for (mut travelling, taken) in
            keys.into_iter().zip(replies.into_iter().chain(std::iter::repeat(false)))
        {
            let deleted = if taken && !job.copy { delete(server, &mut travelling) } else { Ok(true) };
            match deleted {
                Ok(false) => changed.push(travelling),
                outcome => {
                    refused = refused.or(outcome.err());
                }
            }
        }
        if let Some(text) = end.or(refused) {
            return Err(text);
        }
        if changed.is_empty() {
            return Ok("OK");
        }
        (keys, job.replace, first) = (changed, true, false);
    }
    let shown =
        keys.first().map_or_else(String::new, |t| t.key[..t.key.len().min(128)].escape_ascii().to_string());
    Err(format!("ERR Key '{shown}' changed each time it was sent; it was copied, but is still here"))
}

/// Watches every key and takes its payload; keys that do not exist fall out.
fn gather(server: &Server, keys: Vec<Travelling>) -> (Vec<Vec<u8>>, Vec<Travelling>) {
    let (mut commands, mut present) = (Vec::new(), Vec::new());
    for mut travelling in keys {
        let Travelling { key, session } = &mut travelling;
        session.discard();
        call(server, session, &[b"WATCH", key]);
        let dumped = call(server, session, &[b"DUMP", key]);
        let expires = number(&call(server, session, &[b"PEXPIRETIME", key]));
        match (bulk(&dumped), expires) {
            (Some(payload), Some(at)) if at != -2 => {
                let left = if at < 0 { 0 } else { (at - sluice_engine::internals::now_ms()).max(1) };
                let mut command = Vec::with_capacity(payload.len() + key.len() + 64);
                encode_command(&mut command, &[b"RESTORE", key, left.to_string().as_bytes(), payload]);
                commands.push(command);
                present.push(travelling);
            }
            _ => {}
        }
    }
    (commands, present)
}

/// Deletes a key that is as it was sent; false where it is not. Much may have changed while it travelled: an error says why this
/// server may not delete now, as a client that sent the DEL would be told. The key was copied then.
fn delete(server: &Server, travelling: &mut Travelling) -> Result<bool, String> {
    let Travelling { key, session } = travelling;
    call(server, session, &[b"MULTI"]);
    call(server, session, &[b"DEL", key]);
    let gates = server.gate.load(Ordering::Acquire);
    let flags = server.engine.lookup_original(b"EXEC").map(|row| session.flags_of(row.command));
    if let Some(why) = flags.and_then(|flags| admission::refusal(server, flags, gates)) {
        return Err(why.to_string());
    }
    // A pause, and a role that changes from here on, the engine heeds.
    let reply = call(server, session, &[b"EXEC"]);
    match reply.strip_prefix(b"-EXECABORT Transaction discarded because of: ") {
        Some(why) => Err(String::from_utf8_lossy(why).trim_end().to_owned()),
        // Nil: the key was touched since it was watched.
        None => Ok(reply.starts_with(b"*1")),
    }
}

/// Sends the keys and reads what the target says of each: whether it took it. An error comes with what was
/// acknowledged before it.
fn transfer(server: &Server, job: &Job, restores: &[Vec<u8>]) -> Result<Vec<bool>, (Vec<bool>, String)> {
    let mut may_retry = true;
    loop {
        let (mut target, cached) = match server.migrate.take(&job.to) {
            Some(target) => (target, true),
            None => match Target::connect(&job.to, job.timeout) {
                Ok(target) => (target, false),
                Err(e) => return Err((Vec::new(), e.text().into())),
            },
        };
        let mut taken = Vec::new();
        match exchange(&mut target, job, restores, &mut taken) {
            Ok(None) => {
                target.db = Some(job.to_db);
                server.migrate.keep(&job.to, target);
                return Ok(taken);
            }
            Ok(Some(error)) => {
                target.db = None;
                server.migrate.keep(&job.to, target);
                return Err((taken, format!("ERR Target instance replied with error: {error}")));
            }
            // A connection that was kept may have been closed by the other end; nothing was processed then.
            Err(e) if taken.is_empty() && may_retry && cached && !e.timed_out() => may_retry = false,
            Err(e) => return Err((taken, e.text().into())),
        }
    }
}

/// One round trip; the target's first error, if it replied one.
fn exchange(
    target: &mut Target,
    job: &Job,
    restores: &[Vec<u8>],
    taken: &mut Vec<bool>,
) -> Result<Option<String>, Failure> {
    let mut head = Vec::new();
    if let Some(words) = &job.auth {
        let words: Vec<&[u8]> =
            std::iter::once(&b"AUTH"[..]).chain(words.iter().map(Vec::as_slice)).collect();
        encode_command(&mut head, &words);
    }
    let select = target.db != Some(job.to_db);
    if select {
        encode_command(&mut head, &[b"SELECT", job.to_db.to_string().as_bytes()]);
    }
    target.send(&head, job.timeout)?;
    for restore in restores {
        if job.replace {
            // One word more: the count, then the word behind the rest.
            let rest = restore.strip_prefix(b"*4\r\n").unwrap_or(restore);
            target.send(&[b"*5\r\n", rest, b"$7\r\nREPLACE\r\n"].concat(), job.timeout)?;
        } else {
            target.send(restore, job.timeout)?;
        }
    }
    let mut first_error = None;
    for _ in 0..usize::from(job.auth.is_some()) + usize::from(select) {
        let line = target.line()?;
        if let Some(text) = line.strip_prefix('-') {
            first_error.get_or_insert(text.to_owned());
        }
    }
    let refused = first_error.is_some();
    for _ in restores {
        let line = target.line()?;
        if let Some(text) = line.strip_prefix('-') {
            first_error.get_or_insert(text.to_owned());
        }
        taken.push(!refused && !line.starts_with('-'));
    }
    Ok(first_error)
}

/// Runs a command of the engine for a session of ours.
fn call(server: &Server, session: &mut Session, args: &[&[u8]]) -> Vec<u8> {
    let mut reply = Vec::new();
    let Some(row) = server.engine.lookup_original(args[0]) else { return reply };
    session.now_ms = sluice_engine::internals::now_ms();
    loop {
        let request = Request { args, raw: None };
        match server.engine.call(session, row, request, &mut reply) {
            Outcome::Stalled => std::thread::sleep(STALL_WAIT),
            _ => return reply,
        }
    }
}

/// The content of a bulk reply.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$")?;
    let end = rest.iter().position(|b| *b == b'\r')?;
    let len = usize::try_from(parse_i64(&rest[..end])?).ok()?;
    rest.get(end + 2..end + 2 + len)
}

/// The value of an integer reply.
fn number(reply: &[u8]) -> Option<i64> {
    parse_i64(reply.strip_prefix(b":")?.trim_ascii_end())
}
