//! A follower: applies the log, as a replica does.

use crate::client::Client;
use crate::state::State;
use sluice_engine::internals::{
    Outcome, Request,
    resp::{Parsed, parse},
};
use sluice_engine::{Engine, LogReader};

pub(crate) struct Replay {
    client: Client,
}

impl Clone for Replay {
    fn clone(&self) -> Replay {
        Replay::new(self.client.engine().clone())
    }
}

impl Replay {
    pub(crate) fn new(engine: Engine) -> Replay {
        engine.set_replica(true);
        let mut client = Client::alone(&engine);
        client.session.from_primary = true;
        Replay { client }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.client.engine()
    }

    /// The stream goes on in this database.
    pub(crate) fn select(&mut self, db: u32) {
        self.client.select(db);
    }

    pub(crate) fn state(&mut self) -> State {
        // Reading moves the session between databases; the stream's selection must not notice.
        let mut reader = Client::alone(self.client.engine());
        reader.session.from_primary = true;
        State::of(&mut reader)
    }

    /// Applies the log from the reader's position to `end`, which must be the end of a command.
    pub(crate) fn read_to(&mut self, log: &mut LogReader, end: u64) {
        let mut bytes = Vec::new();
        while log.offset() < end {
            let part = log.read((end - log.offset()) as usize).expect("it goes on");
            assert!(!part.is_empty(), "the log ends at {} before {end}", log.offset());
            bytes.extend_from_slice(&part);
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Parsed::Command { args, used, canonical: true } = parse(rest, 1 << 29, true) else {
                panic!("offset {end} is inside of a command: {:?}", String::from_utf8_lossy(rest));
            };
            let mut out = Vec::new();
            let row = self.engine().lookup(args[0]).expect("the log holds known commands");
            let request = Request { args: &args, raw: Some(&rest[..used]) };
            let engine = self.client.engine().clone();
            let outcome = engine.call(&mut self.client.session, row, request, &mut out);
            let shown = || String::from_utf8_lossy(&rest[..used.min(300)]).into_owned();
            assert_eq!(outcome, Outcome::Done, "{:?} for {:?}", String::from_utf8_lossy(&out), shown());
            rest = &rest[used..];
        }
    }
}
