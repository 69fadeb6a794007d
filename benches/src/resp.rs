//! A small blocking RESP2 client: enough to load, probe and ask a server, with pipelining.
//!
//! It is the bench's own, so that what is measured does not share code with the measure.

use crate::error::{Doing, Error, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// No reply this client asks for is longer; a longer length is taken for garbage.
const MAX_REPLY: usize = 512 << 20;
/// Nested arrays deeper than this are taken for garbage.
const MAX_DEPTH: u32 = 8;
/// How long a server may be silent: longer than any stall worth measuring.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Int(i64),
    /// `$`
    Bulk(Option<Vec<u8>>),
    /// `*`
    Array(Vec<Reply>),
}

/// Appends one command in the form every client sends.
pub(crate) fn push(out: &mut Vec<u8>, args: &[&[u8]]) {
    push_header(out, args.len());
    args.iter().for_each(|arg| push_arg(out, arg));
}

/// Appends the count of a command's arguments; as many [`push_arg`] must follow.
pub(crate) fn push_header(out: &mut Vec<u8>, args: usize) {
    push_length(out, b'*', args);
}

/// Appends one argument.
pub(crate) fn push_arg(out: &mut Vec<u8>, arg: &[u8]) {
    push_length(out, b'$', arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, kind: u8, n: usize) {
    out.push(kind);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{n}");
    out.extend_from_slice(b"\r\n");
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already taken.
    taken: usize,
}

impl Client {
    /// Connects to a server of this machine.
    pub(crate) fn connect(port: u16) -> Result<Client> {
        let what = || format!("connecting to port {port}");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).doing(what)?;
        stream.set_nodelay(true).doing(what)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).doing(what)?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT)).doing(what)?;
        Ok(Client { stream, buffer: Vec::with_capacity(1 << 16), taken: 0 })
    }

    /// Sends already encoded commands.
    pub(crate) fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.stream.write_all(commands).doing(|| "sending to the server".into())
    }

    /// Reads one reply.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        self.reply_at(0)
    }

    /// Reads `count` replies, none of which may be an error.
    pub(crate) fn expect(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            if let Reply::Error(text) = self.reply()? {
                return Err(bad("a pipelined command", &text));
            }
        }
        Ok(())
    }

    /// Runs one command; an error reply is an error.
    pub(crate) fn command(&mut self, args: &[&[u8]]) -> Result<Reply> {
        let mut out = Vec::new();
        push(&mut out, args);
        self.send(&out)?;
        match self.reply()? {
            Reply::Error(text) => {
                let words: Vec<_> = args.iter().map(|a| String::from_utf8_lossy(a)).collect();
                Err(bad(&words.join(" "), &text))
            }
            reply => Ok(reply),
        }
    }

    /// One section of INFO.
    pub(crate) fn info(&mut self, section: &str) -> Result<Info> {
        match self.command(&[b"INFO", section.as_bytes()])? {
            Reply::Bulk(Some(text)) => Ok(Info(String::from_utf8_lossy(&text).into_owned())),
            other => Err(bad("INFO", &format!("{other:?}"))),
        }
    }

    fn reply_at(&mut self, depth: u32) -> Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| bad("reply", "an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| bad("reply", &line));
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "$" => match usize::try_from(number()?) {
                Ok(n) if n > MAX_REPLY => return Err(bad("reply", &line)),
                Ok(n) => Reply::Bulk(Some(self.bytes(n)?)),
                Err(_) => Reply::Bulk(None),
            },
            "*" if depth < MAX_DEPTH => {
                let n = number()?.max(0) as usize;
                // Not reserved in advance: the count is the server's word only.
                let mut items = Vec::new();
                for _ in 0..n.min(MAX_REPLY) {
                    items.push(self.reply_at(depth + 1)?);
                }
                Reply::Array(items)
            }
            _ => return Err(bad("reply", &line)),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut searched = self.taken;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                let end = searched + at;
                let line = self.buffer[self.taken..end].trim_ascii_end();
                let line = String::from_utf8_lossy(line).into_owned();
                self.taken = end + 1;
                return Ok(line);
            }
            let unread = self.buffer.len() - self.taken;
            self.fill()?;
            searched = self.taken + unread;
        }
    }

    /// `n` bytes and the line end after them.
    fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        while self.buffer.len() - self.taken < n + 2 {
            self.fill()?;
        }
        let bytes = self.buffer[self.taken..self.taken + n].to_vec();
        self.taken += n + 2;
        Ok(bytes)
    }

    fn fill(&mut self) -> Result<()> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let mut chunk = [0; 1 << 14];
        let read = loop {
            match self.stream.read(&mut chunk) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read.doing(|| "waiting for a reply".into())? {
            0 => Err(bad("reply", "the server closed the connection")),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

fn bad(command: &str, reply: &str) -> Error {
    Error::Reply { command: command.to_owned(), reply: reply.to_owned() }
}

/// The text of an INFO section.
pub(crate) struct Info(String);

impl Info {
    /// A field's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// A field as a number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.trim().parse().ok()
    }

    /// All fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.trim_end().split_once(':'))
    }

    /// Keys of each database, from the section `keyspace`.
    pub(crate) fn keyspace(&self) -> Vec<(String, u64)> {
        self.fields()
            .filter(|(field, _)| field.starts_with("db"))
            .filter_map(|(db, stats)| {
                let keys = stats.split(',').find_map(|s| s.strip_prefix("keys="))?;
                Some((db.to_owned(), keys.parse().ok()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn server_that_says(bytes: &'static [u8]) -> Client {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(bytes).unwrap());
        Client::connect(port).unwrap()
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        push(&mut out, &[b"GET", b"key:1"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n");
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let mut client = server_that_says(b"+OK\r\n:7\r\n$3\r\na\nb\r\n$-1\r\n*2\r\n:1\r\n+x\r\n-ERR no\r\n");
        assert_eq!(client.reply().unwrap(), Reply::Simple("OK".into()));
        assert_eq!(client.reply().unwrap(), Reply::Int(7));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(Some(b"a\nb".to_vec())));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(None));
        assert_eq!(client.reply().unwrap(), Reply::Array(vec![Reply::Int(1), Reply::Simple("x".into())]));
        assert!(client.expect(1).unwrap_err().to_string().contains("ERR no"));
    }

    #[test]
    fn garbage_and_absurd_lengths_are_errors() {
        assert!(server_that_says(b"hello\r\n").reply().is_err());
        assert!(server_that_says(b"$99999999999999\r\n").reply().is_err());
        assert!(server_that_says(b"$5\r\nab").reply().is_err());
    }

    #[test]
    fn keys_of_each_database_are_read_from_info() {
        let info = Info("# Keyspace\r\ndb0:keys=12,expires=0,avg_ttl=0\r\ndb3:keys=4,expires=1\r\n".into());
        assert_eq!(info.keyspace(), [("db0".to_owned(), 12), ("db3".to_owned(), 4)]);
    }
}
