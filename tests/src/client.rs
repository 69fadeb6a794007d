//! A small client: requests as RESP arrays, replies of RESP2 and RESP3.

use crate::wait::LIMIT;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A reply, or a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`
    Status(String),
    /// `-`
    Error(String),
    /// `:`
    Int(i64),
    /// `$` and `=`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`
    Nil,
    /// `*`
    Array(Vec<Reply>),
    /// `%`, flat
    Map(Vec<Reply>),
    /// `~`
    Set(Vec<Reply>),
    /// `>`
    Push(Vec<Reply>),
    /// `,`, as it was sent
    Double(String),
    /// `#`
    Bool(bool),
}

impl Reply {
    /// The text of a status, a bulk string or an error.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) | Reply::Error(text) | Reply::Double(text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Int(n) => n.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The bytes of a bulk string.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Reply::Bulk(bytes) => bytes,
            other => panic!("no bulk string: {other:?}"),
        }
    }

    /// The number of an integer reply.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Reply::Int(n) => *n,
            other => panic!("no integer: {other:?}"),
        }
    }

    /// The items of an aggregate.
    #[track_caller]
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Map(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("no aggregate: {other:?}"),
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

impl From<&str> for Reply {
    /// What a bulk string of this text replies.
    fn from(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }
}

/// Words separated by spaces; `''` is an empty one.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(|w| if w == "''" { Vec::new() } else { w.into() }).collect()
}

/// A request as a RESP array.
pub fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend(format!("${}\r\n", arg.len()).bytes());
        bytes.extend_from_slice(arg);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A connection. Nothing is waited for longer than [`LIMIT`].
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Its port at this end.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn local_port(&self) -> u16 {
        self.stream.get_ref().local_addr().expect("a connection has two ends").port()
    }

    /// Wraps a connection that came in.
    pub fn accepted(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a socket takes a timeout");
        Client { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends and waits for the reply, which may fail where the server is gone.
    pub fn try_run<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        self.send(&request(args))?;
        self.reply()
    }

    /// Sends and waits for the reply, whatever it is.
    #[track_caller]
    pub fn run<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        let name = String::from_utf8_lossy(args[0].as_ref()).into_owned();
        self.try_run(args).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs a command given as words, whatever it replies.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Reply {
        self.run(&words(line))
    }

    /// Runs a command given as words, which must not fail.
    #[track_caller]
    pub fn say(&mut self, line: &str) -> Reply {
        let reply = self.ask(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
        reply
    }

    /// Sends many commands at once, then reads their replies, none of which may be an error.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(commands.len());
        for batch in commands.chunks(1000) {
            let bytes: Vec<u8> = batch.iter().flat_map(|args| request(args)).collect();
            self.send(&bytes).expect("the server reads");
            for args in batch {
                let reply = self.reply().expect("the server replies");
                assert!(!reply.is_error(), "{}: {reply:?}", args[0].as_ref().escape_ascii());
                replies.push(reply);
            }
        }
        replies
    }

    /// Reads one line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads exactly this many bytes.
    pub fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the other side closes (a reset counts).
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the other side does not close; it sent {:?}", bytes.escape_ascii().to_string())
            }
            _ => bytes,
        }
    }

    /// Tells the other side that nothing more comes.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.get_mut().shutdown(std::net::Shutdown::Write);
    }

    /// Reads one reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let line = self.line()?;
        if line.is_empty() {
            return Err(bad("an empty line"));
        }
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| bad(&line));
        Ok(match kind {
            "+" => Reply::Status(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Int(number()?),
            "_" => Reply::Nil,
            "," | "(" => Reply::Double(rest.into()),
            "#" => Reply::Bool(rest == "t"),
            "$" | "*" if rest == "-1" => Reply::Nil,
            "$" | "=" => {
                let mut bytes = self.exactly(number()? as usize + 2)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(if kind == "=" { bytes.split_off(4) } else { bytes })
            }
            "*" => Reply::Array(self.replies(number()?)?),
            "~" => Reply::Set(self.replies(number()?)?),
            ">" => Reply::Push(self.replies(number()?)?),
            "%" => Reply::Map(self.replies(2 * number()?)?),
            _ => return Err(bad(&line)),
        })
    }

    fn replies(&mut self, count: i64) -> io::Result<Vec<Reply>> {
        (0..count).map(|_| self.reply()).collect()
    }
}
