//! For the families' tests: commands as text in, replies and logged effects as text out.

use crate::engine::{Engine, Request};
use crate::log::LogReader;
use crate::resp::{Parsed, parse};
use crate::session::Session;
use crate::words;

/// An engine with a session and an active log.
pub(crate) struct Console {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    log: LogReader,
}

/// The time all tests begin at, in Unix milliseconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

impl Console {
    pub(crate) fn new() -> Console {
        let engine = Engine::default();
        engine.log().activate();
        let log = engine.log().reader(0).expect("a new log begins at 0");
        let mut session = engine.session();
        session.now_ms = START_MS;
        Console { engine, session, log }
    }

    /// Runs a command line (quotes as in redis-cli) and returns the reply, its line ends as spaces.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let args = words::split(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let row = self.engine.lookup(args[0]).expect("a known command");
        let mut out = Vec::new();
        let req = Request { args: &args, raw: None };
        self.engine.call(&mut self.session, row, req, &mut out);
        String::from_utf8_lossy(&out).trim_end().replace("\r\n", " ")
    }

    /// What was logged since the last call, a command a line.
    pub(crate) fn logged(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.log.read(usize::MAX).expect("nothing ends it");
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let mut lines = Vec::new();
        let mut rest = bytes.as_slice();
        while let Parsed::Command { args, used, .. } = parse(rest, usize::MAX, true) {
            let words: Vec<_> = args.iter().map(|a| String::from_utf8_lossy(a)).collect();
            lines.push(words.join(" "));
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "the log is whole commands");
        lines
    }

    /// Runs a command and returns what it logged; the reply must not be an error.
    pub(crate) fn effects(&mut self, line: &str) -> Vec<String> {
        self.logged();
        let reply = self.run(line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
        self.logged()
    }
}
